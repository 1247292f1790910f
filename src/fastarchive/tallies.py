"""Counts and durations collected in memory and given to Prometheus together.

An observation in a file shared between processes costs some 10 µs, most of it for finding and writing two numbers; one
C-STORE makes a dozen. Here each costs an entry in a queue, and the files are written once for all of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Multiset
from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, TypeVar

from prometheus_client import Counter, Histogram

Noted = TypeVar("Noted")
Label = TypeVar("Label", bound=Hashable)


class Durations:
    """Observations for one child of a histogram. Thread-safe."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._seconds: deque[float] = deque()
        self.observe = self._seconds.append
        """Note one duration, in seconds."""

    def flush(self) -> None:
        """Hand over what was noted."""
        seconds = list(_taken(self._seconds))
        if seconds:
            # prometheus_client has no way to observe many at once; this is what its observe() does.
            histogram = self._histogram
            for bucket, count in Multiset(bisect_left(histogram._upper_bounds, value) for value in seconds).items():
                histogram._buckets[bucket].inc(count)
            histogram._sum.inc(sum(seconds))


class Counts(Generic[Label]):
    """Increments of counters, by label. Thread-safe."""

    def __init__(self, counters: Mapping[Label, Counter]) -> None:
        self._counters = counters
        self._noted: deque[tuple[Label, int]] = deque()

    def add(self, label: Label, amount: int = 1) -> None:
        """Note an increment; KeyError for a label without a counter."""
        if label not in self._counters:
            raise KeyError(label)
        self._noted.append((label, amount))

    def flush(self) -> None:
        """Hand over what was noted."""
        sums: Multiset[Label] = Multiset()
        for label, amount in _taken(self._noted):
            sums[label] += amount
        for label, amount in sums.items():
            self._counters[label].inc(amount)


def _taken(queue: deque[Noted]) -> Iterator[Noted]:
    """What is in the queue, each entry for one taker only."""
    while queue:
        try:
            yield queue.popleft()
        except IndexError:  # another thread was quicker
            return
