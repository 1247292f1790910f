"""``fastarchive delete``: patients, studies, series or instances, after a look at the plan."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastarchive.cli.export import parse_level
from fastarchive.cli.output import (
    FAILED,
    WRONG_USAGE,
    fail,
    fail_unusable,
    load_settings,
    on_terminal,
    print_json,
    print_table,
)
from fastarchive.cli.progress import Bar

if TYPE_CHECKING:
    from fastarchive.upkeep.deletion import Plan

STUDIES_SHOWN = 20


def delete(
    level: Annotated[str, typer.Argument(help="patient, study, series or image.", metavar="LEVEL")],
    names: Annotated[list[str], typer.Argument(help="Patient IDs or UIDs.", metavar="UID…")],
    *,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why: kept with the deletion for good.", metavar="TEXT")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    data: Annotated[Path | None, typer.Option("--data", help="The archive's folder.", metavar="FOLDER")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan and the outcome as JSON.")] = False,
) -> None:
    """Delete patients, studies, series or instances; works while the archive runs and while it doesn't.

    - `fastarchive delete study 1.2.840.99.1 --data ./archive --dry-run`
    - `fastarchive delete patient TEST01 --data ./archive --reason "test images"`

    The plan is shown first; on a terminal it asks, anywhere else it needs --yes. Deleted is gone from the next query
    on. The space is given back later, when packs are compacted. What is sent again is stored again, as new. A study on
    hold (`fastarchive hold`) is never deleted, nor any part of it: then nothing is.

    Exit codes: 0 deleted, or planned; 1 something is not in the archive, is on hold, or couldn't be deleted; 2 wrong
    usage.
    """
    if not dry_run and not (reason and reason.strip()):
        fail("a deletion needs a --reason (or --dry-run to see the plan)", WRONG_USAGE)
    settings = load_settings({"data": data}, config)
    from fastarchive.archive import Archive
    from fastarchive.store.writers import LogBroken, NoSpace
    from fastarchive.upkeep import deletion, holds
    from fastarchive.upkeep.selection import select

    asked = parse_level(level)
    try:
        with Archive.open(settings.data, read_only=True) as archive:
            view = archive.view()
            selection = select(view, asked, names)
            with Bar("planning", selection.number_of_instances) as bar:
                plan = deletion.make_plan(view, selection, bar.advance)
        held = plan.held(holds.read(settings.data))
        if not as_json:
            _print(plan, held)
        deleted = 0
        if not dry_run and not held and plan.targets:
            if not yes:
                _confirm(plan)
            deleted = deletion.delete(
                settings.data,
                plan,
                reason=reason or "",
                operator=operator(),
                mirror=settings.mirror,
                mirror_wait=settings.mirror_wait,
            )
    except (deletion.OnHold, deletion.ClockBehind, holds.HoldsUnreadable, ValueError) as error:
        fail(f"nothing was deleted: {error}")
    except (NoSpace, LogBroken) as error:
        fail(f"not all was deleted: {error}; it is safe to try again")
    except OSError as error:
        fail_unusable(settings.data, error)
    if as_json:
        print_json(as_dict(plan, held, deleted=bool(deleted)))
    elif deleted:
        typer.echo(f"deleted {_amount(plan)}; compaction gives the space back")
    raise typer.Exit(FAILED if plan.missing or held else 0)


def as_dict(plan: Plan, held: tuple[str, ...], *, deleted: bool) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "studies": len(plan.studies),
        "series": plan.series,
        "instances": plan.instances,
        "bytes": plan.bytes,
        "missing": list(plan.missing),
        "on_hold": list(held),
        "deleted": deleted,
    }


def _print(plan: Plan, held: tuple[str, ...]) -> None:
    shown = list(plan.studies.values())[:STUDIES_SHOWN]
    if shown:
        rows = [
            (one.patient, one.study, str(len(one.series)), str(one.instances), _megabytes(one.bytes)) for one in shown
        ]
        print_table(("patient", "study", "series", "instances", "size"), rows, title="To be deleted")
    if len(plan.studies) > len(shown):
        typer.echo(f"… and {len(plan.studies) - len(shown)} more studies")
    for name in plan.missing:
        typer.echo(f"not in the archive: {name}")
    for study in held:
        typer.echo(f"on hold: {study}")
    if held:
        typer.echo("nothing is deleted")
    elif plan.targets:
        typer.echo(f"in all {_amount(plan)}")


def _amount(plan: Plan) -> str:
    studies, series = len(plan.studies), plan.series
    of = f"of {series} series in {studies} {'study' if studies == 1 else 'studies'}"
    return f"{plan.instances} instances {of}, {_megabytes(plan.bytes)}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _confirm(plan: Plan) -> None:
    """Ask a person; ends the command unless the answer is yes (exit code 1), or nobody can be asked (exit code 2)."""
    if not (sys.stdin.isatty() and on_terminal()):
        fail("nothing was deleted: without a terminal to ask on, --yes is needed", WRONG_USAGE)
    if not typer.confirm(f"Delete {_amount(plan)}?"):
        fail("nothing was deleted")


def operator() -> str:
    """Who deletes: the user this runs as."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name
        return ""
