"""Sending stored instances as C-STORE sub-operations, the next ones being read while some are on the wire."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, NamedTuple

from fastarchive.archive import Archive
from fastarchive.dicom.layout import Buffer
from fastarchive.services.context import ServiceContext
from fastarchive.services.conversion import ConversionError, convert
from fastarchive.services.faults import log_unexpected
from fastarchive.services.suboperations import Instance, Outcome, choose_context, why_declined
from fastarchive.services.threads import Threads
from fastarchive.store.blobs import DamagedInstance, Reader
from fastarchive.upperlayer import Association, AssociationAborted, CommandField, PresentationContext, StoreRequests

__all__ = ["Originator", "Sender", "even"]

_log: Final = logging.getLogger(__name__)

_MEDIUM_PRIORITY: Final = 0x0000
_UNEXPECTED_PDU: Final = (2, 2)
_PIECES_AT_A_TIME: Final = 2
"""Chunks of a large instance that one visit to a worker thread brings."""
_MOST_AT_A_TIME: Final = 64
_BYTES_AT_A_TIME: Final = 4 << 20
"""Instances, and bytes of them, that one visit to a worker thread brings."""


class Originator(NamedTuple):
    """Who asked for a C-MOVE: what its sub-operations say they are for (R7)."""

    ae_title: str
    message_id: int


class _Ready(NamedTuple):
    """An instance that can be sent: where, and all of its bytes unless it is a large one."""

    presentation: PresentationContext
    whole: list[memoryview] | None


class Sender:
    """Sends instances over one association; whichever way a single one fails, the others are sent.

    `carrier` is the association to the destination of a C-MOVE, or the very association of a C-GET.
    `service` is "C-MOVE" or "C-GET".
    """

    def __init__(
        self, carrier: Association, context: ServiceContext, service: str, originator: Originator | None = None
    ) -> None:
        self._carrier = carrier
        self._context = context
        self._originator = originator
        self._contexts = tuple(carrier.contexts.values())
        self._declined: set[tuple[str, str]] = set()
        self._message_id = 0
        self._service = service
        self._requests: dict[str, StoreRequests] = {}
        self.responses = 0
        """Answers the other side gave: as long as it is 0 there is no sign that it works at all."""

    async def send(self, instances: Sequence[Instance]) -> AsyncGenerator[tuple[Instance, Outcome], None]:
        """Send `instances` one after another and tell how each of them went, as it is done.

        Whoever iterates may stop at any time. Raises AssociationError when the association is over; the instance after
        the last one told of was under way then.
        """
        batches = _batches(instances)
        coming = self._prepare(next(batches, ()))
        try:
            for following in chain(batches, ((),)):
                batch = await coming
                coming = self._prepare(following)
                while batch:
                    instance, ready = batch.popleft()
                    yield instance, Outcome.FAILED if ready is None else await self._store(instance, ready)
        finally:
            coming.cancel()

    def _prepare(self, batch: Sequence[Instance]) -> asyncio.Future[deque[tuple[Instance, _Ready | None]]]:
        if not batch:
            nothing: asyncio.Future[deque[tuple[Instance, _Ready | None]]] = asyncio.get_running_loop().create_future()
            nothing.set_result(deque())
            return nothing
        return self._context.retrieves.start(lambda: deque((instance, self._read(instance)) for instance in batch))

    def _read(self, instance: Instance) -> _Ready | None:
        """In a worker thread: choose the context and read the instance; None if it can't be sent.

        A large one is verified first, so that damage shows before its first byte is sent, and then read to send it.
        """
        presentation = choose_context(self._contexts, instance)
        if presentation is None:
            self._note_declined(instance)
            return None
        try:
            reader = _open(self._context.archive, instance)
            as_stored = presentation.transfer_syntax == instance.transfer_syntax
            if instance.length > self._context.limits.read_ahead:
                reader.verify()
                if not as_stored:
                    for _ in convert(reader.chunks(), instance.transfer_syntax, presentation.transfer_syntax):
                        pass  # does it convert to its end?
                return _Ready(presentation, None)
            if not as_stored:
                converted = convert(reader.pieces(), instance.transfer_syntax, presentation.transfer_syntax)
                return _Ready(presentation, _views(converted))
            return _Ready(presentation, _views(reader.pieces()))
        except Exception as error:  # this instance fails, the others are sent
            _note(self._context, instance, error)
            return None

    def _note_declined(self, instance: Instance) -> None:
        """Log once for each SOP class and transfer syntax that the other side doesn't take."""
        kind = (instance.sop_class, instance.transfer_syntax)
        if kind not in self._declined:
            self._declined.add(kind)
            _log.warning("not sent: %s", why_declined(self._contexts, instance))

    async def _store(self, instance: Instance, ready: _Ready) -> Outcome:
        """One C-STORE request and its response."""
        carrier = self._carrier
        self._message_id = self._message_id % 0xFFFF + 1
        requests = self._requests.get(instance.sop_class)
        if requests is None:
            originator = self._originator
            requests = self._requests[instance.sop_class] = StoreRequests(
                instance.sop_class,
                priority=_MEDIUM_PRIORITY,
                move_originator=originator.ae_title if originator else "",
                move_originator_message_id=originator.message_id if originator else None,
            )
        request = requests.encode(self._message_id, instance.sop_instance)
        if ready.whole is not None:
            await carrier.send_encoded(ready.presentation.id, request, ready.whole)
            size = sum(map(len, ready.whole))
        else:
            pieces = _Pieces(self._context, instance, ready.presentation.transfer_syntax)
            try:
                await carrier.send_encoded(ready.presentation.id, request, pieces.read())
            except (DamagedInstance, ConversionError, OSError) as error:
                # Half a data set can't be taken back: without an end to it the association is of no more use.
                _note(self._context, instance, error)
                await carrier.abort()
                raise AssociationAborted("a data set could not be sent to its end") from error
            size = pieces.size
        self._context.metrics.count_sent(self._service, size)
        response = await carrier.receive(self._context.limits.response_seconds)
        if response is None:
            raise AssociationAborted("released in place of a response")
        command = response.command
        if command.field is not CommandField.C_STORE_RSP or command.responding_to != self._message_id:
            await carrier.abort(*_UNEXPECTED_PDU)
            raise AssociationAborted("something else in place of a response")
        self.responses += 1
        outcome = Outcome.of(command.status)
        if outcome is Outcome.FAILED:
            _log.warning("sub-operation refused by its destination: status %04XH", command.status or 0)
        return outcome


