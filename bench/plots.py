"""Results as pictures (PNG). Needs matplotlib, which only the extra `bench` brings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.growth import reduced
from bench.histogram import Histogram
from bench.results import PeerResult, PhaseResult

# Told apart in print, and by those who don't see red and green (Okabe and Ito's palette).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", ":", "-.")
_MOST_CURVES = 12
_LAST_PHASES = 3
"""Of each archive in the plot of percentiles: of many steps, those around the rate at which it gave way."""


class NoPlots(RuntimeError):
    """matplotlib isn't installed."""


def write(results: Sequence[PeerResult], title: str, directory: Path) -> list[Path]:
    """Every plot that the results allow; the paths. Raises NoPlots without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise NoPlots("no plots: matplotlib isn't installed (pip install matplotlib)") from None
    mpl.use("Agg")
    made = []
    for name, draw in (
        ("course", _course),
        ("percentiles", _percentiles),
        ("server", _server),
        ("steps", _steps),
        ("soak", _soak),
    ):
        path = directory / f"{name}.png"
        if draw(results, title, path):
            made.append(path)
    return made


@contextmanager
def _figure(path: Path, title: str, panels: int = 1) -> Iterator[Any]:
    """Axes below each other, saved at the end."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        panels, 1, figsize=(10, 1.2 + 3.4 * panels), sharex=panels > 1, layout="constrained", squeeze=False
    )
    figure.suptitle(title, fontsize=13)
    try:
        yield axes[:, 0]
        for one in axes[:, 0]:
            one.grid(True, which="major", color="#dddddd", linewidth=0.7)
            one.set_axisbelow(True)
            for side in ("top", "right"):
                one.spines[side].set_visible(False)
        figure.savefig(path, dpi=110)
    finally:
        pyplot.close(figure)


def _strung(result: PeerResult, course: Callable[[PhaseResult], list[dict[str, float]]], key: str) -> Any:
    """Times and values of all phases behind each other; a gap (NaN) keeps phases apart."""
    times: list[float] = []
    values: list[float] = []
    begin = 0.0
    for phase in result.phases:
        points = [point for point in course(phase) if key in point and 0 <= point["second"] < _length(phase) - 1]
        if begin and points:
            times.append(begin)
            values.append(math.nan)
        times += [begin + point["second"] for point in points]
        values += [point[key] for point in points]
        begin += _length(phase)
    return times, values


def _length(phase: PhaseResult) -> float:
    # A work item that is limited by a number may be done before the time is over.
    return min(max([point["second"] for one in phase.figures for point in one.course] + [0.0]) + 1, phase.seconds) + 1


def _mark_phases(axes: Any, results: Sequence[PeerResult]) -> None:
    """Where each phase of the archive with most of them begins, and what it is."""
    longest = max(results, key=lambda result: len(result.phases))
    if len(longest.phases) < 2:
        return
    begin = 0.0
    for number, phase in enumerate(longest.phases):
        for one in axes:
            if number:
                one.axvline(begin, color="#999999", linewidth=0.8, linestyle=":")
        axes[0].annotate(
            phase.label,
            (begin, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2),
            textcoords="offset points",
            fontsize=8,
            color="#555555",
            va="top",
            rotation=0 if len(longest.phases) < 6 else 90,
        )
        begin += _length(phase)


def _course(results: Sequence[PeerResult], title: str, path: Path) -> bool:
    """Throughput and latency of C-STORE over time."""

    def course(phase: PhaseResult) -> list[dict[str, float]]:
        return phase.store.course if phase.store else []

    if not any(course(phase) for result in results for phase in result.phases):
        return False
    with _figure(path, title, panels=2) as (throughput, latency):
        for number, result in enumerate(results):
            colour = _COLOURS[number % len(_COLOURS)]
            throughput.plot(*_strung(result, course, "per_second"), color=colour, label=result.name, linewidth=1.4)
            latency.plot(*_strung(result, course, "p99_ms"), color=colour, linewidth=1.2)
            latency.plot(*_strung(result, course, "p50_ms"), color=colour, linewidth=1.2, linestyle="--")
        throughput.set_ylabel("instances stored a second")
        throughput.set_ylim(bottom=0)
        # Room above the lines for the names of the phases.
        throughput.set_ylim(top=throughput.get_ylim()[1] * 1.12)
        throughput.legend(loc="lower right", fontsize=9)
        latency.set_yscale("log")
        latency.set_ylabel("latency of C-STORE, ms\n(solid: 99 %, dashed: 50 %)")
        latency.set_xlabel("seconds")
        _plain_numbers(latency)
        _mark_phases((throughput, latency), results)
    return True


