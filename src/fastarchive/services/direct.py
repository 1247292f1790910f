"""Stored instances read by the event loop, straight into the PDUs that carry them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from fastarchive.native.outgoing import Space, outgoing_instances
from fastarchive.services.suboperations import Instance
from fastarchive.store.blobs import Blobs

__all__ = ["Direct", "Turns"]

_SPARE: Final = 4
"""Spaces nobody uses that are kept, half a megabyte each for CT slices: those of the retrieves that go on."""


class Turns:
    """Pieces of work for the event loop, one of them a turn, so that whatever else it has to do is done in between."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def take(self, work: Callable[[], None]) -> None:
        """Call `work` soon; it doesn't raise."""
        self._waiting.append(work)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._waiting[0]()
        self._waiting.popleft()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._turn)


class Direct:
    """What the retrieves of a worker read with, for its event loop alone."""

    def __init__(self) -> None:
        self._outgoing = outgoing_instances()
        self._spare: list[Space] = []

    def read(self, blobs: Blobs, instance: Instance, context_id: int, longest: int) -> Space | None:
        """The data set of an instance as it is stored, verified, in PDUs with fragments of at most `longest` bytes.

        None when that would take more than copying from memory, when the instance is not of the plain kind that is read
        in one stroke, and whenever something is wrong.
        """
        location = instance.location
        file = blobs.opened(location.pack)
        if file is None or self._outgoing is None:
            return None
        space = self._spare.pop() if self._spare else Space()
        if self._outgoing.read(
            file.fd,
            location.offset,
            location.size,
            space,
            length=instance.length,
            transfer_syntax=instance.transfer_syntax.encode(),
            context=context_id,
            longest=longest,
        ):
            return space
        self.give_back(space)
        return None

    def give_back(self, space: Space) -> None:
        """What is in it has been sent, and is not looked at any more."""
        if len(self._spare) < _SPARE:
            self._spare.append(space)
