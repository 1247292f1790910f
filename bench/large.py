"""The usual questions to an archive of a million instances or ten, idle and while it takes in slices at full speed.

The archive is filled by :mod:`bench.filling` once and kept; what is asked is a copy of the folder (hard links), so that
every run begins alike. Each answer is checked against the population, which is computed from the seed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench.copies import copied
from bench.engine import Address
from bench.expected import KINDS, Kind, questions
from bench.filling import prepare
from bench.fleet import Fleet, Phase
from bench.memory import MemoryWatch, memory_bytes
from bench.peers import Fastarchive
from bench.population import INSTANCES, Population
from bench.process import percentile, processor_seconds, wait_idle
from bench.questions import Question, unique_key
from bench.report import figure, progress, table, write_json
from bench.requestor import STUDY_ROOT_FIND, Context, Requestor
from bench.sampling import Sampling
from bench.scenario import Scenario, StoreWork

_CANCELLED: Final = 0xFE00
_WARM_UP: Final = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """How one kind of question went."""

    size: str
    kind: str
    state: str
    """`idle`, or `ingest` while slices came in."""
    asked: int
    answers: float
    """Mean number of answers of the questions whose answers were all taken."""
    first_p50_ms: float
    first_p99_ms: float
    whole_p50_ms: float
    whole_p99_ms: float
    processor_ms: float
    """Server processor time a question; while slices come in that of their intake is in it."""
    answers_per_processor_second: float
    wrong: int

    @property
    def judged(self) -> tuple[float, float]:
        """p50 and p99 of what the kind is judged by."""
        if KINDS[self.kind].first:
            return self.first_p50_ms, self.first_p99_ms
        return self.whole_p50_ms, self.whole_p99_ms


@dataclass(slots=True)
class Size:
    """All that was found at one size."""

    size: str
    instances: int
    ready_seconds: float
    asked: list[Asked]
    memory_before: int = 0
    memory_after: int = 0
    """Bytes of the server's processes before and after all studies were asked for, and at most meanwhile."""
    memory_peak: int = 0
    slices_per_second: float = 0.0
    """Taken in while the questions were asked again."""


def run(options: argparse.Namespace) -> int:
    """Measure the sizes asked for and print; 1 when an answer was wrong."""
    found = [measure(options, size) for size in options.size.split(",")]
    print(summary(found))
    if options.json:
        settings: dict[str, Any] = {name: value for name, value in vars(options).items() if not callable(value)}
        write_json(options.json, "query", settings, [asdict(size) for size in found])
    return 1 if any(asked.wrong for size in found for asked in size.asked) else 0


def measure(options: argparse.Namespace, size: str) -> Size:
    """Fill or reuse the folder of a size, start the archive on a copy and ask. Raises RuntimeError."""
    folder = options.kept / size
    population = prepare(folder, size, options.seed, content=INSTANCES[size] <= INSTANCES["1m"])
    index(folder)
    progress(f"{size}: working out the right answers")
    asked = questions(population, options.questions)
    copy = options.kept / f"{size}.running"
    archive = Fastarchive(copy, workers=options.workers, options=["--verify-days", "0"])
    with copied(folder, copy, archive.frozen):
        begun = time.perf_counter()
        with archive:
            found = Size(size, archive.count(), time.perf_counter() - begun, [])
            progress(f"{size}: ready after {found.ready_seconds:.2f} s")
            assert archive.pid is not None
            wait_idle(archive.pid, 60)
            with archive.associate(Context(STUDY_ROOT_FIND), timeout=600) as association:
                found.asked += ask_kinds(size, "idle", association, archive.pid, asked)
                found.asked.append(ask_for_all(found, association, archive.pid, population))
            if options.ingest:
                found.slices_per_second = ask_while_storing(found, archive, asked, options)
    return found


def index(folder: Path) -> None:
    """Index the folder, unless that was done before by this version. Raises RuntimeError."""
    if is_indexed(folder):
        return
    progress(f"indexing {folder}")
    command = [sys.executable, "-m", "fastarchive", "reindex", "--data", str(folder)]
    done = subprocess.run(command, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"reindex ended with {done.returncode}: {done.stderr[-1000:]}")
    progress(done.stdout.strip())


def is_indexed(folder: Path) -> bool:
    """Whether the folder has an index that this version of the archive would use."""
    import tantivy

    from fastarchive.index.snapshot import Snapshot

    try:
        found = tantivy.Index.open(str(folder / "index"))
        found.reload()
        return bool(Snapshot(found.searcher()).checkpoint.next_rowid > 1)
    except ValueError:  # none there, or of another version
        return False


