"""How fast an archive hands out a series, by C-GET and by C-MOVE to DCMTK's programs, and what each slice costs it."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.ingest import peer_makers
from bench.meter import Meter
from bench.modality import Modality, Scanner
from bench.peers import PEERS, Peer, StoreScp
from bench.report import figure, middle, progress, ratio, table, write_json
from bench.senders import DcmSend, tool

DESTINATION = "SINK"
"""The AE title instances are moved to; dcmqrscp and Orthanc are told of it when they start."""


@dataclass(frozen=True, slots=True)
class Series:
    """A generated series as files, and how it is asked for."""

    folder: Path
    count: int
    study: str
    series: str
    bytes_per_instance: float

    @property
    def keys(self) -> list[str]:
        """The options that ask for it."""
        wanted = ("QueryRetrieveLevel=SERIES", f"StudyInstanceUID={self.study}", f"SeriesInstanceUID={self.series}")
        return [part for key in wanted for part in ("-k", key)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One retrieve."""

    peer: str
    service: str
    nodelay: bool
    slices: int
    arrived: int
    """Files the client wrote."""
    seconds: float
    """From the start of the client to its end."""
    slices_per_second: float
    processor_ms_per_slice: float | None
    peak_memory_mb: float | None


def make_series(folder: Path, count: int, seed: int) -> Series:
    """A CT series of `count` slices as files."""
    scanner = Scanner(seed)
    study = scanner.study(scanner.patient(0), 0, Modality.CT)
    size = 0
    uid = ""
    for start in scanner.series(study, 1, count):
        uid = start.series
        size += len(start.data_set)
        path = folder / f"{start.number:05d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(start.file())
    return Series(folder, count, study.uid, uid, size / count)


def get(peer: Peer, series: Series, received: Path, *, nodelay: bool) -> Outcome:
    """C-GET to files, bit by bit."""
    shutil.rmtree(received, ignore_errors=True)
    received.mkdir(parents=True)
    command = [tool("getscu"), "-S", "+B", "-od", str(received), *series.keys]
    return _measure(peer, "C-GET", series, [*command, *_address(peer)], received, nodelay=nodelay)


def move(peer: Peer, series: Series, sink: StoreScp, *, nodelay: bool) -> Outcome:
    """C-MOVE to DCMTK's storescp, which writes files bit by bit."""
    for path in sink.received.iterdir():
        path.unlink()
    command = [tool("movescu"), "-S", "-aem", DESTINATION, *series.keys, *_address(peer)]
    return _measure(peer, "C-MOVE", series, command, sink.received, nodelay=nodelay)


def _address(peer: Peer) -> list[str]:
    return ["-aet", "BENCH", "-aec", peer.ae_title, peer.host, str(peer.dicom_port)]


def _measure(
    peer: Peer, service: str, series: Series, command: Sequence[str], received: Path, *, nodelay: bool
) -> Outcome:
    environ = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
    if nodelay:
        environ["TCP_NODELAY"] = "1"
    with Meter(peer.pid) as meter:
        started = time.perf_counter()
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environ,
            timeout=900,
            check=False,
        )
        seconds = time.perf_counter() - started
    arrived = sum(path.stat().st_size > series.bytes_per_instance * 0.9 for path in received.iterdir())
    return Outcome(
        peer=peer.label,
        service=service,
        nodelay=nodelay,
        slices=series.count,
        arrived=arrived,
        seconds=seconds,
        slices_per_second=arrived / seconds,
        processor_ms_per_slice=meter.processor * 1000 / arrived if arrived and meter.peak_memory else None,
        peak_memory_mb=meter.peak_memory / 2**20 if meter.peak_memory else None,
    )


def fill(peer: Peer, series: Series) -> None:
    """Send the series. Raises RuntimeError unless every slice is acknowledged."""
    sent = DcmSend(peer.host, peer.dicom_port, [[series.folder]], called=peer.ae_title, nodelay=True).result()
    if sum(one.acknowledged for one in sent) != series.count:
        raise RuntimeError(f"{peer.label} did not take the series")


