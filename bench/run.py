"""Run a scenario file against one or several archives: mixed work in open and closed loops, steps, soaks.

Starts each archive in an empty folder, or measures one that runs already (--also AET@HOST:PORT), checks that what was
acknowledged is there, and writes tables, JSON and plots.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from bench import plots
from bench.engine import Address
from bench.fleet import Fleet, Phase, Progress, Report, prefilling
from bench.growth import judged
from bench.ingest import count_syncs, peer_makers
from bench.monitor import Monitor
from bench.peers import HOST, PEERS, Fastarchive, Peer, StoreScp
from bench.pinning import pinned
from bench.process import processor_seconds, wait_idle
from bench.report import figure, machine, progress, write_json
from bench.results import (
    PeerResult,
    PhaseResult,
    course_of,
    faults_of,
    figures_of,
    growth_table,
    plain,
    server_table,
    work_table,
)
from bench.scenario import EXAMPLES, Scenario, Share, Soak, Step, load

_SETTLE = 15.0
"""Seconds a server gets to finish what it does after its last answer."""


class MoveSink(StoreScp):
    """Where archives send what C-MOVE asks for: it takes everything and keeps nothing."""

    name = "sink"
    ae_title = "BENCHSINK"
    options: ClassVar[tuple[str, ...]] = ("--fork", "+xa", "-pdu", "131072", "--ignore")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench run`."""
    examples = ", ".join(sorted(path.stem for path in EXAMPLES.glob("*.toml")))
    parser.add_argument("scenario", help=f"a TOML file, or one of {examples}")
    parser.add_argument("--peers", default="fastarchive", help="archives to start, of " + ", ".join(PEERS))
    parser.add_argument(
        "--also", action="append", default=[], metavar="AET@HOST:PORT", help="a server that runs already"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a key, e.g. work.0.rate=90"
    )
    parser.add_argument("--report", type=Path, help="folder for report.md, result.json and the plots; made if missing")
    parser.add_argument("--cores", default="", help="pin the servers to so many cores in turn, e.g. 1,2")
    parser.add_argument("--processes", type=int, default=1, help="sender processes")
    parser.add_argument("--calling", default="BENCH", help="AE title of the senders")
    parser.add_argument("--sink-port", type=int, default=0, help=f"port of {MoveSink.ae_title}, where C-MOVE sends to")
    parser.add_argument("--workers", type=int, help="worker processes of fastarchive")
    parser.add_argument(
        "--check", action=argparse.BooleanOptionalAction, default=True, help="look for what was acknowledged"
    )
    parser.add_argument(
        "--syncs",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="also count sync calls, in a run under strace",
    )
    parser.set_defaults(seed=None)


def run(options: argparse.Namespace) -> int:
    """Run it; 1 when fastarchive lost something, answered wrongly, or a soak found growth."""
    return measure_all(load(options.scenario, options.set), options)


