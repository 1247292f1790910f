"""A log-linear histogram of times: any number of values in bounded memory, percentiles within 1 %, mergeable.

The idea is Gil Tene's HDR histogram: within a power of two the buckets are equally wide, so that the relative error is
the same everywhere. Only buckets that were hit exist.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Self

_BITS = 7
_HALF = 1 << _BITS
"""Buckets within a power of two: a value is reported at most 1/128 too high."""


def bucket_of(value: int) -> int:
    """The number of the bucket that holds `value` (≥ 0). Values below 256 have a bucket each."""
    shift = value.bit_length() - _BITS - 1
    return value if shift <= 0 else (shift << _BITS) + (value >> shift)


def highest_in(bucket: int) -> int:
    """The highest value of a bucket: what percentiles report, so that they never flatter."""
    if bucket < 2 * _HALF:
        return bucket
    shift = (bucket >> _BITS) - 1
    return ((bucket - (shift << _BITS) + 1) << shift) - 1


class Histogram:
    """Counts of durations. Given and reported in seconds, kept in whole microseconds."""

    __slots__ = ("_counts", "_maximum", "_minimum", "_total", "count")

    def __init__(self) -> None:
        self.count = 0
        self._counts: dict[int, int] = {}
        self._total = 0
        self._minimum = 0
        self._maximum = 0

    def record(self, seconds: float) -> None:
        """Count one duration; less than nothing counts as nothing."""
        value = round(seconds * 1e6)
        value = max(value, 0)
        # bucket_of, written out: three of these are a tenth of what an operation costs the sender.
        shift = value.bit_length() - _BITS - 1
        bucket = value if shift <= 0 else (shift << _BITS) + (value >> shift)
        counts = self._counts
        counts[bucket] = counts.get(bucket, 0) + 1
        self._maximum = max(self._maximum, value)
        if value < self._minimum or not self.count:
            self._minimum = value
        self._total += value
        self.count += 1

    def add(self, other: Histogram) -> None:
        """Count everything another histogram counted, too."""
        if not other.count:
            return
        for bucket, count in other._counts.items():
            self._counts[bucket] = self._counts.get(bucket, 0) + count
        self._minimum = min(self._minimum, other._minimum) if self.count else other._minimum
        self._maximum = max(self._maximum, other._maximum)
        self._total += other._total
        self.count += other.count

    @classmethod
    def of(cls, several: Iterable[Histogram]) -> Self:
        """All of them in one."""
        merged = cls()
        for one in several:
            merged.add(one)
        return merged

    def percentile(self, fraction: float) -> float:
        """Seconds below or at which `fraction` of the values lie (nearest rank); 0.0 of nothing."""
        if not self.count:
            return 0.0
        rank = max(math.ceil(fraction * self.count), 1)
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= rank:
                return max(min(highest_in(bucket), self._maximum), self._minimum) / 1e6
        return self.maximum

    def curve(self) -> list[tuple[float, float]]:
        """(fraction of values, seconds) at every bucket, rising: what a plot of all percentiles needs."""
        points = []
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            points.append((seen / self.count, min(highest_in(bucket), self._maximum) / 1e6))
        return points

    @property
    def mean(self) -> float:
        """Seconds; exact."""
        return self._total / self.count / 1e6 if self.count else 0.0

    @property
    def maximum(self) -> float:
        """Seconds; exact."""
        return self._maximum / 1e6

    def as_dict(self) -> dict[str, Any]:
        """For JSON: everything, in microseconds, with the counts under each bucket's highest value."""
        return {
            "count": self.count,
            "total_us": self._total,
            "minimum_us": self._minimum,
            "maximum_us": self._maximum,
            "counts": {str(highest_in(bucket)): count for bucket, count in sorted(self._counts.items())},
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of `as_dict`. Raises KeyError or ValueError for something else."""
        made = cls()
        made._counts = {bucket_of(int(value)): int(count) for value, count in document["counts"].items()}
        made.count = int(document["count"])
        if made.count != sum(made._counts.values()):
            raise ValueError("the counts of the histogram don't add up")
        made._total = int(document["total_us"])
        made._minimum = int(document["minimum_us"])
        made._maximum = int(document["maximum_us"])
        return made
