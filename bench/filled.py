"""Does an archive take in less when it is full? The same load to an empty archive and to filled ones, in turn.

A filled archive is measured through a copy that is made for each run, so that every run finds it as it was; the folder
itself is never written to.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from bench.copies import copied
from bench.ingest import Outcome, measure, measure_own, plain
from bench.large import is_indexed
from bench.loads import Loads
from bench.modality import Modality
from bench.peers import PEERS, Fastarchive, Peer
from bench.pinning import pinned
from bench.process import wait_idle
from bench.report import figure, middle, progress, table, write_json
from bench.senders import DcmSend, StoreScu

_MOVABLE = [name for name, kind in PEERS.items() if kind.movable]
_SETTLE = 60.0
EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Filled:
    """One run."""

    state: str
    """`empty`, or the folder."""
    repeat: int
    held: int
    """Instances the archive held when it started, where that is known."""
    ready_seconds: float
    outcome: Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench filled`."""
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="data folder of a filled archive")
    parser.add_argument("--peer", choices=_MOVABLE, default=Fastarchive.name, help="whose folders they are")
    parser.add_argument("--sender", choices=["dcmsend", "storescu", "own"], default="own", help="what sends")
    parser.add_argument("--processes", type=int, default=1, help="sender processes, for --sender own")
    parser.add_argument("--associations", type=int, default=8, help="at once")
    parser.add_argument("--slices", type=int, default=2000, help="instances sent in each run")
    parser.add_argument("--warm-up", type=int, default=200, help="instances before that, which count nowhere")
    parser.add_argument("--small", action="store_true", help="10 KB instances instead of full size")
    parser.add_argument("--modality", type=Modality, choices=list(Modality), default=Modality.CT, help="what is sent")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, in turn")
    parser.add_argument("--within", type=float, default=10.0, metavar="PERCENT", help="how much slower it may be")
    parser.add_argument("--cores", type=int, help="pin the archive to so many cores")
    parser.add_argument("--workers", type=int, help="worker processes of fastarchive (default: as it decides)")
    parser.set_defaults(replay=None)


def run(options: argparse.Namespace) -> int:
    """Measure and print; 1 when an archive lost what it had acknowledged."""
    runs: list[Filled] = []
    for folder in options.folders:
        if options.peer == Fastarchive.name and not is_indexed(folder):
            raise RuntimeError(f"{folder} has no index of this version: fastarchive reindex --data {folder}")
    states = [EMPTY, *map(str, options.folders)]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as place:
        # Other instances each time: a filled archive may know those of an earlier one.
        loads = Loads(Path(place) / "load", options, streams=options.associations, anew=True)
        for repeat in range(options.repeats):
            turn = repeat % len(states)
            for number, state in enumerate(states[turn:] + states[:turn]):
                seed = loads.seed(len(states) * repeat + number)
                one = replace(measure_state(state, Path(place), loads, seed, options), repeat=repeat)
                runs.append(one)
                cost = figure(one.outcome.processor_ms_per_slice or 0)
                progress(
                    f"{repeat + 1}/{options.repeats} {state}: {one.held:,} held; {one.ready_seconds:.1f} s to ready, "
                    f"{figure(one.outcome.slices_per_second)}/s, {cost} ms"
                )
    what = "10 KB" if options.small else str(options.modality)
    print(
        f"\n{options.slices} instances ({what}) over {options.associations} associations in each run, medians of "
        f"{options.repeats}, ratios within a repeat; `{options.sender}` on the same machine\n"
    )
    print(summary_table(runs, options.within))
    if options.json:
        write_json(options.json, "filled", plain(options), [asdict(one) for one in runs])
    return 1 if any(one.outcome.missing for one in runs) else 0


