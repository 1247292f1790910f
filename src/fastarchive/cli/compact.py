"""``fastarchive compact``: the space of what was deleted given back, small packs joined."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastarchive.cli.output import FAILED, fail, load_settings, print_json, print_table
from fastarchive.cli.progress import Bar
from fastarchive.signals import set_on

if TYPE_CHECKING:
    from fastarchive.upkeep.compaction import CompactionReport
    from fastarchive.upkeep.compaction_plan import Plan

INTERRUPTED = 130
PACKS_SHOWN = 20


def compact(
    *,
    data: Annotated[Path | None, typer.Option("--data", help="The archive's folder.", metavar="FOLDER")] = None,
    mirror: Annotated[
        Path | None, typer.Option("--mirror", help="The folder of its second copy.", metavar="FOLDER")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.")] = False,
    dead: Annotated[
        float | None,
        typer.Option(
            "--dead", help="Rewrite packs of which so many percent are dead.", metavar="PERCENT", min=1, max=99
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", help="Copy at most so many megabytes a second.", metavar="MB/S", min=0.1),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan and the outcome as JSON.")] = False,
) -> None:
    """Give back the space of what was deleted, and join small packs; works while the archive runs and while it doesn't.

    - `fastarchive compact --data ./archive --dry-run`
    - `fastarchive compact --config /etc/fastarchive.toml --rate 50`

    What is still needed of a pack is copied to a new one, then the old one is removed. A running archive does this by
    itself (`compact_days`); beside it the rate is that of `compact_rate` unless --rate says otherwise. Ctrl-C stops
    it, and nothing is lost however it ends.

    Exit codes: 0 done, or planned; 1 a pack that should have been rewritten was left as it is, or it can't be done; 2
    wrong usage; 130 stopped.
    """
    settings = load_settings({"data": data, "mirror": mirror}, config)
    for folder in (settings.data / "packs", settings.mirror):
        if folder is not None and not folder.is_dir():
            fail(f"there is no folder {folder}")
    from fastarchive.archive import Archive
    from fastarchive.server.run_directory import RunDirectory
    from fastarchive.store.scrub import Stopped
    from fastarchive.upkeep.compaction import Compaction, CompactionBusy

    running = bool(RunDirectory(settings.data).processes())
    allowed = float(settings.compact_rate) if running else None
    stop = threading.Event()
    report = None
    before = set_on(signal.SIGINT, stop)
    try:
        with Archive.open(settings.data, read_only=dry_run, mirror=settings.mirror) as archive, Bar("copying") as bar:
            compaction = Compaction(
                settings.data,
                archive.index,
                mirror=settings.mirror,
                seal_size=settings.seal,
                dead=settings.compact_dead / 100 if dead is None else dead / 100,
                rate=allowed if rate is None else rate * 1e6,
                stop=stop,
                progress=bar.advance,
            )
            with Bar("planning", archive.status()["instances"], unit="instances") as looked_at:
                plan = compaction.plan(looked_at.advance)
            if not as_json:
                _print_plan(plan)
            if not dry_run:
                bar.total(2 * plan.moved_bytes)
                report = compaction.run(plan)
    except (CompactionBusy, Stopped) as error:
        fail(str(error) or "stopped", INTERRUPTED if isinstance(error, Stopped) else FAILED)
    except OSError as error:
        fail(f"{settings.data} can't be compacted: {error.strerror or error}")
    finally:
        signal.signal(signal.SIGINT, before)
    if as_json:
        print_json(as_dict(plan, report))
    elif report is not None:
        _print_report(report)
    if report is not None and not report.complete:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(FAILED if (report is not None and report.left) or plan.unreadable else 0)


def as_dict(plan: Plan, report: CompactionReport | None) -> dict[str, Any]:
    """For ``--json``."""
    facts: dict[str, Any] = {
        "packs": plan.packs,
        "bytes": plan.size,
        "to_rewrite": [use.pack for use in plan.candidates],
        "dead_records": plan.dead_records,
        "dead_bytes": plan.dead_bytes,
        "bytes_to_copy": plan.moved_bytes,
        "damaged": [{"pack": pack, "reason": reason} for pack, reason in plan.unreadable.items()],
    }
    if report is not None:
        facts |= {
            "complete": report.complete,
            "removed": report.removed,
            "written": report.written,
            "moved_records": report.moved_records,
            "freed_bytes": report.freed_bytes,
            "left": [{"pack": pack, "reason": reason} for pack, reason in report.left.items()],
            "seconds": round(report.seconds, 3),
        }
    return facts


def _print_plan(plan: Plan) -> None:
    shown = plan.candidates[:PACKS_SHOWN]
    if shown:
        rows = [
            (str(use.pack), _megabytes(use.size), _megabytes(use.dead_bytes), str(use.dead_records)) for use in shown
        ]
        print_table(("pack", "size", "dead", "dead records"), rows, title="To be rewritten")
    if len(plan.candidates) > len(shown):
        typer.echo(f"… and {len(plan.candidates) - len(shown)} more packs")
    for pack, reason in plan.unreadable.items():
        typer.echo(f"pack {pack} has to be repaired first: {reason}")
    if plan.candidates:
        typer.echo(
            f"{len(plan.candidates)} of {plan.packs} packs: {_megabytes(plan.dead_bytes)} to win,"
            f" {_megabytes(plan.moved_bytes)} to copy"
        )
    else:
        typer.echo(f"nothing to do in {plan.packs} packs ({_megabytes(plan.size)})")


def _print_report(report: CompactionReport) -> None:
    for pack, reason in report.left.items():
        typer.echo(f"pack {pack} was left as it is: {reason}")
    if report.removed or not report.complete:
        typer.echo(
            f"{'' if report.complete else 'stopped; so far: '}{_megabytes(report.freed_bytes)} given back,"
            f" {len(report.removed)} packs replaced by {len(report.written)} in {report.seconds:.1f} s"
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
