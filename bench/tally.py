"""What a work item came to: counts, latencies and their course over time, mergeable over processes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bench.histogram import Histogram
from bench.work import Verdict


@dataclass(slots=True)
class Interval:
    """A stretch of time, by the moment of the last answer."""

    done: int = 0
    items: int = 0
    size: int = 0
    latency: Histogram = field(default_factory=Histogram)

    def add(self, other: Interval) -> None:
        """Merge."""
        self.done += other.done
        self.items += other.items
        self.size += other.size
        self.latency.add(other.latency)


@dataclass(slots=True)
class Tally:
    """One work item. Figures count what was meant to begin after the warm-up; faults count always."""

    name: str
    kind: str
    interval: float = 1.0
    """Seconds each entry of `course` stands for."""
    done: int = 0
    """Operations that ended well."""
    items: int = 0
    """Instances stored or retrieved, or answers."""
    size: int = 0
    """Bytes of data sets."""
    wrong: int = 0
    unsent: int = 0
    """Operations of an open loop that were due and never begun: the archive was too slow."""
    faults: Counter[str] = field(default_factory=Counter)
    """What didn't end well, by reason."""
    latency: Histogram = field(default_factory=Histogram)
    """From the moment an operation was meant to begin to its last answer: what a user waits."""
    service: Histogram = field(default_factory=Histogram)
    """From the moment it did begin: what the archive took for it."""
    course: dict[int, Interval] = field(default_factory=dict)
    """By number of the interval since the start, warm-up included."""
    window: tuple[float, float] | None = None
    """Seconds since the start: the stretch in which operations were to begin that count. None for a given number of
    operations, whose time is what they take."""
    first: float = 0.0
    last: float = 0.0
    """Seconds since the start: when the first counted operation began and the last one ended."""

    def ended(self, verdict: Verdict, intended: float, begun: float, ended: float, *, counts: bool) -> None:
        """Note an operation; times in seconds since the start. counts: its figures do, the warm-up is over."""
        if verdict.fault:
            self.faults[verdict.fault] += 1
            return
        self.wrong += verdict.wrong
        number = int(ended / self.interval)
        place = self.course.get(number)
        if place is None:
            place = self.course[number] = Interval()
        items, size = verdict.items, verdict.size
        place.done += 1
        place.items += items
        place.size += size
        waited = ended - intended
        place.latency.record(waited)
        if not counts:
            return
        if begun < self.first or not self.done:
            self.first = begun
        self.last = max(self.last, ended)
        self.done += 1
        self.items += items
        self.size += size
        self.latency.record(waited)
        self.service.record(ended - begun)

    def overdue(self, waited: float, *, begun: bool) -> None:
        """Note an operation that had not ended when time was up. It waited at least so long, and that counts."""
        if begun:
            self.faults["not answered in time"] += 1
        else:
            self.unsent += 1
        self.latency.record(waited)

    def add(self, other: Tally) -> None:
        """Merge what another process counted of the same work item."""
        if other.done:
            self.first = min(self.first, other.first) if self.done else other.first
        self.last = max(self.last, other.last)
        self.done += other.done
        self.items += other.items
        self.size += other.size
        self.wrong += other.wrong
        self.unsent += other.unsent
        self.faults += other.faults
        self.latency.add(other.latency)
        self.service.add(other.service)
        for number, interval in other.course.items():
            self.course.setdefault(number, Interval()).add(interval)

    @property
    def seconds(self) -> float:
        """What rates are over: the window, longer when answers came late; without one, first request to last answer."""
        if self.window is None:
            return max(self.last - self.first, 0.0)
        return max(self.last, self.window[1]) - self.window[0]

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.done / self.seconds if self.seconds else 0.0

    @property
    def item_rate(self) -> float:
        """Instances or answers a second."""
        return self.items / self.seconds if self.seconds else 0.0
