"""``fastarchive verify``: every stored byte checked, damage named and, with a mirror, healed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastarchive.cli.output import FAILED, console, fail, load_settings, print_json, print_table
from fastarchive.signals import set_on

if TYPE_CHECKING:
    from fastarchive.store.scrub import ScrubReport
    from fastarchive.store.verify import Finding

INTERRUPTED = 130


def verify(
    *,
    data: Annotated[Path | None, typer.Option("--data", help="The archive's folder.", metavar="FOLDER")] = None,
    mirror: Annotated[
        Path | None, typer.Option("--mirror", help="The folder of its second copy.", metavar="FOLDER")
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Decode every instance and compare its digest, too; takes longer.")
    ] = False,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Read at most so many megabytes a second.", metavar="MB/S", min=0.1)
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Heal what is damaged: from the mirror, or from what is left.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the last verify was stopped.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check every stored byte against its checksum; works while the archive runs and while it doesn't.

    - `fastarchive verify --data ./archive`
    - `fastarchive verify --config /etc/fastarchive.toml --repair --rate 50`

    Damage is listed by instance: pack, offset, and the SOP Instance UID where it can still be read. Ctrl-C stops it,
    --resume goes on from there.

    Exit codes: 0 all is well, or was healed; 1 something is damaged, or can't be read; 2 wrong usage; 130 stopped.
    """
    settings = load_settings({"data": data, "mirror": mirror}, config)
    for folder in (settings.data / "packs", settings.mirror):
        if folder is not None and not folder.is_dir():
            fail(f"there is no folder {folder}")
    from fastarchive.store.scrub import Scrub

    stop = threading.Event()
    bar, advance, total = _progress()
    scrub = Scrub(
        settings.data,
        mirror=settings.mirror,
        deep=deep,
        repair=repair,
        rate=None if rate is None else rate * 1e6,
        stop=stop,
        progress=advance,
    )
    before = set_on(signal.SIGINT, stop)
    try:
        with bar:
            total(scrub.size())
            report = scrub.run(resume=resume)
    except OSError as error:
        fail(f"{settings.data} can't be read: {error.strerror or error}")
    finally:
        signal.signal(signal.SIGINT, before)
    if as_json:
        print_json(as_dict(report))
    else:
        _print(report)
    if report.remaining:
        raise typer.Exit(FAILED)
    if not report.complete:
        raise typer.Exit(INTERRUPTED)


def as_dict(report: ScrubReport) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "complete": report.complete,
        "packs": report.packs,
        "records": report.records,
        "bytes": report.bytes,
        "seconds": round(report.seconds, 3),
        "found": [_finding(finding) for finding in report.findings],
        "remaining": [_finding(finding) for finding in report.remaining],
        "lost": [mark._asdict() for mark in report.lost],
        "healed": [str(path) for path in report.healed],
        "not_healed": [{"pack": pack, "reason": reason} for pack, reason in report.not_healed.items()],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "pack": finding.pack,
        "copy": "mirror" if finding.mirror else "data",
        "part": finding.part.value,
        "offset": finding.offset,
        "size": finding.size,
        "sop_instance": finding.sop_instance,
        "reason": finding.reason,
    }


def _progress() -> tuple[Any, Callable[[int], object], Callable[[int], object]]:
    """A bar on a terminal: a context, what to tell it, and where to set the total."""
    screen = console(errors=True)
    if not screen.is_terminal:
        return nullcontext(), lambda _: None, lambda _: None
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn("verifying"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=screen, transient=True)
    task = progress.add_task("verifying", total=None)
    return progress, lambda count: progress.advance(task, count), lambda size: progress.update(task, total=size)


def _print(report: ScrubReport) -> None:
    if report.findings:
        print_table(
            ("pack", "copy", "damaged", "offset", "bytes", "SOP Instance UID", "reason"),
            [tuple(str(value) for value in _finding_row(finding)) for finding in report.findings],
        )
    for pack, reason in report.not_healed.items():
        typer.echo(f"pack {pack} was not healed: {reason}")
    amount = f"{report.records} records in {report.packs} packs, {report.bytes / 1e6:.1f} MB in {report.seconds:.1f} s"
    if report.remaining:
        healed = f", {len(report.healed)} packs healed" if report.healed else ""
        verdict = f"{len(report.remaining)} damaged{healed}, {len(report.lost)} records without a whole copy"
    elif report.findings:
        verdict = f"all is well: {len(report.findings)} damaged, all healed"
    else:
        verdict = "all is well"
    typer.echo(f"{'' if report.complete else 'stopped; so far: '}{verdict} ({amount})")


def _finding_row(finding: Finding) -> tuple[object, ...]:
    row = _finding(finding)
    return tuple(row[name] for name in ("pack", "copy", "part", "offset", "size", "sop_instance", "reason"))
