"""Stored instances read in worker threads, ahead of their being sent, and laid out as the association wants them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from fastarchive.archive import Archive
from fastarchive.dicom.layout import Buffer
from fastarchive.native.outgoing import Space
from fastarchive.services.conversion import ConversionError, convert
from fastarchive.services.faults import log_unexpected
from fastarchive.services.suboperations import Instance, choose_context, why_declined
from fastarchive.store.blobs import DamagedInstance, Reader
from fastarchive.upperlayer import Association, PresentationContext, frame_data_set

__all__ = ["Pieces", "ReadAhead", "Ready", "batch_from", "even", "note_unreadable"]

if TYPE_CHECKING:
    from fastarchive.services.context import ServiceContext

_log: Final = logging.getLogger(__name__)

_PIECES_AT_A_TIME: Final = 2
"""Chunks of a large instance that one visit to a worker thread brings."""
_MOST_AT_A_TIME: Final = 64
_BYTES_AT_A_TIME: Final = 4 << 20
"""Instances, and bytes of them, that one visit to a worker thread brings."""


class Ready(NamedTuple):
    """An instance that can be sent: where, and its data set in PDUs unless it is a large one."""

    presentation: PresentationContext
    pdus: list[bytes | memoryview] | Space | None
    size: int
    """Bytes of the data set; 0 for a large one."""


Prepared = tuple[Instance, Ready | None]
"""An instance and what is needed to send it; None if it can't be sent."""


class ReadAhead:
    """The instances of one retrieve in their order, read before it is their turn.

    What is small and in the page cache is read on the event loop, each as the one before is on its way: the thread
    that sends it has it in its cache then, and no other has to be woken. Everything else is read in worker threads,
    further ahead.
    """

    def __init__(self, context: ServiceContext, carrier: Association, instances: Sequence[Instance]) -> None:
        self._context = context
        self._carrier = carrier
        self._longest = carrier.longest_fragment
        self._contexts = tuple(carrier.contexts.values())
        self._chosen: dict[tuple[str, str], PresentationContext | None] = {}
        self._instances = instances
        self._position = 0
        """Of the next instance to read."""
        self._most = 1
        """Instances that the next visit to a worker thread brings."""
        self._ready: deque[Prepared] = deque()
        self._held = 0
        """Bytes of the instances that are ready."""
        self._on_its_way: tuple[Space, int] | None = None
        """What lies in memory that is used again, and what the carrier will have sent then."""
        self._reading = self._closed = False
        self._at_once = False
        """The last one was read on the event loop."""
        self._thread: asyncio.Future[list[Prepared]] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._read_next()

    def next(self) -> Prepared | None:
        """The next instance, taken out; None when it isn't read yet or there is none."""
        if not self._ready:
            return None
        prepared = self._ready.popleft()
        self._held -= prepared[0].length
        self._read_next()
        return prepared

    def leaves(self, space: Space, size: int) -> None:
        """A message of `size` bytes, which lies in `space`, is what the carrier is going to be given next."""
        self._on_its_way = space, self._carrier.given + size

    def _give_back(self) -> None:
        """If the network has taken what was sent last, its memory is free for what comes next."""
        if self._on_its_way is not None:
            space, end = self._on_its_way
            if self._carrier.taken >= end:
                self._context.direct.give_back(space)
                self._on_its_way = None

    async def wait(self) -> bool:
        """Until :meth:`next` has one; False when there is none."""
        while not self._ready and self._reading:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return bool(self._ready)

    def close(self) -> None:
        """No more are wanted."""
        self._closed = True
        if self._thread is not None:
            self._thread.cancel()

    def _read_next(self) -> None:
        if self._reading or self._position >= len(self._instances):
            return
        if not self._ready if self._at_once else self._held <= _BYTES_AT_A_TIME // 2:
            self._reading = True
            self._context.turns.take(self._read_now)

    def _read_now(self) -> None:
        """Read the next instance here, if there is nothing to wait for, else it and some more in a thread."""
        if self._closed:
            return
        self._give_back()
        instance = self._instances[self._position]
        ready = self._read_at_once(instance)
        self._at_once = ready is not None
        if ready is not None:
            self._position += 1
            self._come([(instance, ready)])
            return
        batch = self._next_batch()
        self._thread = self._context.retrieves.start(lambda: [(each, self._read(each)) for each in batch])
        self._thread.add_done_callback(self._come_from_thread)

    def _next_batch(self) -> Sequence[Instance]:
        """Few instances first, so that the first one is soon on its way; then as many as are worth a visit."""
        batch = batch_from(self._instances, self._position, self._most)
        self._position += len(batch)
        self._most = min(2 * self._most, _MOST_AT_A_TIME)
        return batch

    def _come_from_thread(self, future: asyncio.Future[list[Prepared]]) -> None:
        if not future.cancelled():
            self._come(future.result())

    def _come(self, prepared: list[Prepared]) -> None:
        self._ready.extend(prepared)
        self._held += sum([instance.length for instance, _ in prepared])
        self._reading = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _read_at_once(self, instance: Instance) -> Ready | None:
        """On the event loop: an instance that is sent as it is stored, if that takes no waiting; else None.

        Whatever is wrong with it is for a thread to find out, and to look for another copy.
        """
        presentation = self._choose(instance)
        if presentation is None or presentation.transfer_syntax != instance.transfer_syntax:
            return None
        blobs = self._context.archive.blobs
        try:
            space = self._context.direct.read(blobs, instance, presentation.id, self._longest)
            if space is not None:
                return Ready(presentation, space, instance.length)
            found = blobs.read_at_once(instance.location)
            if found is None:
                return None
            record, whole = found
            if record.transfer_syntax != instance.transfer_syntax or record.length != instance.length:
                return None
            return self._framed(presentation, list(even((whole,))))
        except Exception:  # it is raised again in the thread
            return None

    def _read(self, instance: Instance) -> Ready | None:
        """In a worker thread: choose the context and read the instance.

        A large one is verified first, so that damage shows before its first byte is sent, and then read to send it.
        """
        presentation = self._choose(instance)
        if presentation is None:
            return None
        try:
            reader = _open(self._context.archive, instance)
            as_stored = presentation.transfer_syntax == instance.transfer_syntax
            if instance.length > self._context.limits.read_ahead:
                reader.verify()
                if not as_stored:
                    for _ in convert(reader.chunks(), instance.transfer_syntax, presentation.transfer_syntax):
                        pass  # does it convert to its end?
                return Ready(presentation, None, 0)
            pieces: Iterable[Buffer] = reader.pieces()
            if not as_stored:
                pieces = convert(pieces, instance.transfer_syntax, presentation.transfer_syntax)
            return self._framed(presentation, list(even(pieces)))
        except Exception as error:  # this instance fails, the others are sent
            note_unreadable(self._context, instance, error)
            return None

    def _choose(self, instance: Instance) -> PresentationContext | None:
        """The context to send an instance in. What the other side doesn't take is logged once for each kind."""
        kind = (instance.sop_class, instance.transfer_syntax)
        if kind not in self._chosen:
            self._chosen[kind] = choose_context(self._contexts, instance)
            if self._chosen[kind] is None:
                _log.warning("not sent: %s", why_declined(self._contexts, instance))
        return self._chosen[kind]

    def _framed(self, presentation: PresentationContext, pieces: list[Buffer]) -> Ready:
        pdus: list[bytes | memoryview] = []
        final = len(pieces) - 1
        for number, piece in enumerate(pieces or [b""]):
            pdus += frame_data_set(presentation.id, memoryview(piece), self._longest, last=number >= final)
        return Ready(presentation, pdus, sum(map(len, pieces)))


