"""The timers of a connection, on one alarm of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

__all__ = ["Deadlines"]


class Deadlines:
    """One deadline for what is read, which has the name of a timer, and one for what is written.

    Both move with every message, the alarm only when it rings or one of them comes earlier than it is set to: to move
    an alarm costs more than to look at the clock. `expire` is called with the name of the timer, "write" for the other.
    """

    __slots__ = ("_alarm", "_alarm_due", "_expire", "_loop", "_read_due", "_write_due", "reading")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[str], None]) -> None:
        self.reading = ""
        """The name of the timer last set for reading."""
        self._loop = loop
        self._expire = expire
        self._read_due = self._write_due = inf
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_due = inf

    def set_reading(self, timer: str, seconds: float) -> None:
        """Something has to be read within `seconds` from now; inf ends the timer."""
        self.reading = timer
        self._read_due = self._loop.time() + seconds
        if seconds < inf:
            self._arm()

    def set_writing(self, seconds: float) -> None:
        """Something has to be written within `seconds` from now; inf ends the timer."""
        self._write_due = self._loop.time() + seconds
        if seconds < inf:
            self._arm()

    def stop(self) -> None:
        """No deadline any more."""
        self._read_due = self._write_due = self._alarm_due = inf
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _arm(self) -> None:
        due = min(self._read_due, self._write_due)
        if due < self._alarm_due:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_due = due
            self._alarm = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._alarm, self._alarm_due = None, inf
        now = self._loop.time()
        if now >= self._write_due:
            self._write_due = inf
            self._expire("write")
        if now >= self._read_due:
            self._read_due = inf
            self._expire(self.reading)
        self._arm()
