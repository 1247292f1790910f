"""A hundred associations at once with 20,000 instances of 10 KB: rate, processor time each and peak memory.

The same as `ingest` with other defaults; all of its options are there.
"""

from __future__ import annotations

import argparse

from bench import ingest, small

run = ingest.run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench many`."""
    small.add_arguments(parser, associations=100)
