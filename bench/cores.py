"""How an archive grows with cores: kept on one of them, on two and so on in turn, with the same load.

The servers are pinned with `taskset`; the senders stay free, so that on a small machine they take their share of the
same cores. Processor time an instance that stays the same from one core to two means that nothing is in the way of
anything else.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from bench.ingest import Outcome, measure_own, peer_makers, plain
from bench.modality import Modality
from bench.peers import PEERS, Fastarchive
from bench.pinning import pinned
from bench.report import figure, middle, progress, ratio, table, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench cores`."""
    parser.add_argument("--peers", default="fastarchive,orthanc", help="of " + ", ".join(PEERS))
    parser.add_argument("--cores", default=_all_cores(), help="how many to keep the archive on, in turn")
    parser.add_argument("--associations", type=int, default=8, help="at once")
    parser.add_argument("--slices", type=int, default=1000, help="instances sent in each run, by the own sender")
    parser.add_argument("--processes", type=int, default=1, help="sender processes")
    parser.add_argument("--small", action="store_true", help="10 KB instances instead of full size")
    parser.add_argument("--modality", type=Modality, choices=list(Modality), default=Modality.CT, help="what is sent")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, in turn, of which the median counts")
    parser.add_argument("--workers", type=int, help="worker processes of fastarchive (default: as it decides)")
    parser.set_defaults(also=[])


def _all_cores() -> str:
    """1, 2, 4, 8 … up to what there is."""
    there = len(os.sched_getaffinity(0))
    counts = [1 << power for power in range(there.bit_length()) if 1 << power <= there]
    return ",".join(map(str, dict.fromkeys([*counts, there])))


def run(options: argparse.Namespace) -> int:
    """Measure and print; 1 when fastarchive lost what it had acknowledged."""
    counts = [int(count) for count in options.cores.split(",")]
    makers = peer_makers(options)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as place:
        for repeat in range(options.repeats):
            for count in counts:
                for name, make in makers.items():
                    peer = make(Path(place) / f"{name}-{count}-{repeat}", True)
                    peer.prefix = pinned(count)
                    with peer:
                        one = measure_own(
                            peer, options.slices, options.associations, nodelay=True, small=options.small,
                            seed=options.seed, modality=options.modality, processes=options.processes,
                        )  # fmt: skip
                    outcomes.append(replace(one, cores=count))
                    progress(
                        f"{repeat + 1}/{options.repeats} {name}, {count} cores: {figure(one.slices_per_second)}/s, "
                        f"{figure(one.processor_ms_per_slice or 0)} ms"
                    )
    what = "10 KB" if options.small else str(options.modality)
    print(
        f"\n{options.slices} instances ({what}) over {options.associations} associations in each run, medians of "
        f"{options.repeats}; the own sender on the same machine of {len(os.sched_getaffinity(0))} cores\n"
    )
    print(summary_table(outcomes))
    if options.json:
        write_json(options.json, "cores", plain(options), [asdict(one) for one in outcomes])
    return 1 if any(one.missing for one in outcomes if one.peer == Fastarchive.name) else 0


def summary_table(outcomes: Sequence[Outcome]) -> str:
    """One row for each archive and number of cores, beside the same archive on the fewest."""
    rows: list[list[object]] = []
    for peer in dict.fromkeys(one.peer for one in outcomes):
        counts = sorted({one.cores or 0 for one in outcomes if one.peer == peer})
        rates: dict[int, float] = {}
        for count in counts:
            group = [one for one in outcomes if (one.peer, one.cores) == (peer, count)]
            rates[count] = middle([one.slices_per_second for one in group])
            costs = [one.processor_ms_per_slice for one in group if one.processor_ms_per_slice]
            cost = middle(costs) if costs else None
            rows.append(
                [
                    peer,
                    count,
                    figure(rates[count]),
                    "" if count == counts[0] else ratio(rates[count], rates[counts[0]]),
                    cost,
                    f"{rates[count] * cost / 1e3:.2f}" if cost else None,
                    middle([one.latency_p50_ms for one in group]),
                    middle([one.latency_p99_ms for one in group]),
                    figure(middle([one.peak_memory_mb or 0.0 for one in group])),
                    sum(one.sent - one.acknowledged for one in group),
                    sum(one.missing for one in group),
                ]
            )
    header = ["archive", "cores", "stored/s", "gain", "CPU ms each", "cores busy", "p50 ms", "p99 ms", "peak MB"]
    return table([*header, "refused", "missing"], rows)
