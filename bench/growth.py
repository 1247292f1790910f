"""Does something grow? Robust slopes over the samples of a soak, and the verdict on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.scenario import Soak

_HOUR = 3600.0
_POINTS = 60
"""Medians a series of samples is reduced to before slopes are taken of all pairs."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How one figure developed."""

    name: str
    unit: str
    first: float
    """Median of the first tenth of the time that was judged."""
    last: float
    """Median of the last tenth."""
    per_hour: float
    limit: float
    """The most it may grow in an hour."""
    scatter: float
    """Median distance of the samples from the line: a rise within it says nothing."""
    hours: float

    @property
    def grows(self) -> bool:
        """Whether it rises faster than allowed, by more than its own scatter, and by a tenth of an hour's limit: what
        caches take in a minute is no rate."""
        rise = self.per_hour * self.hours
        return self.per_hour > self.limit and rise > max(3 * self.scatter, self.limit / 10)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median slope of all pairs of points (Theil–Sen): up to 29 % outliers don't move it. 0 of less than two."""
    slopes = [
        (later - earlier) / (end - start)
        for number, (start, earlier) in enumerate(points)
        for end, later in points[number + 1 :]
        if end > start
    ]
    return median(slopes) if slopes else 0.0


def reduced(points: Sequence[tuple[float, float]], count: int = _POINTS) -> list[tuple[float, float]]:
    """At most `count` points, each the medians of a run of samples."""
    size = max(-(-len(points) // count), 1)
    runs = [points[start : start + size] for start in range(0, len(points), size)]
    return [(median(moment for moment, _ in run), median(value for _, value in run)) for run in runs]


def judge(
    name: str, unit: str, points: Sequence[tuple[float, float]], limit: float, *, settle: float = 0.25
) -> Growth | None:
    """The growth of a figure over (seconds, value) points in order of time; None when there is too little to judge.

    The first `settle` of the time is left out: caches fill and pools reach their size then. limit: growth an hour.
    """
    if len(points) < 2:
        return None
    begin = points[0][0] + settle * (points[-1][0] - points[0][0])
    judged = reduced([point for point in points if point[0] >= begin])
    if len(judged) < 5:
        return None
    rise = slope(judged)
    middle = median(value - rise * moment for moment, value in judged)
    tenth = max(len(judged) // 10, 1)
    return Growth(
        name=name,
        unit=unit,
        first=median(value for _, value in judged[:tenth]),
        last=median(value for _, value in judged[-tenth:]),
        per_hour=rise * _HOUR,
        limit=limit,
        scatter=median(abs(value - middle - rise * moment) for moment, value in judged),
        hours=(judged[-1][0] - judged[0][0]) / _HOUR,
    )


Points = Sequence[Mapping[str, float]]
"""Values by name, each with its `second`."""


def judged(server: Points, work: Mapping[str, Points], mode: Soak, warm_up: float) -> Iterator[Growth]:
    """The growth of everything a soak watches, as far as there is enough to judge.

    server: its samples; work: {name of a work item: its course}, with `p50_ms` and `p99_ms`.
    """
    for name, unit, key, limit in (
        ("memory of its own", "MB", "anonymous_mb", mode.memory_mb),
        ("descriptors", "", "descriptors", mode.descriptors),
        ("threads", "", "threads", mode.threads),
        ("index segments", "", "segments", mode.segments),
    ):
        if growth := judge(name, unit, _values(server, key, warm_up), limit):
            yield growth
    for item, course in work.items():
        for name, key in (("p50", "p50_ms"), ("p99", "p99_ms")):
            points = _values(course, key, warm_up)
            usual = median(value for _, value in points) if points else 0.0
            if growth := judge(f"{name} of {item}", "ms", points, mode.latency * usual):
                yield growth


def _values(course: Points, key: str, warm_up: float) -> list[tuple[float, float]]:
    return [(point["second"], point[key]) for point in course if key in point and point["second"] > warm_up]
