"""When work arrives: the times at which each association means to begin its next operation.

An open loop fixes these times beforehand. A server that stalls doesn't slow the load down; what waits meanwhile counts
from the moment it was meant to begin, so that a stall shows in every operation it delayed (no coordinated omission).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Arrival(StrEnum):
    """How operations follow each other."""

    CLOSED = "closed"
    """The next one when the last was answered, after the think time: finds the ceiling."""
    STEADY = "steady"
    """Evenly spaced."""
    POISSON = "poisson"
    """At random moments, independent of each other, as from many people."""
    BURSTS = "bursts"
    """A series back to back at the pace of the scanner, then a pause."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The arrivals of a whole work item, dealt out to its associations."""

    arrival: Arrival
    rate: float = 0.0
    """Operations a second of all associations together; not of a closed loop."""
    burst: int = 100
    """Operations in a burst."""
    burst_rate: float = 40.0
    """Operations a second within a burst, of one association."""

    def times(self, lane: int, lanes: int, seed: int = 1) -> Iterator[float]:
        """Seconds from the start, rising without end, for association `lane` of `lanes`.

        Raises ValueError for a closed loop, whose times only its answers know, and for a pace that cannot be kept.
        """
        if self.arrival is Arrival.CLOSED:
            raise ValueError("a closed loop has no times set beforehand")
        if self.rate <= 0:
            raise ValueError("an open loop needs a rate")
        chance = random.Random(f"{seed} arrivals {lane}")
        match self.arrival:
            case Arrival.STEADY:
                return self._steady(lane, lanes)
            case Arrival.POISSON:
                return self._poisson(self.rate / lanes, chance)
            case _:
                if self.burst_rate * lanes <= self.rate:
                    raise ValueError(f"{lanes} associations at {self.burst_rate}/s in bursts don't make {self.rate}/s")
                return self._bursts(self.rate / lanes, chance)

    def _steady(self, lane: int, lanes: int) -> Iterator[float]:
        number = lane
        while True:
            yield number / self.rate
            number += lanes

    @staticmethod
    def _poisson(rate: float, chance: random.Random) -> Iterator[float]:
        moment = 0.0
        while True:
            moment += chance.expovariate(rate)
            yield moment

    def _bursts(self, rate: float, chance: random.Random) -> Iterator[float]:
        # The pause varies by half, so that scanners that began together don't stay together.
        pause = self.burst / rate - self.burst / self.burst_rate
        moment = chance.random() * pause
        while True:
            for number in range(self.burst):
                yield moment + number / self.burst_rate
            moment += self.burst / self.burst_rate + pause * (0.5 + chance.random())
