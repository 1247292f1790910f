"""`python -m bench SCENARIO`: measure DICOM archives side by side."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from bench.senders import MissingTool

SCENARIOS = {
    "run": "a scenario file: mixed work in open and closed loops, steps, soaks; tables and plots",
    "ingest": "C-STORE: slices a second, processor time a slice, memory, latency",
    "filled": "C-STORE to archives that hold millions, beside an empty one",
    "query": "C-FIND: latency of the usual questions",
    "retrieve": "C-GET and C-MOVE of a series: slices a second, processor time a slice",
    "import": "files taken in from a folder",
    "scale": "many small instances: import, questions, index deleted and rebuilt",
    "big": "objects of gigabytes there and back: memory of each process",
    "storage": "bytes and processor time an instance takes in a pack, beside zstd alone",
    "sender": "what the harness' own sender costs, beside a bare loop of the same bytes",
    "generate": "write synthetic instances as files",
}


def parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The command line. Only the chosen scenario's module is imported, so that one needs nothing another one needs."""
    top = argparse.ArgumentParser(prog="bench", description=__doc__)
    scenarios = top.add_subparsers(title="scenarios", required=True, metavar="SCENARIO")
    for name, summary in SCENARIOS.items():
        if name != chosen:
            scenarios.add_parser(name, help=summary)
            continue
        module = importlib.import_module(f"bench.{name}_files" if name == "import" else f"bench.{name}")
        scenario = scenarios.add_parser(
            name, help=summary, description=module.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        scenario.add_argument("--seed", type=int, default=1, help="another seed, other patients")
        scenario.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where to work; not a RAM disk")
        scenario.add_argument("--json", type=Path, help="write every single result to this file")
        module.add_arguments(scenario)
        scenario.set_defaults(run=module.run)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run a scenario; 0 when every check in it held."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser(arguments[0] if arguments else None).parse_args(arguments)
    try:
        code: int = options.run(options)
    except (MissingTool, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
