"""What a connection writes: counted, and held up while the peer doesn't take it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf

from fastarchive.upperlayer.deadlines import Deadlines
from fastarchive.upperlayer.messages import Inbox
from fastarchive.upperlayer.options import PROGRESS

__all__ = ["Outflow"]

_HIGH, _LOW = 1024 * 1024, 256 * 1024


class Outflow:
    """The writing side of one connection. Everything runs on the event loop.

    `inbox` has the error an association ended with. Every `limit` seconds the peer must have taken PROGRESS bytes of
    what waits to be sent.
    """

    def __init__(self, inbox: Inbox, deadlines: Deadlines, limit: float) -> None:
        self.sent = 0
        """Bytes handed to the transport."""
        self._inbox = inbox
        self._deadlines = deadlines
        self._limit = limit
        self._transport: asyncio.Transport | None = None
        self._writable: asyncio.Future[None] | None = None  # set while the peer does not take what we write
        self._mark = 0  # unsent at the last progress

    def begin(self, transport: asyncio.Transport) -> None:
        """There is a connection."""
        self._transport = transport
        transport.set_write_buffer_limits(high=_HIGH, low=_LOW)

    def put(self, data: bytes) -> None:
        """Hand bytes to the transport if it is still there."""
        if data and self._transport is not None and not self._transport.is_closing():
            self.sent += len(data)
            self._transport.write(data)

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Hand parts to the transport in one call. The caller has asked the machine. Raises what the association ended
        with, if it did."""
        if self._inbox.error is not None:
            raise self._inbox.error.with_traceback(None)
        assert self._transport is not None
        if len(parts) == 1:
            self.sent += len(parts[0])
            self._transport.write(parts[0])
            return
        size = sum(map(len, parts))
        self.sent += size
        if size <= 16384:  # copying is cheaper than a vector
            self._transport.write(b"".join(parts))
        else:
            self._transport.writelines(parts)

    @property
    def unsent(self) -> int:
        """Bytes of what was written that the transport still holds."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def is_full(self) -> bool:
        """Whether the peer takes what is written more slowly than it is written: drain() waits then."""
        return self._writable is not None

    async def drain(self) -> None:
        """Until the transport has room. Raises what the association ended with, if it did."""
        if self._writable is not None:
            await asyncio.shield(self._writable)
        if self._inbox.error is not None:
            raise self._inbox.error.with_traceback(None)

    def pause(self) -> None:
        """The transport has no room any more."""
        self._writable = asyncio.get_running_loop().create_future()
        self._watch()

    def resume(self) -> None:
        """It has again, or there is none any more."""
        self._deadlines.set_writing(inf)
        self.wake()
        self._writable = None

    def wake(self) -> None:
        """Who waits in drain() goes on, to find out that it is over."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def goes_on(self) -> bool:
        """The time is up: whether the peer has taken enough of it, and gets as much again."""
        if self._mark - self.unsent < PROGRESS:
            return False
        self._watch()
        return True

    def _watch(self) -> None:
        self._mark = self.unsent
        self._deadlines.set_writing(self._limit)
