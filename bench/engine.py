"""The loop over any number of associations of one process: readiness and timers, nothing of DICOM.

One thread drives them all, because a thread for each of a hundred associations would cost more than the archives it
measures.
"""

from __future__ import annotations

import heapq
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.lane import Lane

_CHUNK = 1 << 18
_COARSE = 0.002
"""Seconds: what is due sooner is waited for to the microsecond."""
_FAREWELL = 2.0
"""Seconds the archive gets to answer A-RELEASE-RQ at the end."""


@dataclass(frozen=True, slots=True)
class Address:
    """Whom to associate with."""

    host: str
    port: int
    called: str = "ANY-SCP"
    calling: str = "BENCH"


@dataclass(slots=True)
class Clock:
    """The phase under way: moments of time.monotonic()."""

    start: float
    warm: float
    """When figures begin to count."""
    end: float
    """When nothing is begun any more."""
    limit: float
    """When what is still under way is given up."""


class Engine:
    """The loop over all lanes of one process."""

    def __init__(self, address: Address, clock: Clock) -> None:
        """clock: may still be changed until `run`."""
        self.address = address
        self.clock = clock
        self.lanes: list[Lane] = []
        self._poll = select.epoll()
        self._by_descriptor: dict[int, Lane] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._buffer = memoryview(bytearray(_CHUNK))

    def register(self, connection: socket.socket, lane: Lane) -> None:
        """Watch a new connection of a lane."""
        self._by_descriptor[connection.fileno()] = lane
        self._poll.register(connection.fileno(), select.EPOLLIN)

    def watch(self, connection: socket.socket, *, writing: bool) -> None:
        """Also wake the lane when the connection takes bytes again, or no longer."""
        self._poll.modify(connection.fileno(), select.EPOLLIN | (select.EPOLLOUT if writing else 0))

    def forget(self, connection: socket.socket) -> None:
        """Stop watching; before the connection is closed."""
        self._by_descriptor.pop(connection.fileno(), None)
        self._poll.unregister(connection.fileno())

    def at(self, moment: float, action: Callable[[], None]) -> None:
        """Call `action` at a moment of time.monotonic()."""
        heapq.heappush(self._timers, (moment, next(self._order), action))

    def associate(self, deadline: float) -> None:
        """Open all lanes and wait until each has associated or failed, or until the deadline."""
        for lane in self.lanes:
            lane.open()
            self._turn(0.0)
        while not all(lane.ready for lane in self.lanes) and time.monotonic() < deadline:
            self._turn(0.05)

    def run(self, every: float, tick: Callable[[float], bool]) -> None:
        """Work until all lanes have finished or time is up. Calls `tick` every so many seconds; False stops at once."""
        for lane in self.lanes:
            lane.ready = True
            lane.plan()
        following = time.monotonic() + every
        while not all(lane.finished for lane in self.lanes):
            now = time.monotonic()
            if now >= self.clock.limit:
                break
            if now >= following:
                following += every
                if not tick(now):
                    break
            self._turn(min(following, self.clock.limit) - now)
        for lane in self.lanes:
            if not lane.finished:
                lane.stop()
        polite = time.monotonic() + _FAREWELL
        while any(lane.connected for lane in self.lanes) and time.monotonic() < polite:
            self._turn(0.05)
        for lane in self.lanes:
            lane.stop()
        self._poll.close()

    def _turn(self, longest: float) -> None:
        """Wait for the next thing to do, at most `longest` seconds, and do it."""
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        if self._timers:
            longest = min(longest, self._timers[0][0] - time.monotonic())
        # epoll counts in milliseconds and rounds up; an operation is not to begin late because of that.
        if longest > _COARSE or longest <= 0:
            ready = self._poll.poll(max(longest - _COARSE, 0))
        else:
            select.select([self._poll], [], [], longest)
            ready = self._poll.poll(0)
        for descriptor, happened in ready:
            lane = self._by_descriptor.get(descriptor)
            if lane is None:
                continue
            if happened & select.EPOLLOUT:
                lane.writable()
            if happened & ~select.EPOLLOUT:
                lane.readable(self._buffer)
