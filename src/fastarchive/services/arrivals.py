"""How much memory the data sets on their way in may hold together, and what happens when that is not enough.

A data set takes room for each chunk before it takes the chunk off its association. While there is none, nothing more is
taken: the association's own buffer fills, its socket isn't read any more, and the sender feels it as TCP back-pressure.
Only when that has lasted for some time is the data set refused.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from fastarchive.store.intake import SPILL

__all__ = ["Arrival", "Arrivals", "NoRoom"]

_MEBIBYTE: Final = 2**20


class NoRoom(Exception):
    """There was no room in memory for a data set within the time it may wait for it."""


class Arrivals:
    """The data sets on their way into one process. For one event loop; not thread-safe.

    `memory`: bytes they may hold together. `patience`: seconds one of them waits for room before it is refused.
    """

    def __init__(self, memory: int = 256 * _MEBIBYTE, patience: float = 30.0) -> None:
        self.memory = memory
        self.patience = patience
        self.under_way = 0
        """Data sets that are arriving, or wait to be durable."""
        self.held = 0
        """Bytes they hold."""
        self._waiting: deque[tuple[int, Arrival, asyncio.Future[None]]] = deque()

    @property
    def share(self) -> int:
        """Bytes that one data set may collect now before it goes to the spool.

        A few large ones may each collect as much as suits the work on them; the more there are, the less each:
        otherwise the memory taken would be for the peers to choose, who may open hundreds of associations and pause in
        each of them.
        """
        return min(SPILL, self.memory // max(1, self.under_way))

    def begin(self) -> Arrival:
        """One more data set; it counts until its :meth:`Arrival.end`."""
        self.under_way += 1
        return Arrival(self)

    def fits(self, size: int) -> bool:
        """Whether `size` more bytes have room now. Who waits already comes first."""
        return not self._waiting and self.held + size <= self.memory

    async def wait(self, size: int, arrival: Arrival) -> None:
        """Wait in line until there is room for `size` bytes, and take it for `arrival`. Raises NoRoom."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        entry = (size, arrival, turn)
        self._waiting.append(entry)
        self.admit()
        alarm = loop.call_later(self.patience, _give_up, turn)
        try:
            await turn
        except BaseException:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self.admit()  # a smaller one behind it may fit
            raise
        finally:
            alarm.cancel()

    def admit(self) -> None:
        """Let in who waits, first come, first served, as far as there is room."""
        while self._waiting:
            size, arrival, turn = self._waiting[0]
            if self.held + size > self.memory:
                return
            self._waiting.popleft()
            if not turn.done():
                arrival.add(size)
                turn.set_result(None)


class Arrival:
    """One data set on its way in, and the room it has taken."""

    __slots__ = ("_arrivals", "_ended", "held")

    def __init__(self, arrivals: Arrivals) -> None:
        self.held = 0
        self._arrivals = arrivals
        self._ended = False

    def take(self, size: int) -> bool:
        """Take room for `size` more bytes if there is any; whether there was."""
        if not self._arrivals.fits(size):
            return False
        self.add(size)
        return True

    async def wait(self, size: int) -> None:
        """Take room for `size` more bytes as soon as there is any. Raises NoRoom when that takes too long."""
        await self._arrivals.wait(size, self)

    def add(self, size: int) -> None:
        """Hold `size` more bytes, whether there is room or not."""
        self.held += size
        self._arrivals.held += size

    def keep(self, size: int) -> None:
        """From now on it holds `size` bytes: the rest is in the spool, or done with."""
        if not self._ended:
            self._arrivals.held += size - self.held
            self.held = size
            self._arrivals.admit()

    def end(self) -> None:
        """It holds nothing any more and is not under way. May be called again."""
        if not self._ended:
            self.keep(0)
            self._ended = True
            self._arrivals.under_way -= 1


def _give_up(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_exception(NoRoom())