def measure_all(scenario: Scenario, options: argparse.Namespace) -> int:
    """Run a scenario against all archives the options name; 1 as `run` does."""
    seed = options.seed if options.seed is not None else scenario.seed
    seed = random.randrange(1, 1_000_000) if seed is None else seed
    makers = peer_makers(options)
    cores: list[int | None] = [int(count) for count in filter(None, options.cores.split(","))]
    results: list[PeerResult] = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as place, ExitStack() as stack:
        destinations = {}
        if any(work.kind == "move" for work in scenario.work):
            sink = MoveSink(Path(place) / "sink")
            sink.dicom_port = options.sink_port
            stack.enter_context(sink)
            destinations[sink.ae_title] = (HOST, sink.dicom_port)
        for count in cores or [None]:
            for name, make in makers.items():
                folder = Path(place) / "archive"
                peer = make(folder, True)
                peer.destinations |= destinations
                peer.calling = options.calling
                if count is not None:
                    peer.prefix = pinned(count)
                progress(f"{name}{f', pinned to {count} of the cores' if count else ''}: {scenario.title}, seed {seed}")
                with peer:
                    results.append(Measurement(peer, scenario, seed, options).run(count))
                shutil.rmtree(folder, ignore_errors=True)
        if options.syncs:
            for name in filter(PEERS.__contains__, makers):
                progress(f"{name}: counting sync calls")
                store = next(work for work in scenario.work if work.kind == "store")
                counted = count_syncs(makers[name](Path(place) / "traced", True), store.associations, small=store.small)
                shutil.rmtree(Path(place) / "traced", ignore_errors=True)
                for result in results:
                    if result.peer == name:
                        result.syncs = str(counted)
    text = report_text(scenario, seed, results)
    print("\n" + text)
    document = [plain(result) for result in results]
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        pictures = []
        try:
            pictures = plots.write(results, scenario.title, options.report)
        except plots.NoPlots as error:
            progress(str(error))
        (options.report / "report.md").write_text(text + "".join(f"\n![{one.stem}]({one.name})\n" for one in pictures))
        write_json(options.report / "result.json", scenario.title, _settings(scenario, seed), document)
        progress(f"report, JSON and {len(pictures)} plots in {options.report}")
    if options.json:
        write_json(options.json, scenario.title, _settings(scenario, seed), document)
    return 1 if any(one.failed for one in results if one.peer == Fastarchive.name or len(makers) == 1) else 0


def _settings(scenario: Scenario, seed: int) -> dict[str, object]:
    return {"scenario": scenario.model_dump(mode="json"), "seed": seed}


