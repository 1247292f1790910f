"""How many slices a second an archive takes in, and what each costs it."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from bench.engine import Address
from bench.fleet import Fleet, Phase
from bench.loads import FOREVER, Kept, Load, Loads
from bench.meter import Meter
from bench.modality import Modality
from bench.peers import PEERS, Elsewhere, Fastarchive, Peer
from bench.pinning import pinned
from bench.process import percentile
from bench.report import figure, middle, progress, ratio, table, write_json
from bench.scenario import Scenario, StoreWork
from bench.senders import DcmSend, Sent, StoreScu
from bench.syncs import Syncs, end_traced, syncs_in, traced


@dataclass(frozen=True, slots=True)
class Way:
    """Which archive, and how it is sent to."""

    peer: str
    associations: int
    nodelay: bool


@dataclass(frozen=True, slots=True)
class Outcome(Way):
    """One run."""

    sent: int
    acknowledged: int
    missing: int
    """Acknowledged with 0000, and not found afterwards."""
    seconds: float
    """From the first C-STORE request to the last response."""
    slices_per_second: float
    processor_ms_per_slice: float | None
    peak_memory_mb: float | None
    latency_p50_ms: float
    latency_p99_ms: float
    sender: str = "dcmsend"
    cores: int | None = None
    """Cores the server was pinned to; None when it had all."""
    held_before: int | None = None
    """Instances it held before, when it was filled or prefilled."""


def measure(peer: Peer, load: Load, associations: int, *, nodelay: bool, sender: type[DcmSend] = DcmSend) -> Outcome:
    """Send the load to a running peer and check that it holds what it acknowledged."""
    with Meter(peer.pid) as meter:
        sending = sender(peer.host, peer.dicom_port, load.shares(associations), called=peer.ae_title, nodelay=nodelay)
        sent = sending.result()
    # By file: some files name another instance in their File Meta Information than in their data set.
    known = load.instances
    acknowledged = {known[one.path][2] if one.path in known else one.sop_instance for one in sent if one.acknowledged}
    held = peer.held_of(known.values())
    way = Way(peer.label, associations, nodelay)
    outcome = summarise(way, sent, missing=len(acknowledged - held), meter=meter)
    return replace(outcome, sender=sender.program)


def measure_own(
    peer: Peer,
    count: int,
    associations: int,
    *,
    nodelay: bool,
    small: bool,
    seed: int,
    modality: Modality = Modality.CT,
    processes: int = 1,
) -> Outcome:
    """The same through the harness' own sender: any number of associations from one process or several, nothing read
    from files."""
    work = StoreWork(
        kind="store", modalities=[modality], small=small, associations=associations, instances=count, nagle=not nodelay
    )
    scenario = Scenario(title="ingest", duration=FOREVER, warm_up=0.0, work=[work])
    with Fleet(Address(peer.host, peer.dicom_port, peer.ae_title), processes=processes) as fleet:
        with Meter(peer.pid) as meter:
            tally = fleet.run(Phase(scenario, seed, FOREVER)).tallies[0]
        acknowledged = list(fleet.acknowledged())
    held = peer.held_of(acknowledged)
    faults = sum(tally.faults.values())
    if faults:
        progress(f"{peer.label}: {dict(tally.faults)}")
    return Outcome(
        peer=peer.label,
        associations=associations,
        nodelay=nodelay,
        sent=tally.done + faults,
        acknowledged=tally.done,
        missing=sum(instance not in held for _, _, instance in acknowledged),
        seconds=tally.seconds,
        slices_per_second=tally.rate,
        processor_ms_per_slice=meter.processor * 1000 / tally.done if tally.done and meter.peak_memory else None,
        peak_memory_mb=meter.peak_memory / 2**20 if meter.peak_memory else None,
        latency_p50_ms=tally.latency.percentile(0.5) * 1e3,
        latency_p99_ms=tally.latency.percentile(0.99) * 1e3,
        sender="own",
    )


def summarise(way: Way, sent: Sequence[Sent], *, missing: int, meter: Meter) -> Outcome:
    """The figures of one run."""
    good = [one for one in sent if one.acknowledged]
    seconds = max((one.end for one in good), default=0.0) - min((one.start for one in good), default=0.0)
    latencies = [(one.end - one.start) * 1000 for one in good]
    return Outcome(
        peer=way.peer,
        associations=way.associations,
        nodelay=way.nodelay,
        sent=len(sent),
        acknowledged=len(good),
        missing=missing,
        seconds=seconds,
        slices_per_second=len(good) / seconds if seconds else 0.0,
        processor_ms_per_slice=meter.processor * 1000 / len(good) if good and meter.peak_memory else None,
        peak_memory_mb=meter.peak_memory / 2**20 if meter.peak_memory else None,
        latency_p50_ms=percentile(latencies, 0.5),
        latency_p99_ms=percentile(latencies, 0.99),
    )


def summary_table(outcomes: Sequence[Outcome], reference: str) -> str:
    """One row for each archive and way of sending: medians over the repeats, and how the reference compares."""
    groups: dict[tuple[int, bool, int, str], list[Outcome]] = {}
    for outcome in outcomes:
        key = (outcome.cores or 0, not outcome.nodelay, outcome.associations, outcome.peer)
        groups.setdefault(key, []).append(outcome)
    rows: list[list[object]] = []
    order = list(dict.fromkeys(outcome.peer for outcome in outcomes))
    pinned_at_all = any(outcome.cores for outcome in outcomes)
    for (cores, nagle, associations, peer), group in sorted(
        groups.items(), key=lambda g: (*g[0][:3], order.index(g[0][3]))
    ):
        rate = middle([one.slices_per_second for one in group])
        ours = groups.get((cores, nagle, associations, reference))
        costs = [one.processor_ms_per_slice for one in group if one.processor_ms_per_slice is not None]
        memory = [one.peak_memory_mb for one in group if one.peak_memory_mb is not None]
        rows.append(
            [
                peer,
                *([cores] if pinned_at_all else []),
                associations,
                "Nagle" if nagle else "NODELAY",
                figure(rate),
                ratio(middle([one.slices_per_second for one in ours]), rate) if ours and peer != reference else "",
                middle(costs) if costs else None,
                figure(middle(memory)) if memory else None,
                middle([one.latency_p50_ms for one in group]),
                middle([one.latency_p99_ms for one in group]),
                sum(one.sent - one.acknowledged for one in group),
                sum(one.missing for one in group),
            ]
        )
    header = ["archive", *(["cores"] if pinned_at_all else []), "associations", "TCP", "slices/s", f"{reference} is"]
    return table([*header, "CPU ms/slice", "peak MB", "p50 ms", "p99 ms", "refused", "missing"], rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench ingest`."""
    switch = argparse.BooleanOptionalAction
    parser.add_argument("--peers", default="fastarchive,orthanc,dcmqrscp,storescp", help="of " + ", ".join(PEERS))
    parser.add_argument(
        "--also", action="append", default=[], metavar="AET@HOST:PORT", help="a server that runs already"
    )
    parser.add_argument("--sender", choices=["dcmsend", "storescu", "own"], default="dcmsend", help="what sends")
    parser.add_argument("--processes", type=int, default=1, help="sender processes, for --sender own")
    parser.add_argument("--associations", default="1,4,8", help="how many at once, each measured")
    parser.add_argument("--slices", type=int, default=400, help="instances sent in each run")
    parser.add_argument("--small", action="store_true", help="10 KB instances instead of full size")
    parser.add_argument("--modality", type=Modality, choices=list(Modality), default=Modality.CT, help="what is sent")
    parser.add_argument(
        "--replay", type=Path, metavar="FOLDER", help="send these files with fresh UIDs (not --sender own)"
    )
    parser.add_argument("--nagle", action=switch, default=True, help="also measure with Nagle on")
    parser.add_argument("--nodelay", action=switch, default=True, help="measure with TCP_NODELAY=1")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, of which the median counts")
    parser.add_argument("--cores", default="", help="pin the servers to so many cores in turn, e.g. 1,2")
    parser.add_argument("--fill", type=int, default=0, help="instances of 10 KB stored before anything is measured")
    parser.add_argument(
        "--prefilled", type=Path, metavar="FOLDER", help="archives in FOLDER/NAME, measured through copies"
    )
    parser.add_argument("--syncs", action=switch, default=False, help="also count sync calls, in a run under strace")
    parser.add_argument("--workers", type=int, help="worker processes of fastarchive (default: as it decides)")


