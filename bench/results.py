"""What a run of a scenario found: plain data, written as JSON and as a Markdown report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from bench.growth import Growth
from bench.histogram import Histogram
from bench.monitor import Sample
from bench.report import figure, ratio, table
from bench.tally import Tally

PERCENTILES = (0.5, 0.9, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class Figures:
    """One work item of one phase."""

    name: str
    kind: str
    offered: float | None
    """Operations a second that were to arrive; None in a closed loop."""
    done: int
    per_second: float
    """Operations."""
    items_per_second: float
    """Instances stored or retrieved, or answers."""
    megabytes_per_second: float
    latency_ms: dict[str, float]
    """By percentile, and `max`; from the moment an operation was meant to begin."""
    service_ms: dict[str, float]
    """The same from the moment it did begin."""
    wrong: int
    unsent: int
    faults: dict[str, int]
    histogram: dict[str, Any]
    course: list[dict[str, float]]
    """For each interval: `second`, `per_second` (items), `p50_ms`, `p99_ms`."""


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """One phase against one archive."""

    peer: str
    label: str
    """What distinguishes it from the other phases: `ceiling`, `70 %`, `125/s`."""
    cores: int | None
    """Cores the server was pinned to."""
    offered: float | None
    """Instances a second that were to be stored; None in a closed loop."""
    seconds: float
    """How long operations were begun, warm-up included."""
    figures: list[Figures]
    processor_ms: float | None
    """Of the server, for each instance stored; with other work in the phase that is in it, too."""
    sender_ms: float
    """Of the harness, for each operation."""
    sender_kernel_ms: float
    """The part of it spent in the kernel, most of it copying data sets and taking them through the network."""
    peak_memory_mb: float | None
    cores_used: float | None
    """Mean number of cores the server kept busy."""
    course: list[dict[str, float]]
    """For each sample of the server: `second`, `cores`, `memory_mb`, `anonymous_mb`, `descriptors`, `written_mb` …"""

    @property
    def store(self) -> Figures | None:
        """The C-STORE item; the first, when there are several."""
        return next((one for one in self.figures if one.kind == "store"), None)


@dataclass(slots=True)
class PeerResult:
    """Everything about one archive."""

    peer: str
    remark: str
    cores: int | None
    phases: list[PhaseResult] = field(default_factory=list)
    acknowledged: int = 0
    missing: int | None = None
    """Acknowledged and not found afterwards; None when it wasn't looked for."""
    syncs: str = ""
    """Sync calls, counted in a run of their own."""
    growth: list[Growth] = field(default_factory=list)
    verdict: str = ""
    """What a mode concludes: the highest rate within the objective, or what grew."""
    failed: bool = False

    @property
    def name(self) -> str:
        """For tables and legends."""
        return f"{self.peer}, {self.cores} core{'s' * (self.cores != 1)}" if self.cores else self.peer


def figures_of(tally: Tally, offered: float | None = None) -> Figures:
    """The figures of a work item."""

    def milliseconds(histogram: Histogram) -> dict[str, float]:
        named = {f"p{100 * fraction:g}": round(histogram.percentile(fraction) * 1e3, 3) for fraction in PERCENTILES}
        return named | {"max": round(histogram.maximum * 1e3, 3), "mean": round(histogram.mean * 1e3, 3)}

    seconds = tally.seconds
    return Figures(
        name=tally.name,
        kind=tally.kind,
        offered=offered,
        done=tally.done,
        per_second=tally.rate,
        items_per_second=tally.item_rate,
        megabytes_per_second=tally.size / seconds / 1e6 if seconds else 0.0,
        latency_ms=milliseconds(tally.latency),
        service_ms=milliseconds(tally.service),
        wrong=tally.wrong,
        unsent=tally.unsent,
        faults=dict(tally.faults),
        histogram=tally.latency.as_dict(),
        course=[
            {
                "second": number * tally.interval,
                "per_second": interval.items / tally.interval,
                "p50_ms": interval.latency.percentile(0.5) * 1e3,
                "p99_ms": interval.latency.percentile(0.99) * 1e3,
            }
            for number, interval in sorted(tally.course.items())
        ],
    )