def _percentiles(results: Sequence[PeerResult], title: str, path: Path) -> bool:
    """Latency by percentile, stretched towards 100 % as HDR plots are."""
    curves = [
        (f"{result.name}: {phase.label}, {one.name}", number, style, one)
        for number, result in enumerate(results)
        for style, phase in enumerate(result.phases[-_LAST_PHASES:])
        for one in phase.figures
        if one.done
    ]
    if len(curves) > _MOST_CURVES:
        curves = [curve for curve in curves if curve[3].kind == "store"]
    if not curves:
        return False
    with _figure(path, title) as (axes,):
        axes.figure.set_size_inches(10, 6)
        deepest = 100.0
        kinds = list(dict.fromkeys(one.name for _, _, _, one in curves))
        for label, number, style, one in curves:
            histogram = Histogram.from_dict(one.histogram)
            deepest = max(deepest, histogram.count)
            points = [(1 / max(1 - fraction, 0.5 / histogram.count), ms * 1e3) for fraction, ms in histogram.curve()]
            colour, line = _look(number, style, kinds.index(one.name), archives=len(results), kinds=len(kinds))
            axes.step(
                *zip(*points, strict=True),
                where="pre",
                label=label,
                color=colour,
                linestyle=line,
                linewidth=1.4,
                marker="o" if len(points) < 20 else "",
                markersize=4,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        ticks = [1.0, 2.0, *(10.0**power for power in range(1, int(math.log10(deepest)) + 1))]
        axes.set_xticks(ticks, ["0", "50 %", *(f"{100 - 100 / tick:.6g} %" for tick in ticks[2:])])
        axes.minorticks_off()
        axes.set_xlim(1, deepest * 2)
        axes.set_xlabel("percentile of operations")
        axes.set_ylabel("latency from the intended start, ms")
        _plain_numbers(axes)
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, -0.12), ncols=2, frameon=False)
    return True


def _look(archive: int, phase: int, kind: int, *, archives: int, kinds: int) -> tuple[str, str]:
    """Colour and style of a curve: what there is more than one of tells them apart, archives by colour first."""
    secondary = kind if kinds > 1 else phase
    if archives > 1:
        return _COLOURS[archive % len(_COLOURS)], _STYLES[secondary % len(_STYLES)]
    return _COLOURS[secondary % len(_COLOURS)], _STYLES[phase % len(_STYLES)] if kinds > 1 else "-"


def _server(results: Sequence[PeerResult], title: str, path: Path) -> bool:
    """Processor and memory of the server over time."""
    watched = [result for result in results if any(phase.course for phase in result.phases)]
    if not watched:
        return False
    with _figure(path, title, panels=2) as (processor, memory):
        for number, result in enumerate(results):
            if result not in watched:
                continue
            colour = _COLOURS[number % len(_COLOURS)]
            processor.plot(
                *_strung(result, lambda phase: phase.course, "cores"), color=colour, label=result.name, linewidth=1.2
            )
            memory.plot(*_strung(result, lambda phase: phase.course, "memory_mb"), color=colour, linewidth=1.4)
            memory.plot(
                *_strung(result, lambda phase: phase.course, "anonymous_mb"),
                color=colour,
                linewidth=1.0,
                linestyle="--",
            )
        processor.set_ylabel("cores kept busy by the server")
        processor.set_ylim(bottom=0)
        processor.set_ylim(top=processor.get_ylim()[1] * 1.12)
        processor.legend(loc="lower right", fontsize=9)
        memory.set_ylabel("memory of the server, MB\n(solid: all, dashed: without files)")
        memory.set_ylim(bottom=0)
        memory.set_xlabel("seconds")
        _mark_phases((processor, memory), watched)
    return True


