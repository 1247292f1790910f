"""Many small instances: imported, asked for, the index deleted and rebuilt from the packs, the same answers again."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

from bench.peers import Fastarchive
from bench.query import generate, import_files, summary_table
from bench.questions import Answered, Catalogue, Question, ask_all
from bench.report import figure, progress, table, write_json
from bench.requestor import STUDY_ROOT_FIND, Context


@dataclass(frozen=True, slots=True)
class Scale:
    """What one run found."""

    instances: int
    import_seconds: float
    answered: list[Answered]
    start_seconds: float
    rebuild_seconds: float
    """From the start without an index until every question is answered as before."""
    answered_after: list[Answered]
    same: bool
    """Whether all answers are the same, byte for byte, after the index was deleted and rebuilt."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench scale`."""
    parser.add_argument("--instances", type=int, default=100_000, help="instances of 10 KB")
    parser.add_argument("--per-series", type=int, default=10, help="instances in a series")
    parser.add_argument("--questions", type=int, default=200, help="of each sort")
    parser.add_argument("--workers", type=int, help="worker processes")


def run(options: argparse.Namespace) -> int:
    """Measure and print; 1 when an answer was wrong or changed with the index."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as place:
        found = measure(
            Path(place),
            options.instances,
            per_series=options.per_series,
            each=options.questions,
            seed=options.seed,
            workers=options.workers,
        )
    print()
    print(
        table(
            ["step", "seconds", "instances/s"],
            [
                ["import", found.import_seconds, found.instances / found.import_seconds],
                ["start to ready", found.start_seconds, None],
                ["start without index to full answers", found.rebuild_seconds, found.instances / found.rebuild_seconds],
            ],
        )
    )
    print()
    print(
        summary_table(
            [("imported", one) for one in found.answered] + [("rebuilt", one) for one in found.answered_after]
        )
    )
    print(f"\nanswers after the index was deleted and rebuilt: {'the same' if found.same else 'DIFFERENT'}")
    if options.json:
        write_json(options.json, "scale", {"instances": options.instances}, [asdict(found)])
    wrong = sum(one.wrong for one in [*found.answered, *found.answered_after])
    return 0 if found.same and not wrong else 1


def measure(
    work: Path, instances: int, *, per_series: int = 10, each: int = 200, seed: int = 1, workers: int | None = None
) -> Scale:
    """The whole scenario in a folder. Raises RuntimeError when a step fails."""
    progress(f"generating {instances} instances")
    catalogue, files = generate(work / "load", instances, per_series, seed)
    data = work / "data"
    progress("importing")
    import_seconds, _ = import_files(data, files)
    progress(f"imported in {import_seconds:.1f} s")
    questions = catalogue.questions(each)

    start = time.monotonic()
    with Fastarchive(data, workers=workers) as archive:
        start_seconds = time.monotonic() - start
        answered, before = _ask(archive, questions)
    shutil.rmtree(data / "index")
    start = time.monotonic()
    with Fastarchive(data, workers=workers) as archive:
        _wait_for_all(archive, catalogue)
        rebuild_seconds = time.monotonic() - start
        progress(f"rebuilt in {rebuild_seconds:.1f} s")
        answered_after, after = _ask(archive, questions)
    return Scale(instances, import_seconds, answered, start_seconds, rebuild_seconds, answered_after, before == after)


def _ask(archive: Fastarchive, questions: dict[str, list[Question]]) -> tuple[list[Answered], dict[str, list[str]]]:
    """Figures for each sort, and a digest of each answer set (the order of answers doesn't matter)."""
    figures = []
    digests = {}
    with archive.associate(Context(STUDY_ROOT_FIND), timeout=120) as association:
        for kind, asked in questions.items():
            ask_all(association, kind, asked[: max(len(asked) // 20, 1)])
            answered, found = ask_all(association, kind, asked)
            figures.append(answered)
            digests[kind] = [blake2b(b"".join(sorted(one.identifiers))).hexdigest() for one in found]
            progress(f"{kind}: p50 {figure(answered.whole_p50_ms)} ms, {answered.wrong} wrong")
    return figures, digests


def _wait_for_all(archive: Fastarchive, catalogue: Catalogue, limit: float = 600.0) -> None:
    """Poll until the archive shows all studies and the last series in full."""
    deadline = time.monotonic() + limit
    everything = catalogue.questions(1)
    with archive.associate(Context(STUDY_ROOT_FIND), timeout=120) as association:
        while True:
            answers = [
                ask_all(association, kind, everything[kind])[0] for kind in ("all studies", "images of a series")
            ]
            if not any(one.wrong for one in answers):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"the index is not rebuilt after {limit:.0f} s: {answers}")
            time.sleep(0.1)
