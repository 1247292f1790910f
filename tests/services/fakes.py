"""Stand-ins for associations and archives: what a peer would send and see, without sockets and disks."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import anyio

from fastarchive.archive import Outcome, Receipt
from fastarchive.store.record import Location
from fastarchive.store.writers import LogStatus
from fastarchive.upperlayer import (
    AssociationAborted,
    Command,
    CommandField,
    DataSetTooLarge,
    PresentationContext,
    decode_command,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"


def presentation(abstract_syntax: str, transfer_syntax: str = EXPLICIT, number: int = 1) -> PresentationContext:
    return PresentationContext(number, abstract_syntax, transfer_syntax, as_scu=False, as_scp=True)


class FakeMessage:
    """A message that has arrived whole, in the given pieces."""

    def __init__(self, context: PresentationContext, command: Command, pieces: Sequence[bytes] = ()) -> None:
        self.context = context
        self.command = command
        self.left = deque(pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        while self.left:
            yield self.left.popleft()

    async def data_set(self, limit: int) -> bytes:
        data = b"".join(self.left)
        self.left.clear()
        if len(data) > limit:
            raise DataSetTooLarge
        return data


@dataclass
class FakeAssociation:
    """Keeps what is sent. `incoming` are the messages receive() gives; None among them is a release."""

    contexts: dict[int, PresentationContext] = field(default_factory=dict)
    incoming: deque[FakeMessage | None] = field(default_factory=deque)
    calling_ae: str = "CT1"
    called_ae: str = "FASTARCHIVE"
    peer: tuple[str, int] = ("127.0.0.1", 50000)
    stalls: bool = False
    extended_negotiation: dict[str, bytes] = field(default_factory=dict)
    sent: list[tuple[int, Command, bytes | None]] = field(default_factory=list)
    cancels: set[int] = field(default_factory=set)
    aborted: tuple[int, int] | None = None
    writes: int = 0
    on_send: Callable[[FakeAssociation, int, Command, bytes | None], None] | None = None

    async def receive(self, idle_limit: float | None = None) -> FakeMessage | None:
        if self.stalls and not self.incoming:
            await anyio.sleep_forever()
        if self.aborted is not None or not self.incoming:
            raise AssociationAborted("over")
        return self.incoming.popleft()

    def cancelled(self, message_id: int) -> bool:
        return message_id in self.cancels

    async def send(
        self,
        context_id: int,
        command: Command,
        data_set: bytes | Iterable[bytes] | AsyncIterable[bytes] | None = None,
    ) -> None:
        if self.aborted is not None:
            raise AssociationAborted("over")
        assert command.has_data_set is (data_set is not None)
        if isinstance(data_set, AsyncIterable):
            data_set = b"".join([piece async for piece in data_set])
        elif data_set is not None and not isinstance(data_set, bytes):
            data_set = b"".join(data_set)
        self.writes += 1
        self._keep(context_id, command, data_set)

    async def send_encoded(
        self, context_id: int, command: bytes, data_set: bytes | Iterable[bytes] | AsyncIterable[bytes] | None
    ) -> None:
        await self.send(context_id, decode_command(command), data_set)

    longest_fragment: int = 16_378
    given: int = 0
    taken: int = 0

    async def send_framed(self, messages: bytes) -> None:
        """As the peer takes it apart."""
        pieces: dict[bool, bytes] = {True: b"", False: b""}
        pairs: list[tuple[bytes, bytes | None]] = []
        context_id = position = 0
        while position < len(messages):
            size, context_id, control = struct.unpack_from(">6xLBB", messages, position)
            assert size - 2 <= self.longest_fragment
            pieces[bool(control & 1)] += messages[position + 12 : position + 10 + size]
            position += 10 + size
            whole = control == 2 or (control == 3 and not decode_command(pieces[True]).has_data_set)
            if whole:
                pairs.append((pieces[True], None if control == 3 else pieces[False]))
                pieces = {True: b"", False: b""}
        assert position == len(messages)
        await self.send_many(context_id, pairs)

    def expect(self, response: bytes) -> None:
        """Every response is read as usual."""

    def heard(self) -> bytes:
        return b""

    async def exchange(
        self, message: Sequence[bytes], answered: Callable[[Command], Sequence[bytes] | None], limit: float
    ) -> None:
        following: Sequence[bytes] | None = message
        while following is not None:
            await self.send_framed(b"".join(following))
            response = await self.receive(limit)
            if response is None:
                raise AssociationAborted("released in place of a response")
            following = answered(response.command)

    async def send_many(self, context_id: int, messages: Sequence[tuple[bytes, bytes | None]]) -> None:
        if self.aborted is not None:
            raise AssociationAborted("over")
        self.writes += 1
        for command, data_set in messages:
            self._keep(context_id, decode_command(command), data_set)

    def _keep(self, context_id: int, command: Command, data_set: bytes | None) -> None:
        self.sent.append((context_id, command, data_set))
        if self.on_send is not None:
            self.on_send(self, context_id, command, data_set)

    async def abort(self, source: int = 0, reason: int = 0) -> None:
        self.aborted = (source, reason)

    @property
    def statuses(self) -> list[int | None]:
        return [command.status for _, command, _ in self.sent if command.is_response]


class FakeIntake:
    """Keeps the bytes; fails where it is told to."""

    def __init__(self, *, drain_error: Exception | None = None, **identity: str) -> None:
        self.identity = identity
        self.data = bytearray()
        self.drained = 0
        self.most_pending = 0
        self.closed = 0
        self.drain_error = drain_error

    @property
    def length(self) -> int:
        return len(self.data)

    @property
    def transfer_syntax(self) -> str:
        return self.identity["transfer_syntax"]

    @property
    def pending(self) -> int:
        return len(self.data) - self.drained

    @property
    def held(self) -> int:
        return self.pending

    @property
    def spooled(self) -> bool:
        return False

    def write(self, chunk: bytes) -> None:
        assert not self.closed
        self.data += chunk
        self.most_pending = max(self.most_pending, self.pending)

    def drain(self) -> None:
        if self.drain_error is not None:
            raise self.drain_error
        self.drained = len(self.data)

    def close(self) -> None:
        self.closed += 1


class FakeArchive:
    """Takes instances in and answers with `outcome`, or fails with `error` (in submit) or `late_error` (in the log).

    `pending` is the answer of a disk that takes its time, `stalled` the seconds it has been silent. `promptly` says
    whether it can do without a thread what is small; `prompt` and `threaded` count what was done which way.
    """

    promptly = True

    def __init__(
        self,
        outcome: Outcome = Outcome.STORED,
        *,
        error: Exception | None = None,
        late_error: Exception | None = None,
        drain_error: Exception | None = None,
        pending: Future[Receipt] | None = None,
        stalled: float = 0.0,
    ) -> None:
        self.pending = pending
        self.stalled = stalled
        self.outcome = outcome
        self.error = error
        self.late_error = late_error
        self.drain_error = drain_error
        self.intakes: list[FakeIntake] = []
        self.prompt = self.threaded = 0

    def log_status(self) -> LogStatus:
        return LogStatus(None, 0, 0, 0, 0, 0, self.stalled)

    def receive(self, **identity: str) -> FakeIntake:
        intake = FakeIntake(drain_error=self.drain_error, **identity)
        self.intakes.append(intake)
        return intake

    def submit(self, intake: FakeIntake) -> Future[Receipt]:
        self.threaded += 1
        return self._submit()

    def submit_promptly(self, intake: FakeIntake) -> Future[Receipt] | None:
        if not self.promptly:
            return None
        self.prompt += 1
        return self._submit()

    def _submit(self) -> Future[Receipt]:
        if self.error is not None:
            raise self.error
        if self.pending is not None:
            return self.pending
        future: Future[Receipt] = Future()
        if self.late_error is not None:
            future.set_exception(self.late_error)
        else:
            timings = {"digest": 0.001, "compress": 0.002, "sync": 0.003}
            future.set_result(Receipt(self.outcome, "1.2.3", Location(1, 2, 3), timings))
        return future


def store_request(pieces: Sequence[bytes] = (b"data", b"set"), **more: Any) -> FakeMessage:
    values: dict[str, Any] = {
        "message_id": 5,
        "affected_sop_class": CT,
        "affected_sop_instance": "1.2.3",
        "has_data_set": True,
        "priority": 0,
        **more,
    }
    return FakeMessage(presentation(CT), Command(field=CommandField.C_STORE_RQ, **values), pieces)