def measure_state(state: str, place: Path, loads: Loads, seed: int, options: argparse.Namespace) -> Filled:
    """Start an archive in one state and send to it."""
    with _started(state, place / "archive", options) as (peer, held, ready):
        shared = {"nodelay": True, "small": options.small, "modality": options.modality}
        # Connections, caches and the first pack are there then. What wakes it up has patients of its own.
        if options.warm_up:
            measure_own(peer, options.warm_up, options.associations, seed=seed + 500_000, **shared)
        if options.sender == "own":
            outcome = measure_own(
                peer, options.slices, options.associations, seed=seed, processes=options.processes, **shared
            )
        else:
            sender = StoreScu if options.sender == "storescu" else DcmSend
            outcome = measure(peer, loads.load(seed), options.associations, nodelay=True, sender=sender)
    return Filled(state, 0, held, ready, replace(outcome, cores=options.cores, held_before=held))


@contextmanager
def _started(state: str, folder: Path, options: argparse.Namespace) -> Iterator[tuple[Peer, int, float]]:
    """The archive, how many instances it held, and how long it took to start."""
    kind = PEERS[options.peer]
    if issubclass(kind, Fastarchive):
        # Nothing is to be read in the background that isn't asked for.
        peer: Peer = kind(folder, workers=options.workers, options=["--verify-days", "0"])
    else:
        peer = kind(folder)
    if options.cores:
        peer.prefix = pinned(options.cores)
    with _in_place(state, peer):
        held = (peer.count() or 0) if state != EMPTY else 0
        begun = time.monotonic()
        with peer:
            ready = time.monotonic() - begun
            assert peer.pid is not None
            wait_idle(peer.pid, _SETTLE)
            yield peer, held, ready


@contextmanager
def _in_place(state: str, peer: Peer) -> Iterator[None]:
    if state != EMPTY:
        with copied(Path(state), peer.directory, peer.frozen):
            yield
        return
    with tempfile.TemporaryDirectory(dir=peer.directory.parent) as empty:
        peer.directory = Path(empty) / "archive"
        yield


def summary_table(runs: Sequence[Filled], within: float) -> str:
    """One row for each state; the ratios are medians of those within each repeat, which a slow minute hits alike."""
    rows: list[list[object]] = []
    empty = {one.repeat: one.outcome for one in runs if one.state == EMPTY}
    for state in dict.fromkeys(one.state for one in sorted(runs, key=lambda one: one.held)):
        group = [one for one in runs if one.state == state]
        outcomes = [one.outcome for one in group]
        costs = [one.processor_ms_per_slice for one in outcomes if one.processor_ms_per_slice]
        memory = [one.peak_memory_mb for one in outcomes if one.peak_memory_mb]
        faster = [one.outcome.slices_per_second / empty[one.repeat].slices_per_second for one in group]
        dearer = [
            cost / before
            for one in group
            if (cost := one.outcome.processor_ms_per_slice) and (before := empty[one.repeat].processor_ms_per_slice)
        ]
        rate = median(faster)
        rows.append(
            [
                state,
                f"{group[0].held:,}",
                figure(middle([one.slices_per_second for one in outcomes])),
                "" if state == EMPTY else f"{100 * rate:.0f} %",
                middle(costs) if costs else None,
                "" if state == EMPTY or not dearer else f"{100 * median(dearer):.0f} %",
                middle([one.latency_p50_ms for one in outcomes]),
                middle([one.latency_p99_ms for one in outcomes]),
                figure(middle(memory)) if memory else None,
                f"{middle([one.ready_seconds for one in group]):.1f}",
                sum(one.sent - one.acknowledged for one in outcomes),
                sum(one.missing for one in outcomes),
                "" if state == EMPTY else ("yes" if rate >= 1 - within / 100 else "NO"),
            ]
        )
    header = [
        "archive",
        "held before",
        "stored/s",
        "of empty",
        "CPU ms each",
        "of empty",
        "p50 ms",
        "p99 ms",
        "peak MB",
    ]
    return table([*header, "ready s", "refused", "missing", f"within {within:g} %"], rows)
