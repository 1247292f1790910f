"""From any thread to an event loop, with one wake-up for all that comes while the loop is busy."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Calls `take` on the event loop `loop` with each thing posted, in their order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, take: Callable[[T], object]) -> None:
        self.loop = loop
        self._take = take
        self._waiting: deque[T] = deque()
        self._woken = False

    def post(self, thing: T) -> None:
        """In any thread. Dropped when the loop is closed: nobody waits any more."""
        self._waiting.append(thing)
        # Appending comes before the look at the flag, and _deliver() lowers the flag before it takes anything out:
        # a thing is either seen by the delivery under way or starts the next one.
        if not self._woken:
            self._woken = True
            try:
                self.loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # it is closed
                self._waiting.clear()

    def _deliver(self) -> None:
        self._woken = False
        while self._waiting:
            self._take(self._waiting.popleft())
