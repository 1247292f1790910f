"""How fast `fastarchive import` takes in a folder of files."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from bench.modality import Modality, Scanner, write_files
from bench.query import import_files
from bench.report import figure, progress, table, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench import`."""
    parser.add_argument("--slices", type=int, default=500, help="CT slices of 527 KB")
    parser.add_argument("--small", type=int, default=10_000, help="instances of 10 KB")


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as place:
        work = Path(place)
        for kind, count, scanner in (
            ("CT slices, 527 KB", options.slices, Scanner(options.seed)),
            ("small instances, 10 KB", options.small, Scanner(options.seed, small=True)),
        ):
            progress(f"generating {count} {kind}")
            folder = work / f"files {len(results)}"
            write_files(scanner.instances(count, modality=Modality.CT), folder)
            data = work / f"data {len(results)}"
            seconds, _ = import_files(data, folder)
            stored = sum(path.stat().st_blocks * 512 for path in data.rglob("*") if path.is_file())
            source = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            results.append(
                {
                    "kind": kind,
                    "count": count,
                    "seconds": seconds,
                    "per_second": count / seconds,
                    "ratio": source / stored,
                }
            )
    header = ["files", "count", "seconds", "files/s", "source size / stored size"]
    print(table(header, [[r["kind"], r["count"], r["seconds"], figure(r["per_second"]), r["ratio"]] for r in results]))
    if options.json:
        write_json(options.json, "import", {"seed": options.seed}, results)
    return 0