def summary_table(outcomes: Sequence[Outcome], reference: str) -> str:
    """One row for each archive, service and way of sending: medians over the repeats, beside the reference."""
    groups: dict[tuple[bool, str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((not outcome.nodelay, outcome.service, outcome.peer), []).append(outcome)
    order = list(dict.fromkeys(outcome.peer for outcome in outcomes))
    rows: list[list[object]] = []
    for (nagle, service, peer), group in sorted(groups.items(), key=lambda g: (*g[0][:2], order.index(g[0][2]))):
        rate = middle([one.slices_per_second for one in group])
        ours = groups.get((nagle, service, reference))
        costs = [one.processor_ms_per_slice for one in group if one.processor_ms_per_slice is not None]
        memory = [one.peak_memory_mb for one in group if one.peak_memory_mb is not None]
        better = ratio(middle([one.slices_per_second for one in ours]), rate) if ours and peer != reference else ""
        rows.append(
            [
                peer,
                service,
                "Nagle" if nagle else "NODELAY",
                figure(rate),
                better,
                middle(costs) if costs else None,
                figure(middle(memory)) if memory else None,
                sum(one.slices - one.arrived for one in group),
            ]
        )
    return table(
        ["archive", "service", "TCP", "slices/s", f"{reference} is", "CPU ms/slice", "peak MB", "missing"], rows
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench retrieve`."""
    parser.add_argument("--peers", default="fastarchive,orthanc,dcmqrscp", help="of " + ", ".join(PEERS))
    parser.add_argument(
        "--also", action="append", default=[], metavar="AET@HOST:PORT", help="a server that runs already"
    )
    parser.add_argument("--slices", type=int, default=500, help="CT slices in the series")
    parser.add_argument("--move", action=argparse.BooleanOptionalAction, default=True, help="also measure C-MOVE")
    parser.add_argument(
        "--nagle", action=argparse.BooleanOptionalAction, default=True, help="also measure with Nagle on"
    )
    parser.add_argument(
        "--nodelay", action=argparse.BooleanOptionalAction, default=True, help="measure with TCP_NODELAY=1"
    )
    parser.add_argument("--repeats", type=int, default=3, help="retrieves of each, of which the median counts")
    parser.add_argument("--workers", type=int, help="worker processes of fastarchive (default: as it decides)")


def run(options: argparse.Namespace) -> int:
    """Measure and print; 1 when an archive did not hand out everything."""
    ways = [way for way, wanted in ((True, options.nodelay), (False, options.nagle)) if wanted]
    makers = peer_makers(options)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as place:
        work = Path(place)
        progress(f"generating {options.slices} slices")
        series = make_series(work / "load", options.slices, options.seed)
        for nodelay in ways:
            with StoreScp(work / "sink", nodelay=nodelay) as sink:
                for name, make in makers.items():
                    peer = make(work / "peer", nodelay)
                    peer.destinations[DESTINATION] = (sink.host, sink.dicom_port)
                    with peer:
                        fill(peer, series)
                        for _ in range(options.repeats):
                            outcomes.append(get(peer, series, work / "received", nodelay=nodelay))
                            if options.move:
                                outcomes.append(move(peer, series, sink, nodelay=nodelay))
                            progress(
                                f"{name} {'NODELAY' if nodelay else 'Nagle'}: "
                                + ", ".join(
                                    f"{one.service} {figure(one.slices_per_second)}/s, "
                                    f"{figure(one.processor_ms_per_slice or 0)} ms"
                                    for one in outcomes[-1 - options.move :]
                                )
                            )
                    shutil.rmtree(work / "peer", ignore_errors=True)
    print(f"\n{series.bytes_per_instance / 1000:,.0f} KB a slice, {series.count} in the series, ", end="")
    print(f"median of {options.repeats}; getscu, movescu and storescp on the same machine\n")
    print(summary_table(outcomes, next(iter(makers))))
    if options.json:
        plain = {name: value for name, value in vars(options).items() if not callable(value)}
        write_json(options.json, "retrieve", plain, [asdict(outcome) for outcome in outcomes])
    return 1 if any(one.arrived < one.slices for one in outcomes) else 0