class Measurement:
    """One scenario against one running archive."""

    def __init__(self, peer: Peer, scenario: Scenario, seed: int, options: argparse.Namespace) -> None:
        self._peer = peer
        self._scenario = scenario
        self._options = options
        self._phase = Phase(scenario, seed, scenario.duration, scenario.warm_up)
        self._result = PeerResult(peer.label, peer.remark, None)

    def run(self, cores: int | None = None) -> PeerResult:
        """All phases the mode has, and the check at the end. cores: that the server was pinned to."""
        peer, options = self._peer, self._options
        self._result.cores = cores
        address = Address(peer.host, peer.dicom_port, peer.ae_title, options.calling)
        with Fleet(address, processes=options.processes, destination=MoveSink.ae_title) as fleet:
            if self._scenario.prefill:
                with Live(f"{peer.label}: prefill") as live:
                    prefilled = fleet.run(prefilling(self._phase), live)
                if faults := sum(sum(tally.faults.values()) for tally in prefilled.tallies):
                    progress(f"{peer.label}: {faults} faults while it was filled: {prefilled.tallies[0].faults}")
                if peer.pid is not None:
                    wait_idle(peer.pid, _SETTLE)
            match self._scenario.mode:
                case Step() as mode:
                    self._steps(fleet, mode)
                case Share() as mode:
                    self._shares(fleet, mode)
                case Soak() as mode:
                    self._soak(fleet, mode)
                case _:
                    self._one(fleet, self._phase, "closed" if not self._scenario.store_rate else "open")
            if options.check:
                self._check(fleet)
        if any(one.wrong for phase in self._result.phases for one in phase.figures):
            self._result.failed = True
        return self._result

    def _one(self, fleet: Fleet, phase: Phase, label: str, *, interval: float = 0.5) -> PhaseResult:
        """Run a phase and note its result."""
        peer = self._peer
        before = processor_seconds(peer.pid) if peer.pid is not None else 0.0
        with Monitor(peer.pid, interval=interval, inventory=peer.inventory) as monitor:
            with Live(f"{peer.label}: {label}") as live:
                report = fleet.run(phase, live)
            ended = time.monotonic()
        if peer.pid is not None:
            wait_idle(peer.pid, _SETTLE)
        used = processor_seconds(peer.pid) - before if peer.pid is not None else 0.0
        result = self._summed_up(phase, label, report, monitor, used=used, ended=ended)
        self._result.phases.append(result)
        if result.store:
            one = result.store
            progress(
                f"{peer.label}: {label}: {figure(one.items_per_second)} instances/s, "
                f"p50 {figure(one.latency_ms['p50'])} ms, p99 {figure(one.latency_ms['p99'])} ms"
                + (f"; {faults}" if (faults := faults_of(result.figures)) else "")
            )
        return result

    def _summed_up(
        self, phase: Phase, label: str, report: Report, monitor: Monitor, *, used: float, ended: float
    ) -> PhaseResult:
        stored = sum(interval.items for tally in report.stores for interval in tally.course.values())
        operations = sum(interval.done for tally in report.tallies for interval in tally.course.values())
        watched = self._peer.pid is not None
        course = course_of(monitor.samples, report.start)
        busy = [point["cores"] for point in course if phase.warm_up <= point["second"] <= phase.seconds]
        return PhaseResult(
            peer=self._peer.label,
            label=label,
            cores=self._result.cores,
            offered=phase.scenario.store_rate or None,
            seconds=phase.seconds,
            figures=[
                figures_of(tally, work.rate) for tally, work in zip(report.tallies, phase.scenario.work, strict=True)
            ],
            processor_ms=used * 1e3 / stored if watched and stored else None,
            sender_ms=report.processor * 1e3 / max(operations, 1),
            sender_kernel_ms=report.system * 1e3 / max(operations, 1),
            peak_memory_mb=max(one.memory for one in monitor.samples) / 2**20 if watched else None,
            cores_used=sum(busy) / len(busy) if busy else None,
            course=[point for point in course if point["second"] <= ended - report.start],
        )

    # ---------------------------------------------------------------- modes

    def _steps(self, fleet: Fleet, mode: Step) -> None:
        best: float | None = None
        broke = ""
        for number in range(mode.steps):
            scenario = self._scenario.scaled(mode.factor**number)
            offered = scenario.store_rate
            phase = replace(self._phase, scenario=scenario, seconds=mode.seconds + self._phase.warm_up, grace=5.0)
            result = self._one(fleet, phase, f"{offered:.4g}/s")
            broke = reason_broken(result, mode)
            if broke:
                broke = f"; at {figure(offered)}/s {broke}"
                break
            best = offered
        goal = f"{100 * mode.percentile:g} % within {mode.objective_ms:g} ms"
        self._result.verdict = (
            f"{goal} up to {figure(best)} instances/s{broke}" if best else f"{goal} at no rate that was tried{broke}"
        )

    def _shares(self, fleet: Fleet, mode: Share) -> None:
        closed = replace(
            self._phase, scenario=self._scenario.closed(), seconds=mode.ceiling_seconds + self._phase.warm_up
        )
        found = self._one(fleet, closed, "ceiling")
        ceiling = sum(one.items_per_second for one in found.figures if one.kind == "store")
        if not ceiling:
            self._result.verdict = "nothing was stored"
            self._result.failed = True
            return
        parts = []
        for share in mode.shares:
            scenario = self._scenario.scaled(share * ceiling / self._scenario.store_rate)
            result = self._one(fleet, replace(self._phase, scenario=scenario), f"{100 * share:g} %")
            if result.store:
                latency = result.store.latency_ms
                parts.append(
                    f"at {100 * share:g} % of the ceiling ({figure(scenario.store_rate)}/s) p50 "
                    f"{figure(latency['p50'])}, p99 {figure(latency['p99'])}, p99.9 {figure(latency['p99.9'])} ms"
                )
        self._result.verdict = f"ceiling {figure(ceiling)} instances/s; " + "; ".join(parts)

    def _soak(self, fleet: Fleet, mode: Soak) -> None:
        result = self._one(fleet, self._phase, "soak", interval=mode.interval)
        latencies = {one.name: one.course for one in result.figures if one.kind in ("store", "find")}
        self._result.growth = list(judged(result.course, latencies, mode, self._phase.warm_up))
        growing = [one.name for one in self._result.growth if one.grows]
        self._result.verdict = f"grows: {', '.join(growing)}" if growing else "nothing grows"
        if not self._result.growth:
            self._result.verdict = "too short to judge growth"
        self._result.failed |= bool(growing) or not self._result.growth

    # ---------------------------------------------------------------- the check

    def _check(self, fleet: Fleet) -> None:
        """Is what was acknowledged there? Not finding it fails the run."""
        acknowledged = list(fleet.acknowledged())
        self._result.acknowledged = len(acknowledged)
        if not acknowledged:
            return
        try:
            held = self._peer.held_of(acknowledged)
        except OSError as error:
            self._result.verdict += f"{'; ' if self._result.verdict else ''}could not be checked: {error}"
            return
        self._result.missing = sum(1 for _, _, instance in acknowledged if instance not in held)
        self._result.failed |= self._result.missing > 0


