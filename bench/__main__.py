"""Measure DICOM archives side by side: what they take in, answer and hand out, and what it costs them."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from bench.pages import costs, remark
from bench.report import progress
from bench.senders import MissingTool

GROUPS = {
    "a PACS that runs already": {
        "pacs": "your own PACS by host and port: asks what it allows, does it, writes a report",
    },
    "mixed work": {
        "run": "a scenario file: mixed work in open and closed loops, steps, soaks; tables and plots",
    },
    "C-STORE": {
        "ingest": "slices a second, processor time a slice, memory, latency; dcmsend, storescu or the own sender",
        "small": "20,000 instances of 10 KB over 4 associations, beside Orthanc",
        "many": "the same over 100 associations at once",
        "cores": "the same load to archives kept on one core, on two and so on",
        "filled": "to archives that hold millions, beside an empty one",
        "import": "files taken in from a folder by fastarchive",
    },
    "C-FIND, C-GET and C-MOVE": {
        "query": "latency of the usual questions, answers checked; at a million instances and ten",
        "retrieve": "a series by C-GET and C-MOVE: slices a second, processor time a slice",
        "scale": "many small instances: import, questions, index deleted and rebuilt",
    },
    "single things": {
        "big": "objects of gigabytes there and back: memory of each process",
        "storage": "bytes and processor time an instance takes in a pack, beside zstd alone",
        "sender": "what the harness' own sender costs, beside a bare loop of the same bytes",
        "generate": "write synthetic instances as files",
    },
}
"""What there is, in the order in which it is told."""

SCENARIOS = {name: summary for group in GROUPS.values() for name, summary in group.items()}

_MEASURED = SCENARIOS.keys() - {"generate", "pacs"}
"""Those whose figures depend on this machine's memory; `pacs` is for servers elsewhere."""

_EXAMPLES = """\
examples:
  bench pacs MYPACS@10.0.0.5:104                  your PACS: a mixed morning of two minutes; see report/report.md
  bench pacs MYPACS@10.0.0.5:104 --beside orthanc the same to an Orthanc started here, in the same report
  bench run latency --report report               C-STORE at 70 % of the ceiling, of fastarchive
  bench run soak --set duration=300               does anything grow in five minutes?
  bench ingest --peers fastarchive,orthanc        how many slices a second, one archive after the other
  bench SCENARIO --help                           every option of one of them

Tables in Markdown go to standard output, progress to standard error, single results with --json to a file.
Archives are started in empty folders under --directory and removed afterwards. bench/README.md explains
every figure. `bench` stands for `python -m bench` or `./run bench`.
"""


def parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The command line. Only the chosen scenario's module is imported, so that one needs nothing another one needs."""
    lines = [
        f"{title}:\n" + "".join(f"  {name:10}{summary}\n" for name, summary in group.items())
        for title, group in GROUPS.items()
    ]
    top = argparse.ArgumentParser(
        prog="bench",
        usage="bench SCENARIO [options]",
        description=f"{__doc__}\n\n" + "\n".join(lines),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    scenarios = top.add_subparsers(required=True, metavar="SCENARIO", prog="bench", help=argparse.SUPPRESS)
    for name in SCENARIOS:
        if name != chosen:
            scenarios.add_parser(name)
            continue
        module = importlib.import_module(f"bench.{name}_files" if name == "import" else f"bench.{name}")
        scenario = scenarios.add_parser(
            name, description=module.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        scenario.add_argument("--seed", type=int, default=1, help="another seed, other patients")
        scenario.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where to work; not a RAM disk")
        scenario.add_argument("--json", type=Path, help="write every single result to this file")
        module.add_arguments(scenario)
        scenario.set_defaults(run=module.run)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run a scenario; 0 when every check in it held, 2 when it could not be run."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser().print_help()
        return 2
    options = parser(arguments[0]).parse_args(arguments)
    found = costs() if arguments[0] in _MEASURED else []
    try:
        code: int = options.run(options)
    except (MissingTool, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if text := remark(found):
        progress(f"bench: {text}")
    return code


if __name__ == "__main__":
    sys.exit(main())
