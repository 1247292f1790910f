"""How long an archive takes to answer the usual questions (C-FIND over one association that stays open)."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import large
from bench.ingest import peer_makers
from bench.modality import Instance, Scanner, write_files
from bench.peers import PEERS, Dcmqrscp, Fastarchive, Peer
from bench.population import INSTANCES
from bench.questions import Answered, Catalogue, ask_all
from bench.report import figure, progress, table, write_json
from bench.requestor import STUDY_ROOT_FIND, Context
from bench.senders import DcmSend


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench query`."""
    parser.add_argument("--peers", default="fastarchive,orthanc", help="of " + ", ".join(PEERS))
    parser.add_argument("--also", action="append", default=[], metavar="AET@HOST:PORT", help="a server to fill and ask")
    parser.add_argument("--instances", type=int, default=10_000, help="instances of 10 KB in the archive")
    parser.add_argument("--per-series", type=int, default=10, help="instances in a series")
    parser.add_argument("--questions", type=int, default=200, help="of each sort")
    parser.add_argument("--workers", type=int, help="worker processes of fastarchive")
    parser.add_argument(
        "--size", help=f"ask fastarchive alone, at these sizes instead, with commas: {', '.join(INSTANCES)}"
    )
    parser.add_argument("--kept", type=Path, default=Path("/var/tmp/scale"), help="folders of --size, kept for reuse")
    parser.add_argument(
        "--ingest",
        type=int,
        default=0,
        metavar="ASSOCIATIONS",
        help="with --size: ask again while so many store slices",
    )


def run(options: argparse.Namespace) -> int:
    """Measure and print; 1 when fastarchive gave a wrong answer."""
    if options.size:
        return large.run(options)
    results: list[tuple[str, Answered]] = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as place:
        work = Path(place)
        progress(f"generating {options.instances} instances")
        catalogue, files = generate(work / "load", options.instances, options.per_series, options.seed)
        for name, make in peer_makers(options).items():
            with make(work / name.replace(":", "-"), True) as peer:
                start = time.monotonic()
                fill(peer, files)
                progress(f"{name}: filled in {time.monotonic() - start:.1f} s")
                results += [(name, answered) for answered in ask(peer, catalogue, options.questions)]
    print(f"\n{catalogue.count:,} instances, {len(catalogue.studies):,} studies; ", end="")
    print("milliseconds; Study Root, one association, one question at a time\n")
    print(summary_table(results))
    if options.json:
        settings: dict[str, Any] = {name: value for name, value in vars(options).items() if not callable(value)}
        write_json(options.json, "query", settings, [{"peer": name, **asdict(one)} for name, one in results])
    return 1 if any(one.wrong for name, one in results if name == Fastarchive.name) else 0


def generate(directory: Path, count: int, per_series: int, seed: int) -> tuple[Catalogue, Path]:
    """Write `count` small instances; what they are, and the folder."""
    catalogue = Catalogue(())
    scanner = Scanner(seed, small=True)

    def noted() -> Iterator[Instance]:
        for instance in scanner.instances(count, per_series=per_series):
            catalogue.add(instance)
            yield instance

    write_files(noted(), directory)
    return catalogue, directory


def fill(peer: Peer, directory: Path) -> None:
    """Send everything, over four associations if the archive bears them. Raises RuntimeError for what is refused."""
    folders = sorted(directory.iterdir())
    senders = min(1 if isinstance(peer, Dcmqrscp) else 4, len(folders))
    loads = [folders[number::senders] for number in range(senders)]
    sent = DcmSend(peer.host, peer.dicom_port, loads, called=peer.ae_title).result(3600)
    refused = [one for one in sent if not one.acknowledged]
    if refused or not sent:
        raise RuntimeError(f"{peer.label} refused {len(refused)} of {len(sent)}: {refused[:1]}")


def import_files(data: Path, directory: Path) -> tuple[float, subprocess.CompletedProcess[str]]:
    """`fastarchive import` into a data folder; seconds, and what the command said. Raises RuntimeError if it failed."""
    command = [sys.executable, "-m", "fastarchive", "import", "--data", str(data), str(directory)]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"import ended with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    return time.monotonic() - start, done


def ask(peer: Peer, catalogue: Catalogue, each: int) -> list[Answered]:
    """All sorts of questions; a few of each unmeasured first, so that caches are as they are all day."""
    results = []
    with peer.associate(Context(STUDY_ROOT_FIND), timeout=300) as association:
        for kind, questions in catalogue.questions(each).items():
            ask_all(association, kind, questions[: max(len(questions) // 20, 1)])
            answered, _ = ask_all(association, kind, questions)
            progress(f"{peer.label}: {kind}: p50 {figure(answered.whole_p50_ms)} ms, {answered.wrong} wrong")
            results.append(answered)
    return results


def summary_table(results: list[tuple[str, Answered]]) -> str:
    """One row for each sort of question, one pair of columns for each archive."""
    names = list(dict.fromkeys(name for name, _ in results))
    by_key = {(name, one.kind): one for name, one in results}
    header = ["question", "answers"]
    for name in names:
        header += [f"{name} first", "p50", "p99", "wrong"]
    rows = []
    for kind in dict.fromkeys(one.kind for _, one in results):
        row: list[object] = [kind, by_key[names[0], kind].answers]
        for name in names:
            one = by_key[name, kind]
            row += [one.first_p50_ms, one.whole_p50_ms, one.whole_p99_ms, f"{one.wrong}/{one.asked}"]
        rows.append(row)
    return table(header, rows)
