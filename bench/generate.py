"""Write synthetic instances, or copies of your own with fresh UIDs, as DICOM files to load any archive with."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.modality import Modality, Scanner, write_files
from bench.replay import Replay
from bench.report import progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench generate`."""
    parser.add_argument("output", type=Path, help="folder to write to")
    parser.add_argument("--instances", type=int, default=1000, help="how many")
    parser.add_argument("--per-series", type=int, default=100, help="instances in a series")
    parser.add_argument("--modality", type=Modality, choices=list(Modality), help="one kind instead of all of them")
    parser.add_argument("--small", action="store_true", help="10 KB each")
    parser.add_argument("--replay", type=Path, metavar="FOLDER", help="copy these files with fresh UIDs instead")
    parser.add_argument("--copies", type=int, default=1, help="of the files to replay")


def run(options: argparse.Namespace) -> int:
    """Write them."""
    if options.replay:
        replay = Replay(options.replay, options.seed)
        copied = replay.write(options.output, options.copies)
        progress(f"{len(copied)} files in {options.output}, {len(replay.skipped)} left out that can't be sent")
        return 0
    scanner = Scanner(options.seed, small=options.small)
    instances = scanner.instances(options.instances, per_series=options.per_series, modality=options.modality)
    paths = write_files(instances, options.output)
    progress(f"{len(paths)} files in {options.output}")
    return 0
