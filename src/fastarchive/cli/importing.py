"""``fastarchive import``: files and folders into the archive, through the same code as C-STORE."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fastarchive.cli.output import FAILED, console, fail, load_settings, on_terminal, print_json
from fastarchive.setting_values import parse_character_sets

if TYPE_CHECKING:
    from fastarchive.archive import Archive

PATHS_KEPT = 20
"""Paths shown for one reason; all are counted."""
OUTCOMES = ("stored", "already_present", "replaced", "quarantined", "refused", "skipped")


class CharacterSets(NamedTuple):
    """What the text of the files is really in, whatever they declare: of all, or by the AE title they are from."""

    of_all: str
    by_ae_title: Mapping[str, str]


NOTHING_KNOWN = CharacterSets("", {})


@dataclass(slots=True)
class Summary:
    """What became of the files. Safe to add to from several threads."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    reason_counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes: int = 0
    seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, outcome: str, path: Path, *, size: int = 0, reason: str = "") -> None:
        """Count one file: outcome is one of OUTCOMES."""
        with self._lock:
            self.counts[outcome] += 1
            self.bytes += size
            if reason:
                self.reason_counts[outcome, reason] += 1
                paths = self.reasons.setdefault((outcome, reason), [])
                if len(paths) < PATHS_KEPT:
                    paths.append(str(path))

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            **{name: self.counts[name] for name in OUTCOMES},
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "reasons": [
                {"outcome": outcome, "reason": reason, "count": count, "paths": self.reasons[outcome, reason]}
                for (outcome, reason), count in self.reason_counts.most_common()
            ],
        }