def reason_broken(result: PhaseResult, mode: Step) -> str:
    """Why a step didn't keep the objective; empty when it did."""
    one = result.store
    if one is None or not one.done:
        return "nothing was stored"
    if any(store.unsent or store.faults for store in result.figures if store.kind == "store"):
        return faults_of([store for store in result.figures if store.kind == "store"])
    latency = percentile_ms(one.histogram, mode.percentile)
    if latency > mode.objective_ms:
        return f"{100 * mode.percentile:g} % took {figure(latency)} ms"
    return ""


def percentile_ms(histogram: dict[str, object], fraction: float) -> float:
    """A percentile of a histogram as it stands in results, in milliseconds."""
    from bench.histogram import Histogram

    return Histogram.from_dict(histogram).percentile(fraction) * 1e3


class Live:
    """One line about a phase: renewed every second on a terminal, now and then elsewhere."""

    _EVERY = 15.0

    def __init__(self, title: str) -> None:
        self._title = title
        self._terminal = sys.stderr.isatty()
        self._before: dict[str, int] = {}
        self._elapsed = 0.0
        self._said = 0.0

    def __enter__(self) -> Callable[[Progress], bool]:
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _show(self, now: Progress) -> bool:
        seconds = max(now.elapsed - self._elapsed, 1e-3)
        if not self._terminal and now.elapsed - self._said < self._EVERY:
            return True
        parts = [
            f"{name} {figure((count - self._before.get(name, 0)) / seconds)}/s" for name, count in now.items.items()
        ]
        line = f"{self._title}: {now.elapsed:.0f} s, {', '.join(parts)}, {now.faults} faults"
        if self._terminal:
            print(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)
        else:
            progress(line)
        self._before, self._elapsed, self._said = now.items, now.elapsed, now.elapsed
        return True


def report_text(scenario: Scenario, seed: int, results: list[PeerResult]) -> str:
    """The whole report in Markdown."""
    where = machine()
    lines = [
        f"# {scenario.title}",
        "",
        f"{where['cores']} cores ({where['processor']}), {where['memory_mb']:,} MB, Linux {where['kernel']}, Python "
        f"{where['python']}; senders on the same machine as the servers it started; seed {seed}.",
        "",
        work_table(results),
        "",
        "Latency counts from the moment an operation was meant to begin. *items* are instances of C-STORE, C-GET and "
        "C-MOVE, and answers of C-FIND.",
        "",
        server_table(results),
        "",
    ]
    if growth := growth_table(results):
        lines += [growth, ""]
    for result in results:
        found = "not looked for"
        if result.missing is not None:
            found = f"{result.missing} missing" if result.missing else "all found"
        lines.append(f"- {result.name} ({result.remark}): {result.acknowledged:,} acknowledged, {found}.")
        if result.syncs:
            lines.append(f"  Counted under strace: {result.syncs}.")
        if result.verdict:
            lines.append(f"  {result.verdict[:1].upper()}{result.verdict[1:]}.")
    return "\n".join(lines) + "\n"