def ask_kinds(
    size: str, state: str, association: Requestor, pid: int, asked: dict[str, list[Question]], *, exact: bool = True
) -> list[Asked]:
    """Ask every kind, a few of each unmeasured first. exact: whether there may be no answers but the expected."""
    found = []
    for kind, those in asked.items():
        for question in those[:_WARM_UP]:
            ask(association, question, KINDS[kind], whole=False)
        before = processor_seconds(pid)
        times = [
            ask(association, question, KINDS[kind], whole=number % KINDS[kind].whole_every == 0, exact=exact)
            for number, question in enumerate(those)
        ]
        used = processor_seconds(pid) - before
        whole = [one for one in times if one.whole is not None]
        answers = sum(one.answers for one in times)
        one = Asked(
            size=size,
            kind=kind,
            state=state,
            asked=len(times),
            answers=sum(each.answers for each in whole) / len(whole),
            first_p50_ms=percentile((each.first * 1000 for each in times), 0.5),
            first_p99_ms=percentile((each.first * 1000 for each in times), 0.99),
            whole_p50_ms=percentile((each.whole * 1000 for each in whole if each.whole is not None), 0.5),
            whole_p99_ms=percentile((each.whole * 1000 for each in whole if each.whole is not None), 0.99),
            processor_ms=used / len(times) * 1000,
            answers_per_processor_second=answers / used if used else 0.0,
            wrong=sum(each.wrong for each in times),
        )
        found.append(one)
        progress(
            f"{size} {state}: {kind}: first {figure(one.first_p50_ms)}/{figure(one.first_p99_ms)} ms, "
            f"all {figure(one.whole_p50_ms)}/{figure(one.whole_p99_ms)} ms, {one.wrong} wrong"
        )
    return found


@dataclass(frozen=True, slots=True)
class _Times:
    first: float
    whole: float | None
    """None when it was cancelled after the first answer."""
    answers: int
    wrong: bool


def ask(association: Requestor, question: Question, kind: Kind, *, whole: bool, exact: bool = True) -> _Times:
    """One question: all its answers, or a C-CANCEL after the first of them."""
    found = association.find(STUDY_ROOT_FIND, question.identifier, cancel_after=0 if whole else 1)
    told = question.found(found)
    complete = found.response.status == 0
    if complete:
        right = told == question.expected if exact else told >= question.expected
    else:
        right = found.response.status == _CANCELLED and not whole and (told <= question.expected or not exact)
    wrong = not right or len(told) != len(found.identifiers)
    return _Times(found.first, found.whole if complete else None, len(found.identifiers), wrong)


def ask_for_all(size: Size, association: Requestor, pid: int, population: Population) -> Asked:
    """All studies there are, answer by answer, with an eye on the server's memory."""
    question = questions(population, 0)["all studies"][0]
    size.memory_before = memory_bytes(pid)
    seen = bytearray(population.studies)
    numbers = {population.study_uid(number): number for number in range(population.studies)}
    unknown = 0

    def receive(answer: bytes) -> None:
        nonlocal unknown
        number = numbers.get(unique_key(answer, 0x0020000D))
        if number is None or seen[number]:
            unknown += 1
        else:
            seen[number] = 1

    with _Peak(pid) as peak:
        before = processor_seconds(pid)
        found = association.find(STUDY_ROOT_FIND, question.identifier, receive=receive)
        used = processor_seconds(pid) - before
    size.memory_peak = peak.bytes
    size.memory_after = memory_bytes(pid)
    one = Asked(
        size=size.size,
        kind="all studies",
        state="idle",
        asked=1,
        answers=sum(seen),
        first_p50_ms=found.first * 1000,
        first_p99_ms=found.first * 1000,
        whole_p50_ms=found.whole * 1000,
        whole_p99_ms=found.whole * 1000,
        processor_ms=used * 1000,
        answers_per_processor_second=population.studies / used if used else 0.0,
        wrong=int(found.response.status != 0 or unknown > 0 or sum(seen) != population.studies),
    )
    progress(f"{size.size}: all studies: {one.answers_per_processor_second:,.0f} a second of server time")
    return one