def course_of(samples: Sequence[Sample], start: float) -> list[dict[str, float]]:
    """The samples of a server for JSON and plots; rates are over the time since the sample before."""
    course = []
    for before, now in pairwise(samples):
        seconds = max(now.moment - before.moment, 1e-6)
        course.append(
            {
                "second": now.moment - start,
                "cores": (now.processor - before.processor) / seconds,
                "memory_mb": now.memory / 2**20,
                "anonymous_mb": now.anonymous / 2**20,
                "descriptors": now.descriptors,
                "threads": now.threads,
                "written_mb": max(now.written - before.written, 0) / seconds / 1e6,
                **now.inventory,
            }
        )
    return course


def faults_of(figures: Sequence[Figures]) -> str:
    """Everything that went wrong, in words for a table cell; empty when nothing did."""
    found: Counter[str] = Counter()
    for one in figures:
        found.update(one.faults)
        if one.wrong:
            found["wrong answers"] += one.wrong
        if one.unsent:
            found["begun too late to be sent"] += one.unsent
    return ", ".join(f"{count} × {reason}" for reason, count in found.most_common(3))


def work_table(results: Sequence[PeerResult]) -> str:
    """One row for each archive, phase and work item."""
    rows: list[list[object]] = [
        [
            result.name,
            phase.label,
            one.name,
            figure(one.offered) if one.offered else None,
            figure(one.per_second),
            figure(one.items_per_second),
            *(one.latency_ms[name] for name in ("p50", "p99", "p99.9", "max")),
            faults_of([one]),
        ]
        for result in results
        for phase in result.phases
        for one in phase.figures
    ]
    header = ["archive", "phase", "work", "offered/s", "done/s", "items/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms"]
    return table([*header, "faults"], rows)


def server_table(results: Sequence[PeerResult]) -> str:
    """One row for each archive and phase: what it cost the server, and how it compares with the first archive."""
    rows: list[list[object]] = []
    reference = {phase.label: phase for phase in results[0].phases} if results else {}
    for result in results:
        for phase in result.phases:
            ours, theirs = reference.get(phase.label), phase.store
            compared = ""
            if result is not results[0] and ours and ours.store and theirs and phase.offered is None:
                compared = ratio(ours.store.items_per_second, theirs.items_per_second)
            rows.append(
                [
                    result.name,
                    phase.label,
                    sum(one.items_per_second for one in phase.figures if one.kind == "store") or None,
                    compared,
                    phase.processor_ms,
                    phase.cores_used,
                    figure(phase.peak_memory_mb) if phase.peak_memory_mb else None,
                    phase.sender_ms,
                    phase.sender_kernel_ms,
                ]
            )
    first = results[0].peer if results else ""
    header = ["archive", "phase", "stored/s", f"{first} is", "server CPU ms/instance", "cores busy", "peak MB"]
    return table([*header, "sender CPU ms/operation", "of it kernel"], rows)


def growth_table(results: Sequence[PeerResult]) -> str:
    """One row for each archive and figure of a soak; empty without one."""
    rows: list[list[object]] = [
        [
            result.name,
            f"{one.name}, {one.unit}" if one.unit else one.name,
            one.first,
            one.last,
            f"{one.per_hour:+.3g}",
            one.limit,
            "GROWS" if one.grows else "steady",
        ]
        for result in results
        for one in result.growth
    ]
    return table(["archive", "figure", "at first", "at last", "growth/h", "allowed/h", "verdict"], rows) if rows else ""


def plain(result: PeerResult) -> dict[str, Any]:
    """For JSON."""
    return asdict(result) | {"growth": [asdict(one) | {"grows": one.grows} for one in result.growth]}
