"""20,000 instances of 10 KB over four associations: what an archive does for each instance, whatever its size.

The same as `ingest` with other defaults; all of its options are there.
"""

from __future__ import annotations

import argparse

from bench import ingest

run = ingest.run


def add_arguments(parser: argparse.ArgumentParser, *, associations: int = 4) -> None:
    """The options of `python -m bench small`."""
    ingest.add_arguments(parser)
    parser.set_defaults(
        peers="fastarchive,orthanc",
        sender="own",
        associations=str(associations),
        slices=20_000,
        small=True,
        nagle=False,
    )