class _Peak:
    """The most memory a process tree has while a `with` block runs, looked at four times a second."""

    def __init__(self, pid: int) -> None:
        self._watch = MemoryWatch(pid)
        self._sampling = Sampling(self._watch.look, 0.25)

    @property
    def bytes(self) -> int:
        """So far."""
        return self._watch.peak

    def __enter__(self) -> _Peak:
        self._sampling.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._sampling.stop()


def ask_while_storing(
    size: Size, archive: Fastarchive, asked: dict[str, list[Question]], options: argparse.Namespace
) -> float:
    """The same questions while senders store CT slices as fast as they are taken in; slices a second."""
    assert archive.pid is not None
    done = threading.Event()
    stored: list[tuple[float, int]] = []

    def watch(report: Any) -> bool:
        stored.append((report.elapsed, sum(report.items.values())))
        return not done.is_set()

    work = StoreWork(kind="store", name="slices", associations=options.ingest)
    phase = Phase(Scenario(title="ingest", work=[work]), seed=options.seed + 1000, seconds=3600.0)
    with Fleet(Address(archive.host, archive.dicom_port, archive.ae_title)) as fleet:
        senders = threading.Thread(target=lambda: fleet.run(phase, watch), daemon=True)
        senders.start()
        _until(lambda: len(stored) >= 5 and stored[-1][1] > 0)
        try:
            with archive.associate(Context(STUDY_ROOT_FIND), timeout=600) as association:
                some = {kind: those[: options.questions] for kind, those in asked.items()}
                size.asked += ask_kinds(size.size, "ingest", association, archive.pid, some, exact=False)
        finally:
            done.set()
            senders.join(60)
    (begun, before), (ended, after) = stored[4], stored[-1]
    return (after - before) / (ended - begun) if ended > begun else 0.0


def _until(holds: Callable[[], bool], limit: float = 120.0) -> None:
    deadline = time.monotonic() + limit
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError("the senders store nothing")
        time.sleep(0.1)


def summary(sizes: list[Size]) -> str:
    """The tables: each kind at each size, growth from the first to the last, and idle beside ingest."""
    lines = []
    for size in sizes:
        megabytes = [value / 2**20 for value in (size.memory_before, size.memory_peak, size.memory_after)]
        lines.append(
            f"\n{size.size}: {size.instances:,} instances; ready after {size.ready_seconds:.2f} s; memory before, "
            f"during at most and after all studies: {', '.join(f'{value:.0f}' for value in megabytes)} MB"
        )
        if size.slices_per_second:
            lines.append(f"{size.size}: {size.slices_per_second:.0f} slices/s were stored meanwhile")
    header = [
        "question",
        "size",
        "answers",
        "first p50",
        "p99",
        "all p50",
        "p99",
        "server ms",
        "answers/s CPU",
        "wrong",
    ]
    rows: list[list[object]] = []
    by_key = {(one.kind, one.size, one.state): one for size in sizes for one in size.asked}
    for kind in KINDS:
        for size in sizes:
            if (one := by_key.get((kind, size.size, "idle"))) is not None:
                row: list[object] = [kind, one.size, one.answers, one.first_p50_ms, one.first_p99_ms]
                row += [one.whole_p50_ms, one.whole_p99_ms, one.processor_ms, one.answers_per_processor_second]
                rows.append([*row, f"{one.wrong}/{one.asked}"])
    lines += ["", table(header, rows)]
    grown = []
    if len(sizes) > 1:
        for kind, about in KINDS.items():
            first, last = (by_key.get((kind, size.size, "idle")) for size in (sizes[0], sizes[-1]))
            if first and last and about.growth:
                factor = last.judged[0] / first.judged[0]
                grown.append([kind, *first.judged, *last.judged, f"{factor:.2f} ×", f"≤ {about.growth} ×"])
        names = [sizes[0].size, sizes[-1].size]
        header = ["growth", f"{names[0]} p50", "p99", f"{names[1]} p50", "p99", "factor", "to reach"]
        lines += ["", table(header, grown)]
    beside = []
    for size in sizes:
        for kind in KINDS:
            idle, busy = (by_key.get((kind, size.size, state)) for state in ("idle", "ingest"))
            if idle and busy:
                ratio = busy.judged[1] / idle.judged[1]
                beside.append(
                    [kind, size.size, *idle.judged, *busy.judged, f"{ratio:.1f} ×", f"{busy.wrong}/{busy.asked}"]
                )
    if beside:
        header = ["during ingest", "size", "idle p50", "p99", "ingest p50", "p99", "p99 ratio", "wrong"]
        lines += ["", table(header, beside)]
    return "\n".join(lines)