def _steps(results: Sequence[PeerResult], title: str, path: Path) -> bool:
    """Latency over the offered rate."""
    stepped = {
        result.name: [(phase.offered, phase.store) for phase in result.phases if phase.offered and phase.store]
        for result in results
    }
    if not any(len(points) > 2 for points in stepped.values()):
        return False
    with _figure(path, title) as (axes,):
        axes.figure.set_size_inches(10, 5.5)
        for number, (name, points) in enumerate(stepped.items()):
            colour = _COLOURS[number % len(_COLOURS)]
            for percentile, style in (("p50", "--"), ("p99", "-")):
                axes.plot(
                    [offered for offered, _ in points],
                    [store.latency_ms[percentile] for _, store in points],
                    color=colour,
                    linestyle=style,
                    marker="o",
                    markersize=4,
                    label=f"{name}, {percentile[1:]} %",
                )
        axes.set_yscale("log")
        _plain_numbers(axes)
        axes.set_xlim(left=0)
        axes.set_xlabel("instances offered a second")
        axes.set_ylabel("latency of C-STORE, ms")
        axes.legend(fontsize=9)
    return True


def _soak(results: Sequence[PeerResult], title: str, path: Path) -> bool:
    """What may not grow, over time; a figure that does is marked in its title."""
    judged = [result for result in results if result.growth]
    if not judged:
        return False
    watched = (("memory of its own", "anonymous_mb"), ("descriptors", "descriptors"), ("threads", "threads"),
               ("index segments", "segments"))  # fmt: skip
    shown = [(name, key) for name, key in watched if any(key in point for one in judged for point in _samples(one))]
    items = list(dict.fromkeys(one.name for one in judged[0].phases[0].figures if one.kind in ("store", "find")))
    with _figure(path, title, panels=len(shown) + len(items)) as axes:
        axes[0].figure.set_size_inches(10, 1.2 + 2.0 * len(axes))
        for number, result in enumerate(judged):
            colour = _COLOURS[number % len(_COLOURS)]
            for one, (_, key) in zip(axes, shown, strict=False):
                points = [(point["second"], point[key]) for point in _samples(result) if key in point]
                one.plot(*zip(*points, strict=True), color=colour, linewidth=1.3, label=result.name)
                one.set_ylim(bottom=0)
            for one, item in zip(axes[len(shown) :], items, strict=True):
                course = next((each.course for each in result.phases[0].figures if each.name == item), [])
                for key, style in (("p99_ms", "-"), ("p50_ms", "--")):
                    medians = reduced([(point["second"], point[key]) for point in course], 120)
                    one.plot(*zip(*medians, strict=True), color=colour, linewidth=1.2, linestyle=style)
                one.set_ylim(bottom=0)
        for one, (name, _) in zip(axes, shown, strict=False):
            one.set_ylabel(name + (", MB" if name.startswith("memory") else ""), fontsize=9)
            _mark_growth(one, judged, name)
        for one, item in zip(axes[len(shown) :], items, strict=True):
            one.set_ylabel(f"{item}, ms\n(solid 99 %, dashed 50 %)", fontsize=9)
            _mark_growth(one, judged, item)
        axes[0].legend(loc="lower right", fontsize=9)
        axes[-1].set_xlabel("seconds")
    return True


def _samples(result: PeerResult) -> list[dict[str, float]]:
    return [point for point in result.phases[0].course if point["second"] >= 0]


def _mark_growth(axes: Any, results: Sequence[PeerResult], what: str) -> None:
    """The growth an hour and the verdict of what one panel shows, in its corner."""
    lines = [
        f"{result.name + ': ' if len(results) > 1 else ''}{one.name}: {one.per_hour:+.3g}/h, "
        f"{one.limit:.3g}/h allowed{': GROWS' if one.grows else ''}"
        for result in results
        for one in result.growth
        if one.name == what or one.name.endswith(f" of {what}")
    ]
    axes.set_title("\n".join(lines), fontsize=8, loc="left", color="#555555")


def _plain_numbers(axes: Any) -> None:
    """1, 10, 100 at a logarithmic axis instead of powers of ten; 2 and 5 between them when it is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    low, high = axes.get_ylim()
    several = (1.0,) if high > 10_000 * low else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(subs=several))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda _value, _: ""))