def _open(archive: Archive, instance: Instance) -> Reader:
    reader = archive.blobs.open(instance.location, instance=instance.sop_instance)
    if reader.record.transfer_syntax != instance.transfer_syntax or reader.record.length != instance.length:
        raise DamagedInstance(instance.location, "it was deleted and stored anew meanwhile")
    return reader


def _views(pieces: Iterable[Buffer]) -> list[memoryview]:
    return [memoryview(piece) for piece in even(pieces)]


def even(pieces: Iterable[Buffer]) -> Iterator[Buffer]:
    """The same bytes in pieces of even length, as fragments of a data set have to be (PS3.8 E.2), none of them empty.

    If they are odd in all a NUL follows: a deflated file may lack it (PS3.5 A.5).
    """
    odd = b""
    for piece in pieces:
        whole = odd + bytes(piece) if odd else piece
        length = len(whole) // 2 * 2
        odd = bytes(whole[length:])
        if length:
            yield memoryview(whole)[:length]
    if odd:
        yield odd + b"\0"


def _note(context: ServiceContext, instance: Instance, error: Exception) -> None:
    """Log and count why an instance could not be read; its UID is what an operator needs to find it."""
    if isinstance(error, DamagedInstance):
        context.metrics.damaged_instances.inc()
        _log.error("instance %s is damaged and was not sent", instance.sop_instance)
    elif isinstance(error, ConversionError):
        _log.warning("instance %s was not sent: %s", instance.sop_instance, error)
    else:
        log_unexpected(_log, "reading an instance", error)
        context.metrics.unexpected_errors.labels(service="read").inc()


def _batches(instances: Sequence[Instance]) -> Iterator[Sequence[Instance]]:
    """Few instances first, so that the first one is soon on its way; then as many as are worth a visit to a thread."""
    start, most = 0, 1
    while start < len(instances):
        end, size = start + 1, instances[start].length
        while end < len(instances) and end - start < most and size + instances[end].length <= _BYTES_AT_A_TIME:
            size += instances[end].length
            end += 1
        yield instances[start:end]
        start, most = end, min(2 * most, _MOST_AT_A_TIME)


class _Pieces:
    """A large instance, read in worker threads as the network takes it."""

    def __init__(self, context: ServiceContext, instance: Instance, transfer_syntax: str) -> None:
        self._threads: Threads = context.retrieves
        self._archive = context.archive
        self._instance = instance
        self._transfer_syntax = transfer_syntax
        self._chunks: Iterator[Buffer] | None = None
        self.size = 0
        """Bytes read so far."""

    async def read(self) -> AsyncIterator[memoryview]:
        """The bytes of the data set, one batch of chunks being read while the one before is sent."""
        coming = self._threads.start(self._batch)
        try:
            while batch := await coming:
                coming = self._threads.start(self._batch)
                for chunk in batch:
                    self.size += len(chunk)
                    yield memoryview(chunk)
        finally:
            coming.cancel()

    def _batch(self) -> list[Buffer]:
        if self._chunks is None:
            instance, chunks = self._instance, _open(self._archive, self._instance).chunks()
            if self._transfer_syntax == instance.transfer_syntax:
                self._chunks = even(chunks)
            else:
                self._chunks = even(convert(chunks, instance.transfer_syntax, self._transfer_syntax))
        return list(islice(self._chunks, _PIECES_AT_A_TIME))
