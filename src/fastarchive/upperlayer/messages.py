"""Messages on their way from the socket to a service: queued, counted, and handed over a few wake-ups at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import islice
from time import perf_counter

from fastarchive.upperlayer.commands import Command, CommandField
from fastarchive.upperlayer.errors import AssociationAborted, DataSetTooLarge
from fastarchive.upperlayer.negotiation import PresentationContext

WAKE_SIZE = 1024 * 1024
"""A waiting service is woken by the end of a message or by this many bytes, whichever comes first: waking it for each
read would cost as much as receiving."""
_MESSAGE_COST, _CHUNK_COST = 1024, 64
"""What a queued command and each chunk count besides their bytes, so that floods of tiny ones are bounded too."""
_ALLOWED = 16 * _MESSAGE_COST
"""Of that, for a message which is taken whole."""
_MOST_CANCELLED = 1024
"""Message IDs marked as cancelled; a peer that cancels more than it can have asked for loses what it said before."""


class Message:
    """A command, and the data set that came or is still coming with it."""

    __slots__ = ("_chunks", "_discarded", "_ended", "_inbox", "begun", "command", "context")

    def __init__(self, inbox: Inbox, context: PresentationContext, command: Command) -> None:
        self.context = context
        self.command = command
        self.begun = perf_counter()
        """When its command had come."""
        self._inbox = inbox
        self._chunks: deque[bytes] = deque()
        self._ended = not command.has_data_set
        self._discarded = False

    def chunks(self) -> AsyncIterator[bytes]:
        """The data set's bytes as they arrive, once; nothing when the command announced none.

        The iterator raises AssociationAborted when the association ends before the data set does.
        """
        return _Chunks(self)

    async def data_set(self, limit: int) -> bytes:
        """The whole data set. Raises DataSetTooLarge beyond `limit` bytes (what is left of it is dropped as it
        arrives), AssociationAborted when the association ends before."""
        parts: list[bytes] = []
        total = 0
        async for chunk in self.chunks():
            parts.append(chunk)
            total += len(chunk)
            if total > limit:
                self.discard()
                raise DataSetTooLarge(f"data set longer than {limit} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pieces(self, start: int = 0) -> list[bytes]:
        """What has come of the data set, of which nothing was read yet, from a piece on; it stays where it is."""
        return list(islice(self._chunks, start, None)) if start else list(self._chunks)

    def discard(self) -> None:
        """Drop what was not read, and what is still coming."""
        self._discarded = True
        freed = sum(map(len, self._chunks)) + _CHUNK_COST * len(self._chunks)
        self._chunks.clear()
        self._inbox.consumed(freed)


class _Chunks:
    __slots__ = ("_message",)

    def __init__(self, message: Message) -> None:
        self._message = message

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        message = self._message
        inbox = message._inbox
        while not message._chunks:
            if message._ended or message._discarded:
                raise StopAsyncIteration
            await inbox.wait()
        chunk = message._chunks.popleft()
        inbox.consumed(len(chunk) + _CHUNK_COST)
        return chunk


class Crowd:
    """What the inboxes of all associations of a server hold together: `held` bytes of the `limit` they should."""

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0


class Inbox:
    """What has arrived on an association and was not yet taken.

    `unconsumed` is the memory it holds in bytes; `on_consumed` is called when it has shrunk. One task at a time waits.
    `crowd` counts it together with others.
    """

    def __init__(self, *, limit: int, on_consumed: Callable[[], None], crowd: Crowd | None = None) -> None:
        self.unconsumed = 0
        self.paused = False
        """Nothing more arrives until some of it is taken, so what there is must do."""
        self._crowd = crowd or Crowd(limit)
        self.error: AssociationAborted | None = None
        self.release_requested = False
        self.cancelled: set[int] = set()
        self.listener: Callable[[Command | None], None] | None = None
        """Is told of each command as it arrives, instead of a message being made of it; data sets are dropped then.
        None: the one that was expected."""
        self._closed = False
        self._wake_size = min(WAKE_SIZE, limit // 2)
        self._on_consumed = on_consumed
        self._messages: deque[Message] = deque()
        self._arriving: Message | None = None
        self._waiter: asyncio.Future[None] | None = None

    # -- the side of the connection

    def add_command(self, context: PresentationContext, command: Command) -> None:
        """C-CANCEL-RQ never becomes a message: it marks the request it names, also while nobody waits for messages
        (F10). One that names no request under way marks a Message ID that the next such request clears."""
        if command.field is CommandField.C_CANCEL_RQ:
            if len(self.cancelled) >= _MOST_CANCELLED:
                self.cancelled.clear()
            self.cancelled.add(command.responding_to)
            return
        if self._closed:
            return
        if command.is_request:
            self.cancelled.discard(command.message_id)
        if self.listener is not None:
            self.listener(command)
            return
        message = Message(self, context, command)
        self._messages.append(message)
        self._arriving = message if command.has_data_set else None
        self._hold(_MESSAGE_COST)

    def aside(self, context: PresentationContext, command: Command, data_set: bytes) -> Message:
        """A message that has come to its end, and is to be looked at before it is put with the others, if ever."""
        self.cancelled.discard(command.message_id)
        message = Message(self, context, command)
        message._chunks.append(data_set)
        message._ended = True
        return message

    def add_data(self, data: bytes, last: bool) -> None:
        message = self._arriving
        if message is None:
            return
        if data and not message._discarded:
            message._chunks.append(data)
            self._hold(len(data) + _CHUNK_COST)
        if last:
            message._ended = True
            self._arriving = None

    def wake(self) -> None:
        """Wake who waits, if there is enough to be worth it: while there is a listener, only the end of it all is."""
        waiter = self._waiter
        if waiter is None or waiter.done() or not self._is_enough(self._arriving):
            return
        if self.listener is None or self.release_requested:
            waiter.set_result(None)

    def fail(self, error: AssociationAborted) -> None:
        """The association is over: every wait, now and later, raises `error`. The first one counts."""
        if self.error is None:
            self.error = error
            self._messages.clear()
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    def close(self) -> None:
        """Nobody wants messages any more; those that still come are dropped."""
        self._closed = True
        self._arriving = None

    # -- the side of the service

    @property
    def is_waiting(self) -> bool:
        return self._waiter is not None

    @property
    def is_empty(self) -> bool:
        """Whether there is no message to be taken."""
        return not self._messages

    @property
    def is_asleep(self) -> bool:
        """Whether the service waits and nobody has woken it."""
        return self._waiter is not None and not self._waiter.done()

    def take(self) -> Message | None:
        """The next message of which all, or a good part, has arrived. Raises the error the association ended with."""
        if self.error is not None:
            raise self.error.with_traceback(None)
        if not self._messages:
            return None
        message = self._messages[0]
        if message is self._arriving and not self._is_enough(message):
            return None
        self._messages.popleft()
        self.consumed(_MESSAGE_COST)
        return message

    def whole(self, limit: int) -> Message | None:
        """The next message, if it has come to its end and is not much longer than `limit`; it stays where it is."""
        if not self._messages or self.unconsumed > limit + _ALLOWED:
            return None
        message = self._messages[0]
        return None if message is self._arriving else message

    @property
    def arriving(self) -> Message | None:
        """The next message, if its data set is on its way."""
        return self._arriving if len(self._messages) == 1 else None

    def drop(self, message: Message) -> None:
        """The message that whole() gave is dealt with."""
        self._messages.popleft()
        freed = _MESSAGE_COST
        for chunk in message._chunks:
            freed += len(chunk) + _CHUNK_COST
        message._chunks.clear()
        self.consumed(freed)

    async def wait(self) -> None:
        """Until something happened that is worth looking at. Raises the error the association ended with."""
        if self.error is not None:
            raise self.error.with_traceback(None)
        if self._waiter is not None:
            raise RuntimeError("two tasks wait for the same association")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self.error is not None:
            raise self.error.with_traceback(None)

    def leave(self) -> None:
        """It is over: whatever is still held goes with the association, and counts no more."""
        self._crowd.held -= self.unconsumed
        self._crowd = Crowd(0)

    def _is_enough(self, arriving: Message | None) -> bool:
        return arriving is None or self.unconsumed >= self._wake_size or self.paused

    def _hold(self, size: int) -> None:
        self.unconsumed += size
        self._crowd.held += size

    def consumed(self, size: int) -> None:
        self.unconsumed -= size
        self._crowd.held -= size
        self._on_consumed()