def run(options: argparse.Namespace) -> int:
    """Measure and print; 1 when an archive lost what it had acknowledged."""
    counts = [int(count) for count in options.associations.split(",")]
    cores: list[int | None] = [int(count) for count in filter(None, options.cores.split(","))]
    if options.replay and options.sender == "own":
        raise RuntimeError("--replay is for dcmsend and storescu; `bench run` replays with the own sender")
    makers = peer_makers(options)
    ways = [way for way, wanted in ((True, options.nodelay), (False, options.nagle)) if wanted]
    outcomes: list[Outcome] = []
    counted: dict[str, Syncs] = {}
    size = 0.0
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as place:
        kept = Kept(options.prefilled or Path(place) / "filled", options) if options.fill or options.prefilled else None
        loads = Loads(Path(place) / "load", options, streams=max(counts), anew=kept is not None)
        for number, (repeat, pinning, nodelay, associations, name) in enumerate(
            product(range(options.repeats), cores or [None], ways, counts, makers)
        ):
            folder = Path(place) / "peer"
            peer = makers[name](folder, nodelay)
            if pinning is not None:
                peer.prefix = pinned(pinning)
            seed = loads.seed(number)
            with kept.place(name, makers[name], peer) if kept else nullcontext(), peer:
                if options.sender == "own":
                    outcome = measure_own(
                        peer, options.slices, associations,
                        nodelay=nodelay, small=options.small, seed=seed, modality=options.modality,
                        processes=options.processes,
                    )  # fmt: skip
                else:
                    load = loads.load(seed)
                    size = load.bytes_per_instance
                    sender = StoreScu if options.sender == "storescu" else DcmSend
                    outcome = measure(peer, load, associations, nodelay=nodelay, sender=sender)
            outcome = replace(outcome, cores=pinning, held_before=kept.count(name) if kept else None)
            shutil.rmtree(folder, ignore_errors=True)
            outcomes.append(outcome)
            progress(
                f"[{time.monotonic() - started:5.0f} s] {repeat + 1}/{options.repeats} {name} "
                f"{f'{pinning} cores ' if pinning else ''}"
                f"{associations} associations {'NODELAY' if nodelay else 'Nagle'}: "
                f"{figure(outcome.slices_per_second)}/s, {figure(outcome.processor_ms_per_slice or 0)} ms, "
                f"{outcome.sent - outcome.acknowledged} refused, {outcome.missing} missing"
            )
        if options.syncs:
            for name, make in makers.items():
                if name in PEERS:
                    progress(f"{name}: counting sync calls")
                    counted[name] = count_syncs(make(Path(place) / "traced", True), max(counts), small=options.small)
                    shutil.rmtree(Path(place) / "traced", ignore_errors=True)
    what = f"{size / 1000:,.0f} KB an instance" if size else f"{options.modality}{', small' * options.small}"
    before = f", {outcomes[0].held_before:,} instances held before" if outcomes[0].held_before is not None else ""
    print(f"\n{what}, {options.slices} in each run{before}, median of {options.repeats}; ", end="")
    print(f"`{options.sender}` on the same machine\n")
    print(summary_table(outcomes, next(iter(makers))))
    print()
    for name in makers:
        if name in PEERS:
            print(f"- {name}: {PEERS[name].remark}" + (f"; counted: {counted[name]}" if name in counted else ""))
    if options.json:
        syncs = {name: asdict(one) | {"per_instance": one.per_instance} for name, one in counted.items()}
        write_json(options.json, "ingest", plain(options) | {"syncs": syncs}, [asdict(outcome) for outcome in outcomes])
    return 1 if any(one.missing for one in outcomes if one.peer == Fastarchive.name) else 0


