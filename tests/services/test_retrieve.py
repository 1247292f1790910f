"""C-MOVE and C-GET against stand-ins: counters, statuses, cancels, destinations that fail in every way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from fastarchive.dicom.elements import walk
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE
from fastarchive.metrics import Metrics, exposition
from fastarchive.query.identifier import IdentifierError
from fastarchive.services import retrieve
from fastarchive.services.context import Limits, Peer, open_context
from fastarchive.services.suboperations import Instance
from fastarchive.store.blobs import DamagedInstance
from fastarchive.store.record import Location
from fastarchive.upperlayer import (
    AssociationAborted,
    AssociationRejected,
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
        self.opened = 0
        self.latest_damage = False

    def open(self, location: Location) -> Any:
        blobs = self
        instance = self.instances[location]
        self.opened += 1

        class Reader:
            def chunks(self) -> Iterator[bytes]:
                uid = instance.sop_instance.encode()
                yield uid[:2]
                yield uid[2:4]
                if instance.sop_instance == DAMAGED or (instance.sop_instance == LATE and blobs.opened > 2):
                    raise DamagedInstance(instance.location, "checksum")
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
    """A peer that answers each C-STORE with the status `code` gives; None: it hangs up."""

    def answer(association: FakeAssociation, context_id: int, command: Command, _: bytes | None) -> None:
        if command.field is not CommandField.C_STORE_RQ:
            return
        status = code(command)
        if status is None:
            association.aborted = (0, 0)
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
    ) -> None:
        self.code = code
        self.accepts = accepts
        self.failures = list(failures)
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
        association = FakeAssociation(contexts=contexts, on_send=answering(self.code))
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


def test_R1_an_unknown_destination_gets_A801_and_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = Destination()
    for name in ("NOBODY", "", "workstation"):
        request = Command(
            field=CommandField.C_MOVE_RQ,
            message_id=1,
            affected_sop_class=STUDY_MOVE,
            has_data_set=True,
            move_destination=name,
        )
        ((_, response, identifier),) = run(monkeypatch, request, study(2), destination=destination).sent
        assert (response.status, identifier) == (0xA801, None)
    assert destination.arguments == []


def test_R2_an_identifier_that_names_nothing_gets_A900(monkeypatch: pytest.MonkeyPatch) -> None:
    error = IdentifierError("StudyInstanceUID is required", 0x0020000D)
    for request in (MOVE, GET):
        association = run(monkeypatch, request, error, destination=Destination())
        ((_, response, _),) = association.sent
        assert (response.status, response.offending_elements) == (0xA900, (0x0020000D,))


def test_R3_no_match_is_success_with_zero_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = Destination()
    for request in (MOVE, GET):
        association = run(monkeypatch, request, [], association=getting(), destination=destination)
        (response,) = responses(association)
        assert response.status == 0x0000
        assert counts(response) == (None, 0, 0, 0)
    assert destination.arguments == []


def test_a_search_that_breaks_gets_A701(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    association = run(monkeypatch, MOVE, RuntimeError("SMITH^JOHN"), destination=Destination())
    assert association.statuses == [0xA701]
    assert "SMITH" not in caplog.text


def test_R7_sub_operations_name_who_asked_for_the_move(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = Destination()
    association = run(monkeypatch, MOVE, study(3), destination=destination)
    assert association.statuses[-1] == 0x0000
    assert [(c.affected_sop_instance, data) for c, data in destination.received] == [
        (f"1.2.3.{number}", b"1.2.3.%d" % number) for number in (1, 2, 3)
    ]
    for command, _ in destination.received:
        assert (command.move_originator, command.move_originator_message_id) == ("VIEWER", 21)
    assert len({command.message_id for command, _ in destination.received}) == 3
    (arguments,) = destination.arguments
    assert (arguments["host"], arguments["port"]) == ("127.0.0.1", 104)
    assert (arguments["calling_ae"], arguments["called_ae"]) == ("FASTARCHIVE", "WORKSTATION")


def test_R4_pending_and_final_counters_of_a_get(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    association = run(monkeypatch, GET, study(3), association=getting(), metrics=metrics)
    *pending, final = responses(association)
    assert [counts(response) for response in pending] == [(2, 1, 0, 0), (1, 2, 0, 0)]
    assert all(response.status == 0xFF00 and not response.has_data_set for response in pending)
    assert (final.status, counts(final)) == (0x0000, (None, 3, 0, 0))
    stores = [command for _, command, _ in association.sent if command.field is CommandField.C_STORE_RQ]
    assert all(command.move_originator == "" for command in stores)
    text = exposition(metrics).decode()
    assert 'fastarchive_retrieve_suboperations_total{outcome="completed",service="C-GET"} 3.0' in text
    assert 'fastarchive_retrieve_sent_bytes_total{service="C-GET"} 21.0' in text


def test_R5_R6_some_failures_are_B000_with_the_failed_list(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = {"1.2.3.1": 0x0000, "1.2.3.2": 0xA700, "1.2.3.3": 0xB007, "1.2.3.4": 0x0122}
    peer = getting(answering(lambda command: codes[command.affected_sop_instance]))
    association = run(monkeypatch, GET, study(4), association=peer)
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xB000, (None, 1, 2, 1))
    assert failed_uids(association) == ["1.2.3.2", "1.2.3.4"]


def test_R5_a_warning_without_failures_has_no_failed_list(monkeypatch: pytest.MonkeyPatch) -> None:
    association = run(monkeypatch, GET, study(2), association=getting(answering(lambda command: 0xB000)))
    final = responses(association)[-1]
    assert (final.status, counts(final), final.has_data_set) == (0xB000, (None, 0, 0, 2), False)


def test_R6_everything_failed_is_A702(monkeypatch: pytest.MonkeyPatch) -> None:
    association = run(monkeypatch, MOVE, study(2), destination=Destination(lambda command: 0xA700))
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xA702, (None, 0, 2, 0))
    assert failed_uids(association) == ["1.2.3.1", "1.2.3.2"]


@pytest.mark.parametrize(
    ("failure", "comment"),
    [
        (ConnectionRefusedError(), "not reachable"),
        (TimeoutError(), "not reachable"),
        (AssociationRejected(1, 1, 7), "refused the association (1/1/7)"),
        (AssociationAborted("hung up"), "lost"),
    ],
)
def test_R6_an_unreachable_destination_is_A702(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, comment: str
) -> None:
    destination = Destination(failures=[failure] * 10)
    association = run(monkeypatch, MOVE, study(3), destination=destination)
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xA702, (None, 0, 3, 0))
    assert comment in final.error_comment
    assert failed_uids(association) == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]
    assert len(destination.arguments) == 1


def test_a_destination_that_hangs_up_costs_one_instance_and_is_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = Destination(lambda command: None if command.affected_sop_instance == "1.2.3.2" else 0)
    association = run(monkeypatch, MOVE, study(4), destination=destination)
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xB000, (None, 3, 1, 0))
    assert failed_uids(association) == ["1.2.3.2"]
    assert len(destination.associations) == 2


def test_a_destination_that_always_hangs_up_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = Destination(lambda command: None)
    association = run(monkeypatch, MOVE, study(50), destination=destination)
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xA702, (None, 0, 50, 0))
    assert len(destination.associations) == 1


def test_R8_what_the_destination_does_not_take_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    instances = [instance("1.2.3.1"), instance("1.2.3.2", CT, JPEG), instance("1.2.3.3", MR)]
    destination = Destination(accepts=lambda context: context.transfer_syntaxes[0] == EXPLICIT)
    association = run(monkeypatch, MOVE, instances, destination=destination)
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xB000, (None, 2, 1, 0))
    assert failed_uids(association) == ["1.2.3.2"]
    assert destination.associations[0].contexts


def test_R8_many_sop_classes_take_several_associations(monkeypatch: pytest.MonkeyPatch) -> None:
    instances = [instance(f"1.2.3.{n}", f"1.2.840.10008.5.1.4.1.1.{n}", JPEG) for n in range(300)]
    destination = Destination()
    association = run(monkeypatch, MOVE, instances, destination=destination)
    assert responses(association)[-1].status == 0x0000
    assert [len(a.contexts) for a in destination.associations] == [128, 128, 44]
    assert len(destination.received) == 300


def test_a_damaged_instance_fails_and_the_others_are_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    instances = [instance("1.2.3.1"), instance(DAMAGED), instance("1.2.3.2")]
    metrics = Metrics()
    association = run(monkeypatch, GET, instances, association=getting(), metrics=metrics)
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xB000, (None, 2, 1, 0))
    assert failed_uids(association) == [DAMAGED]
    assert "fastarchive_damaged_instances_total 1.0" in exposition(metrics).decode()
    assert DAMAGED in caplog.text


def test_a_large_damaged_instance_is_found_out_before_its_first_byte_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    instances = [instance("1.2.3.1", length=100), instance(DAMAGED, length=100), instance("1.2.3.2", length=100)]
    association = run(
        monkeypatch, GET, instances, association=getting(), limits=Limits(read_ahead=50, pending_interval=0.0)
    )
    assert responses(association)[-1].status == 0xB000
    assert failed_uids(association) == [DAMAGED]
    stores = {c.affected_sop_instance: data for _, c, data in association.sent if c.field is CommandField.C_STORE_RQ}
    assert stores == {"1.2.3.1": b"1.2.3.1", "1.2.3.2": b"1.2.3.2"}


def test_damage_that_shows_half_way_ends_the_association_rather_than_send_wrong_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer = getting()
    with pytest.raises(AssociationAborted):
        run(
            monkeypatch,
            GET,
            [instance("1.2.3.1"), instance(LATE, length=100)],
            association=peer,
            limits=Limits(read_ahead=50),
        )
    assert peer.aborted is not None
    assert all(c.affected_sop_instance != LATE for _, c, _ in peer.sent)


def test_R10_a_cancel_ends_with_FE00_and_remaining(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer_and_cancel(association: FakeAssociation, number: int, command: Command, data: bytes | None) -> None:
        ACCEPTS(association, number, command, data)
        if command.affected_sop_instance == "1.2.3.3":
            association.cancels.add(21)

    association = run(monkeypatch, GET, study(10), association=getting(answer_and_cancel))
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xFE00, (7, 3, 0, 0))
    assert not final.has_data_set


@pytest.mark.parametrize("request_", [MOVE, GET])
def test_R10_a_cancel_that_comes_at_once(monkeypatch: pytest.MonkeyPatch, request_: Command) -> None:
    peer = getting()
    peer.cancels.add(21)
    destination = Destination()
    association = run(monkeypatch, request_, study(10), association=peer, destination=destination)
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xFE00, (10, 0, 0, 0))
    assert destination.received == []


def test_R10_a_cancel_in_the_middle_of_a_move(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = FakeAssociation(calling_ae="VIEWER")

    def cancel_at_five(command: Command) -> int:
        if command.affected_sop_instance == "1.2.3.5":
            peer.cancels.add(21)
        return 0

    association = run(monkeypatch, MOVE, study(10), association=peer, destination=Destination(cancel_at_five))
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xFE00, (5, 5, 0, 0))


def test_R11_without_role_selection_every_sub_operation_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    association = run(monkeypatch, GET, study(2), association=getting(roles=False))
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xA702, (None, 0, 2, 0))
    assert failed_uids(association) == ["1.2.3.1", "1.2.3.2"]
    assert [command.field for _, command, _ in association.sent if not command.is_response] == []


def test_R11_something_else_in_place_of_a_response_ends_the_association(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask_again(association: FakeAssociation, number: int, command: Command, data: bytes | None) -> None:
        association.incoming.append(FakeMessage(presentation(STUDY_GET), GET, [b"x"]))

    peer = getting(ask_again)
    with pytest.raises(AssociationAborted):
        run(monkeypatch, GET, study(2), association=peer)
    assert peer.aborted == (2, 2)


def test_a_move_stops_when_the_association_it_came_on_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = FakeAssociation(calling_ae="VIEWER")

    def hang_up(command: Command) -> int:
        peer.aborted = (0, 0)
        return 0

    destination = Destination(hang_up)
    with pytest.raises(AssociationAborted):
        run(monkeypatch, MOVE, study(2000), association=peer, destination=destination)
    assert len(destination.received) < 2000
