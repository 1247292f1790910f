"""How many slices a second an archive takes in, and what each costs it."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.modality import Instance, Modality, Scanner, write_files
from bench.peers import PEERS, Elsewhere, Fastarchive, Peer
from bench.process import Meter, percentile
from bench.report import figure, middle, progress, ratio, table, write_json
from bench.senders import DcmSend, Sent


@dataclass(frozen=True, slots=True)
class Load:
    """Generated series as files, each in a folder of its own, to be shared out among associations."""

    folders: list[Path]
    instances: dict[str, Instance]
    """By path; the data sets themselves are dropped."""
    bytes_per_instance: float

    def shares(self, associations: int) -> list[list[Path]]:
        """The folders dealt out to so many associations."""
        return [self.folders[number::associations] for number in range(associations)]


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


def make_load(directory: Path, count: int, streams: int, *, small: bool, seed: int, start: int = 0) -> Load:
    """Write `count` CT instances in `streams` folders: each its own patient, study and series."""
    scanner = Scanner(seed, small=small)
    folders: list[Path] = []
    instances: dict[str, Instance] = {}
    size = 0
    for stream in range(streams):
        folder = directory / f"stream{stream}"
        study = scanner.study(scanner.patient(start + stream), 0, Modality.CT)
        made = list(scanner.series(study, 1, count // streams))
        for path, instance in zip(write_files(iter(made), folder), made, strict=True):
            size += len(instance.data_set)
            instances[str(path)] = _without_data(instance)
        folders.append(folder)
    return Load(folders, instances, size / max(len(instances), 1))


def _without_data(instance: Instance) -> Instance:
    return replace(instance, data_set=b"")


def measure(peer: Peer, load: Load, associations: int, *, nodelay: bool) -> Outcome:
    """Send the load to a running peer and check that it holds what it acknowledged."""
    with Meter(peer.pid) as meter:
        sending = DcmSend(peer.host, peer.dicom_port, load.shares(associations), called=peer.ae_title, nodelay=nodelay)
        sent = sending.result()
    acknowledged = [one.sop_instance for one in sent if one.acknowledged]
    held = peer.held(load.instances.values())
    way = Way(peer.label, associations, nodelay)
    return summarise(way, sent, missing=len(set(acknowledged) - held), meter=meter)


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
    groups: dict[tuple[bool, int, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((not outcome.nodelay, outcome.associations, outcome.peer), []).append(outcome)
    rows: list[list[object]] = []
    order = list(dict.fromkeys(outcome.peer for outcome in outcomes))
    for (nagle, associations, peer), group in sorted(groups.items(), key=lambda g: (*g[0][:2], order.index(g[0][2]))):
        rate = middle([one.slices_per_second for one in group])
        ours = groups.get((nagle, associations, reference))
        costs = [one.processor_ms_per_slice for one in group if one.processor_ms_per_slice is not None]
        memory = [one.peak_memory_mb for one in group if one.peak_memory_mb is not None]
        rows.append(
            [
                peer,
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
    header = ["archive", "associations", "TCP", "slices/s", f"{reference} is", "CPU ms/slice", "peak MB"]
    return table([*header, "p50 ms", "p99 ms", "refused", "missing"], rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench ingest`."""
    parser.add_argument("--peers", default="fastarchive,orthanc,dcmqrscp,storescp", help="of " + ", ".join(PEERS))
    parser.add_argument(
        "--also", action="append", default=[], metavar="AET@HOST:PORT", help="a server that runs already"
    )
    parser.add_argument("--associations", default="1,4,8", help="how many at once, each measured (default 1,4,8)")
    parser.add_argument("--slices", type=int, default=400, help="instances sent in each run (default 400)")
    parser.add_argument("--small", action="store_true", help="10 KB instances instead of CT slices of 527 KB")
    parser.add_argument(
        "--nagle", action=argparse.BooleanOptionalAction, default=True, help="also measure with Nagle on"
    )
    parser.add_argument(
        "--nodelay", action=argparse.BooleanOptionalAction, default=True, help="measure with TCP_NODELAY=1"
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, of which the median counts (default 3)")
    parser.add_argument("--workers", type=int, help="worker processes of fastarchive (default: as it decides)")


def run(options: argparse.Namespace) -> int:
    """Measure and print; 1 when an archive lost what it had acknowledged."""
    counts = [int(count) for count in options.associations.split(",")]
    streams = max(counts)
    makers = peer_makers(options)
    ways = [way for way, wanted in ((True, options.nodelay), (False, options.nagle)) if wanted]
    outcomes: list[Outcome] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as place:
        work = Path(place)
        progress(f"generating {options.slices} instances")
        load = make_load(work / "load", options.slices, streams, small=options.small, seed=options.seed)
        for repeat in range(options.repeats):
            for nodelay in ways:
                for associations in counts:
                    for name, make in makers.items():
                        folder = work / "peer"
                        with make(folder, nodelay) as peer:
                            outcome = measure(peer, load, associations, nodelay=nodelay)
                        shutil.rmtree(folder, ignore_errors=True)
                        outcomes.append(outcome)
                        progress(
                            f"[{time.monotonic() - started:5.0f} s] {repeat + 1}/{options.repeats} {name} "
                            f"{associations} associations {'NODELAY' if nodelay else 'Nagle'}: "
                            f"{figure(outcome.slices_per_second)}/s, "
                            f"{figure(outcome.processor_ms_per_slice or 0)} ms, "
                            f"{outcome.sent - outcome.acknowledged} refused, {outcome.missing} missing"
                        )
    print(f"\n{load.bytes_per_instance / 1000:,.0f} KB an instance, {options.slices} in each run, ", end="")
    print(f"median of {options.repeats}; `dcmsend` on the same machine\n")
    print(summary_table(outcomes, next(iter(makers))))
    print()
    for name in makers:
        if name in PEERS:
            print(f"- {name}: {PEERS[name].remark}")
    if options.json:
        write_json(options.json, "ingest", _plain(options), [asdict(outcome) for outcome in outcomes])
    return 1 if any(one.missing for one in outcomes if one.peer == Fastarchive.name) else 0


def peer_makers(options: argparse.Namespace) -> dict[str, Callable[[Path, bool], Peer]]:
    """{name: how to make it in a folder, with or without NODELAY}. Exits with a message for an unknown name."""
    makers: dict[str, Callable[[Path, bool], Peer]] = {}
    for name in filter(None, options.peers.split(",")):
        if name not in PEERS:
            raise SystemExit(f"unknown peer {name!r}; there are {', '.join(PEERS)}")
        makers[name] = _maker(PEERS[name], options.workers)
    for address in options.also:
        makers[address] = lambda _folder, _nodelay, address=address: Elsewhere(address)  # type: ignore[misc] # default binds the loop's value
    if not makers:
        raise SystemExit("nothing to measure: name an archive with --peers or --also")
    return makers


def _maker(kind: type[Peer], workers: int | None) -> Callable[[Path, bool], Peer]:
    if issubclass(kind, Fastarchive):
        return lambda folder, nodelay: kind(folder, nodelay=nodelay, workers=workers)
    return lambda folder, nodelay: kind(folder, nodelay=nodelay)


def _plain(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if not callable(value)}
