"""C-MOVE and C-GET against stand-ins: instances, peers and destinations that do what a test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from fastarchive.dicom.elements import walk
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE
from fastarchive.metrics import Metrics
from fastarchive.services import retrieve
from fastarchive.services.context import Limits, Peer, open_context
from fastarchive.services.suboperations import Instance
from fastarchive.store.blobs import DamagedInstance
from fastarchive.store.record import Location
from fastarchive.upperlayer import (
    Command,
    CommandField,
    PresentationContext,
    ProposedContext,
)
from tests.services.fakes import (
    CT,
    EXPLICIT,
    STUDY_GET,
    STUDY_MOVE,
    FakeAssociation,
    FakeMessage,
    presentation,
)

MR = "1.2.840.10008.5.1.4.1.1.4"
JPEG = "1.2.840.10008.1.2.4.50"
NEVER = -1
DAMAGED, LATE = "1.2.3.666", "1.2.3.667"

MOVE = Command(
    field=CommandField.C_MOVE_RQ,
    message_id=21,
    affected_sop_class=STUDY_MOVE,
    has_data_set=True,
    move_destination="WORKSTATION",
)
GET = Command(field=CommandField.C_GET_RQ, message_id=21, affected_sop_class=STUDY_GET, has_data_set=True)


class FakeBlobs:
    """Every instance is its UID, in three chunks; some are damaged."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        self.instances = {instance.location: instance for instance in instances}
        self.readers = 0
        self.latest_damage = False

    def opened(self, pack: int) -> None:
        return None

    def read_at_once(self, location: Location) -> None:
        return None  # a thread reads it

    def open(self, location: Location, *, instance: str) -> Any:
        blobs = self
        stored = self.instances[location]
        self.readers += 1

        class Reader:
            record = stored

            def pieces(self) -> list[bytes]:
                return list(self.chunks())

            def verify(self) -> None:
                self.pieces()

            def chunks(self) -> Iterator[bytes]:
                uid = stored.sop_instance.encode()
                yield uid[:2]
                yield uid[2:4]
                if instance == DAMAGED or (instance == LATE and blobs.readers > 2):
                    raise DamagedInstance(stored.location, "checksum")
                yield uid[4:]

        return Reader()


class FakeArchive:
    def __init__(self, instances: Sequence[Instance]) -> None:
        self.blobs = FakeBlobs(instances)


def study(size: int, sop_class: str = CT, transfer_syntax: str = EXPLICIT) -> list[Instance]:
    return [instance(f"1.2.3.{number}", sop_class, transfer_syntax) for number in range(1, size + 1)]


def instance(uid: str, sop_class: str = CT, transfer_syntax: str = EXPLICIT, length: int = 10) -> Instance:
    return Instance(sop_class, uid, transfer_syntax, length, Location(1, hash(uid) & 0xFFFF, 10))


def answering(code: Callable[[Command], int | None]) -> Callable[[FakeAssociation, int, Command, bytes | None], None]:
    """A peer that answers each C-STORE with the status `code` gives; None: it hangs up, NEVER: it does not answer."""

    def answer(association: FakeAssociation, context_id: int, command: Command, _: bytes | None) -> None:
        if command.field is not CommandField.C_STORE_RQ:
            return
        status = code(command)
        if status is None:
            association.aborted = (0, 0)
        if status in {None, NEVER}:
            return
        response = Command(
            field=CommandField.C_STORE_RSP,
            responding_to=command.message_id,
            affected_sop_class=command.affected_sop_class,
            status=status,
        )
        association.incoming.append(FakeMessage(association.contexts[context_id], response))

    return answer


ACCEPTS = answering(lambda command: 0)


class Destination:
    """Stands in for connect(): accepts the contexts `accepts` says, answers as `code` says."""

    def __init__(
        self,
        code: Callable[[Command], int | None] = lambda command: 0,
        accepts: Callable[[ProposedContext], bool] = lambda context: True,
        failures: Sequence[Exception | None] = (),
        *,
        stalls: bool = False,
    ) -> None:
        self.code = code
        self.accepts = accepts
        self.failures = list(failures)
        self.stalls = stalls
        self.associations: list[FakeAssociation] = []
        self.arguments: list[dict[str, Any]] = []

    @asynccontextmanager
    async def connect(self, host: str, port: int, **arguments: Any) -> AsyncIterator[FakeAssociation]:
        self.arguments.append({"host": host, "port": port, **arguments})
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        contexts = {
            2 * index + 1: PresentationContext(
                2 * index + 1, context.abstract_syntax, context.transfer_syntaxes[0], as_scu=True, as_scp=False
            )
            for index, context in enumerate(arguments["contexts"])
            if self.accepts(context)
        }
        association = FakeAssociation(contexts=contexts, on_send=answering(self.code), stalls=self.stalls)
        self.associations.append(association)
        yield association

    @property
    def received(self) -> list[tuple[Command, bytes | None]]:
        return [(command, data) for association in self.associations for _, command, data in association.sent]


def run(
    monkeypatch: pytest.MonkeyPatch,
    request: Command,
    instances: Sequence[Instance] | Exception,
    *,
    association: FakeAssociation | None = None,
    destination: Destination | None = None,
    metrics: Metrics | None = None,
    limits: Limits | None = None,
) -> FakeAssociation:
    found = [] if isinstance(instances, Exception) else list(instances)

    def list_instances(archive: object, wanted: object) -> list[Instance]:
        if isinstance(instances, Exception):
            raise instances
        return found

    monkeypatch.setattr(retrieve, "_list_instances", list_instances)
    monkeypatch.setattr(retrieve, "parse_retrieve", lambda *_: None)
    if destination is not None:
        monkeypatch.setattr(retrieve, "connect", destination.connect)
    fake = association or FakeAssociation(calling_ae="VIEWER")
    peer: Any = fake
    archive: Any = FakeArchive(found)
    message: Any = FakeMessage(presentation(request.affected_sop_class), request, [b"identifier"])
    handle = retrieve.handle_move if request.field is CommandField.C_MOVE_RQ else retrieve.handle_get

    async def main() -> None:
        with open_context(
            archive,
            peers={"WORKSTATION": Peer("127.0.0.1", 104)},
            metrics=metrics,
            limits=limits or Limits(pending_interval=0.0),
        ) as context:
            await handle(peer, message, context)

    anyio.run(main)
    return fake


def getting(on_send: Any = ACCEPTS, roles: bool = True, syntaxes: Sequence[str] = (EXPLICIT,)) -> FakeAssociation:
    """An association on which a C-GET may be asked for CT instances."""
    contexts = {1: presentation(STUDY_GET)} | {
        number: PresentationContext(number, CT, syntax, as_scu=roles, as_scp=True)
        for number, syntax in enumerate(syntaxes, start=3)
    }
    return FakeAssociation(contexts=contexts, calling_ae="VIEWER", on_send=on_send)


def responses(association: FakeAssociation) -> list[Command]:
    return [command for _, command, _ in association.sent if command.is_response]


def counts(response: Command) -> tuple[int | None, int | None, int | None, int | None]:
    return response.remaining, response.completed, response.failed, response.warning


def failed_uids(association: FakeAssociation) -> list[str]:
    _, _, identifier = association.sent[-1]
    if identifier is None:
        return []
    (element,) = walk(identifier, EXPLICIT_LITTLE)
    assert element.tag == 0x00080058
    return element.value.rstrip(b"\0").decode().split("\\")