def files_below(paths: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Every file named or found in a named folder, in order of names; True for those that were named. What is no file
    (pipes, sockets, devices) is passed over in folders: reading it might wait for ever."""
    for path in paths:
        if not path.is_dir():
            yield path, True
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                file = Path(folder, name)
                if file.is_file() or not file.exists():  # a link that leads nowhere is told of
                    yield file, False


def import_one(
    archive: Archive, path: Path, named: bool, summary: Summary, character_sets: CharacterSets = NOTHING_KNOWN
) -> None:
    """Import one file and count what became of it. Raises NoSpace, LogBroken: nothing more can be stored then."""
    from fastarchive.archive import Outcome
    from fastarchive.dicom.part10 import NotDicomFile
    from fastarchive.store.intake import IntakeError

    try:
        receipt = archive.import_file(
            path, character_set=character_sets.of_all, character_sets=character_sets.by_ae_title
        )
        size = path.stat().st_size
    except NotDicomFile as error:
        # What says that it is DICOM and can't be read is worth a look; other things lie in folders by the way.
        directory = "DICOMDIR" in str(error)
        refused = not directory and (named or _says_it_is_dicom(path))
        summary.add("refused" if refused else "skipped", path, reason=str(error))
    except IntakeError as error:
        summary.add("refused", path, reason=str(error))
    except OSError as error:
        if error.filename is None or Path(error.filename) != path:
            raise  # it is the archive's disk that fails
        summary.add("refused", path, reason=f"can't be read: {error.strerror}")
    else:
        match receipt.outcome:
            case Outcome.STORED:
                summary.add("stored", path, size=size)
            case Outcome.ALREADY_PRESENT:
                summary.add("already_present", path, size=size)
            case Outcome.REPLACED:
                summary.add("replaced", path, size=size)
            case Outcome.QUARANTINED | Outcome.OTHER_PATIENT:
                summary.add("quarantined", path, size=size)
            case Outcome.CONFLICT_KEPT_FIRST:
                summary.add(
                    "refused", path, reason="another data set is stored under its SOP Instance UID; it was kept"
                )
            case Outcome.REJECTED:
                summary.add("refused", path, reason="a rejection note in the archive rejects it")
            case Outcome.CONFLICT_ON_HOLD:
                summary.add("refused", path, reason="another data set is stored under its SOP Instance UID, on hold")


def _says_it_is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def import_all(
    archive: Archive,
    files: Iterable[tuple[Path, bool]],
    threads: int,
    advance: Callable[[], object],
    character_sets: CharacterSets = NOTHING_KNOWN,
) -> Summary:
    """Import the files with several threads, which take one after another. The first failure of the store ends all."""
    summary = Summary()
    started = time.monotonic()
    waiting = iter(files)
    lock = threading.Lock()
    broken = threading.Event()

    def work() -> None:
        while not broken.is_set():
            with lock:
                item = next(waiting, None)
            if item is None:
                return
            try:
                import_one(archive, *item, summary, character_sets)
            except BaseException:
                broken.set()
                raise
            advance()

    with ThreadPoolExecutor(threads, thread_name_prefix="import") as pool:
        workers = [pool.submit(work) for _ in range(threads)]
        try:
            for worker in workers:
                worker.result()
        finally:
            broken.set()
    summary.seconds = time.monotonic() - started
    return summary


def import_files(
    paths: Annotated[
        list[Path], typer.Argument(help="Files and folders; folders with all below them.", metavar="PATH")
    ],
    *,
    data: Annotated[Path | None, typer.Option("--data", help="The archive's folder.", metavar="FOLDER")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", "-j", help="Files under way at once. Default: 4 for each CPU.", min=1, max=256),
    ] = None,
    character_set: Annotated[
        str,
        typer.Option(
            "--character-set", help="What the text of these files is really in, whatever they declare.", metavar="TERM"
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Store DICOM files in the archive; works while it runs and while it doesn't.

    - `fastarchive import --data ./archive ~/images one.dcm`

    Files are stored as they are, with or without preamble and file meta information. A file that is in the archive
    already is not stored again. In folders, DICOMDIRs and files that are not DICOM are skipped; what can't be stored is
    refused with the reason.

    Text that was declared in the wrong character set is found and answered as it was meant with `--character-set
    GB18030`, or by the setting `character_sets` for files whose Source Application Entity Title is in it. The files are
    kept as they are.

    Exit codes: 0 nothing refused, 1 something refused or the archive could not store, 2 wrong usage.
    """
    settings = load_settings({"data": data}, config)
    known = CharacterSets(_parsed(character_set), settings.character_sets)
    from fastarchive.archive import Archive
    from fastarchive.store.writers import LogBroken, NoSpace
    from fastarchive.upkeep.policies import conflict_policies

    missing = [path for path in paths if not path.exists()]
    if missing:
        fail("\n".join(f"{path} does not exist" for path in missing), 2)
    files = list(files_below(paths))
    threads = threads or 4 * len(os.sched_getaffinity(0))
    bar, advance = _progress(len(files))
    try:
        with (
            Archive.open(
                settings.data,
                seal_size=settings.seal,
                reserve_bytes=settings.reserve,
                mirror=settings.mirror,
                mirror_wait=settings.mirror_wait,
                conflicts=conflict_policies(
                    settings.data,
                    settings.conflict_policy,
                    settings.conflict_policies,
                    settings.other_patient_policy,
                ),
            ) as archive,
            bar,
        ):
            summary = import_all(archive, files, min(threads, max(1, len(files))), advance, known)
    except NoSpace:
        fail(f"{settings.data} has no more space than is kept in reserve; what was stored so far is stored")
    except LogBroken as error:
        fail(f"{settings.data} can't be written to: {error}")
    except OSError as error:
        fail(f"{settings.data} can't be used: {error.strerror or error}")
    if as_json:
        print_json(summary.as_dict())
    else:
        _print_summary(summary)
    raise typer.Exit(FAILED if summary.counts["refused"] else 0)


def _parsed(character_set: str) -> str:
    if not character_set:
        return ""
    try:
        return parse_character_sets(character_set)
    except ValueError as error:
        fail(f"--character-set {character_set}: {error}", 2)


def _progress(total: int) -> tuple[Any, Callable[[], object]]:
    screen = console(errors=True)
    if not screen.is_terminal:
        return nullcontext(), lambda: None
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=screen, transient=True)
    task = progress.add_task("importing", total=total)
    return progress, lambda: progress.advance(task)


def _print_summary(summary: Summary) -> None:
    counts = summary.counts
    colours = {"stored": "green", "refused": "red"}
    parts = [
        _coloured(f"{counts[name]} {name.replace('_', ' ')}", colours.get(name, "") if counts[name] else "")
        for name in OUTCOMES
        if counts[name] or name in {"stored", "refused"}
    ]
    line = ", ".join(parts) + f" ({summary.bytes / 1e6:.1f} MB in {summary.seconds:.1f} s)"
    typer.echo(line)
    for (outcome, reason), count in summary.reason_counts.most_common():
        typer.echo(f"{outcome}: {reason}: {count}")
        for path in summary.reasons[outcome, reason]:
            typer.echo(f"  {path}")
        if count > PATHS_KEPT:
            typer.echo(f"  … and {count - PATHS_KEPT} more")


def _coloured(text: str, colour: str) -> str:
    return typer.style(text, fg=colour) if colour and on_terminal() else text
