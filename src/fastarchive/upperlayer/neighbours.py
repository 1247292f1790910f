"""The processes that accept from one listening socket, and how many connections each of them has."""

from __future__ import annotations

from typing import Final

__all__ = ["SLOT", "Neighbours"]

SLOT: Final = 4
"""Bytes of shared memory for each process."""
_AWAY: Final = 0xFFFF_FFFF
"""In place of a number: the process takes no connections."""


class Neighbours:
    """This process and the others, by memory that all of them share: a number for each in its :data:`SLOT`.

    Whichever process is awake would take all of what arrives at once, and keep it for hours: associations are few and
    long. So one that has more than another lets that one go first. The numbers are a hint; nothing depends on them.
    """

    def __init__(self, shared: memoryview, own: int) -> None:
        """`own`: the place of this process. Raises ValueError for memory that has no such place."""
        self._numbers = shared.cast("I")
        self._own = own
        self._left = False
        if not 0 <= own < len(self._numbers):
            raise ValueError(f"there are {len(self._numbers)} processes, none of them number {own}")

    @classmethod
    def alone(cls) -> Neighbours:
        """A process without others."""
        return cls(memoryview(bytearray(SLOT)), 0)

    def note(self, connections: int) -> None:
        """This process has so many connections now."""
        if not self._left:
            self._numbers[self._own] = min(connections, _AWAY - 1)

    def leave(self) -> None:
        """This process takes no more connections, ever; nobody should wait for it."""
        self._left = True
        self._numbers[self._own] = _AWAY

    def number_of(self, place: int) -> int:
        """The connections of one of the processes; more than any could have if it takes none."""
        return self._numbers[place]

    @property
    def one_has_fewer(self) -> bool:
        """Whether another process should rather take the next connection."""
        return min(self._numbers) < self._numbers[self._own]
