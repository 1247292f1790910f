"""Write synthetic instances as DICOM files, to load any archive with."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.modality import Modality, Scanner, write_files
from bench.report import progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench generate`."""
    parser.add_argument("output", type=Path, help="folder to write to")
    parser.add_argument("--instances", type=int, default=1000, help="how many")
    parser.add_argument("--per-series", type=int, default=100, help="instances in a series")
    parser.add_argument("--modality", type=Modality, choices=list(Modality), help="one kind instead of all of them")
    parser.add_argument("--small", action="store_true", help="10 KB each")


def run(options: argparse.Namespace) -> int:
    """Write them."""
    scanner = Scanner(options.seed, small=options.small)
    instances = scanner.instances(options.instances, per_series=options.per_series, modality=options.modality)
    paths = write_files(instances, options.output)
    progress(f"{len(paths)} files in {options.output}")
    return 0