def count_syncs(peer: Peer, associations: int, *, small: bool, instances: int = 128) -> Syncs:
    """Store some instances in an archive under strace, and count its sync calls. It must not be running yet."""
    output = peer.directory.with_name("strace.txt")
    peer.prefix = traced(output)
    with peer:
        measured = measure_own(peer, instances, associations, nodelay=True, small=small, seed=1)
        calls, synchronous = syncs_in(output.read_text(errors="replace"))
        end_traced(peer)
    output.unlink()
    return Syncs(measured.acknowledged, calls, synchronous)


def peer_makers(options: argparse.Namespace) -> dict[str, Callable[[Path, bool], Peer]]:
    """{name: how to make it in a folder, with or without NODELAY}. Exits with a message for an unknown name."""
    makers: dict[str, Callable[[Path, bool], Peer]] = {}
    for name in filter(None, options.peers.split(",")):
        if name not in PEERS:
            raise SystemExit(f"unknown peer {name!r}; there are {', '.join(PEERS)}")
        makers[name] = _maker(PEERS[name], options.workers)
    for address in options.also:
        try:
            Elsewhere(address)
        except ValueError as error:
            raise RuntimeError(str(error)) from None
        makers[address] = lambda _folder, _nodelay, address=address: Elsewhere(address)  # type: ignore[misc] # default binds the loop's value
    if not makers:
        raise SystemExit("nothing to measure: name an archive with --peers or --also")
    return makers


def _maker(kind: type[Peer], workers: int | None) -> Callable[[Path, bool], Peer]:
    if issubclass(kind, Fastarchive):
        return lambda folder, nodelay: kind(folder, nodelay=nodelay, workers=workers)
    return lambda folder, nodelay: kind(folder, nodelay=nodelay)


def plain(options: argparse.Namespace) -> dict[str, Any]:
    """The options for JSON."""
    return {name: value for name, value in vars(options).items() if not callable(value)}