class Pieces:
    """A large instance, read in worker threads as the network takes it."""

    def __init__(self, context: ServiceContext, instance: Instance, transfer_syntax: str) -> None:
        self._threads = context.retrieves
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


def _open(archive: Archive, instance: Instance) -> Reader:
    reader = archive.blobs.open(instance.location, instance=instance.sop_instance)
    if reader.record.transfer_syntax != instance.transfer_syntax or reader.record.length != instance.length:
        raise DamagedInstance(instance.location, "it was deleted and stored anew meanwhile")
    return reader


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


def note_unreadable(context: ServiceContext, instance: Instance, error: Exception) -> None:
    """Log and count why an instance could not be read; its UID is what an operator needs to find it."""
    if isinstance(error, DamagedInstance):
        context.metrics.damaged_instances.inc()
        _log.error("instance %s is damaged and was not sent", instance.sop_instance)
    elif isinstance(error, ConversionError):
        _log.warning("instance %s was not sent: %s", instance.sop_instance, error)
    else:
        log_unexpected(_log, "reading an instance", error)
        context.metrics.unexpected_errors.labels(service="read").inc()


def batch_from(instances: Sequence[Instance], start: int, most: int) -> Sequence[Instance]:
    """The instances from `start` on that are read together: at most `most`, and of so many bytes."""
    end, size = start + 1, instances[start].length
    while end < len(instances) and end - start < most and size + instances[end].length <= _BYTES_AT_A_TIME:
        size += instances[end].length
        end += 1
    return instances[start:end]
