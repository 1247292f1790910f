"""``fastarchive retention``: what the rules let go, and letting it go."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastarchive.cli.delete import STUDIES_SHOWN, operator
from fastarchive.cli.output import WRONG_USAGE, fail, fail_unusable, load_settings, on_terminal, print_json, print_table
from fastarchive.cli.progress import Bar

if TYPE_CHECKING:
    from fastarchive.upkeep.retention import RetentionPlan

ACTIONS = ("plan", "apply")


def retention(
    action: Annotated[str, typer.Argument(help="plan or apply.", metavar="plan|apply")],
    *,
    rules: Annotated[
        Path | None, typer.Option("--rules", help="TOML file with the rules; default: the setting.", metavar="FILE")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    data: Annotated[Path | None, typer.Option("--data", help="The archive's folder.", metavar="FOLDER")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan and the outcome as JSON.")] = False,
) -> None:
    """Show which studies the retention rules let go, and delete them; works while the archive runs and while not.

    - `fastarchive retention plan --rules retention.toml --data ./archive`
    - `fastarchive retention apply --rules retention.toml --data ./archive`

    Without rules nothing goes. A rule is about whole studies: by days since the receipt of the last instance or since
    the Study Date, or, as a quota, by their size, the oldest first; for some modalities or senders only. A study on
    hold stays, whatever the rules say. apply shows the plan first; on a terminal it asks, anywhere else it needs --yes.
    A file of rules:

        [[rule]]
        name = "dose sheets"
        days = 3650
        since = "study-date"                # or "receipt", the default
        modalities = ["SR"]                 # every modality of the study is one of these

        [[quota]]
        name = "research"
        size = "2TiB"
        calling_ae_titles = ["RESEARCH1"]   # every instance came from one of these

    Exit codes: 0 planned, or deleted; 1 it couldn't be done; 2 wrong usage, or a rule is wrong.
    """
    if action not in ACTIONS:
        fail(f'"{action}" is not an action; allowed: {", ".join(ACTIONS)}', WRONG_USAGE)
    settings = load_settings({"data": data}, config)
    path = rules or settings.retention
    if path is None:
        fail("there are no rules: name a file by --rules or by the setting `retention`", WRONG_USAGE)
    from fastarchive.archive import Archive
    from fastarchive.store.writers import LogBroken, NoSpace
    from fastarchive.upkeep import deletion, holds
    from fastarchive.upkeep import retention as upkeep
    from fastarchive.upkeep.retention_rules import RulesError, read_rules

    deleted = 0
    try:
        read = read_rules(path)
        with Archive.open(settings.data, read_only=True, mirror=settings.mirror) as archive:
            with Bar("planning", archive.status()["instances"]) as bar:
                plan = upkeep.make_plan(archive, read, holds.read(settings.data), advance=bar.advance)
            if not as_json:
                _print(plan)
            if action == "apply" and plan.due:
                if not yes:
                    _confirm(plan)
                deleted = upkeep.apply(
                    archive, plan, operator=operator(), mirror=settings.mirror, mirror_wait=settings.mirror_wait
                )
    except RulesError as error:
        fail(str(error), WRONG_USAGE)
    except (deletion.OnHold, deletion.ClockBehind, holds.HoldsUnreadable) as error:
        fail(f"not all was deleted: {error}")
    except (NoSpace, LogBroken) as error:
        fail(f"not all was deleted: {error}; it is safe to try again")
    except OSError as error:
        fail_unusable(settings.data, error)
    if as_json:
        print_json(as_dict(plan, deleted))
    elif action == "apply":
        typer.echo(f"deleted {deleted} studies; compaction gives the space back")


def as_dict(plan: RetentionPlan, deleted: int) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "rules": [
            {
                "name": name,
                "studies": [
                    {"study": each.study.study, "instances": each.instances, "bytes": each.bytes} for each in candidates
                ],
            }
            for name, candidates in plan.due.items()
        ],
        "instances": plan.instances,
        "bytes": plan.bytes,
        "on_hold": plan.held,
        "deleted_studies": deleted,
    }


def _print(plan: RetentionPlan) -> None:
    for name, candidates in plan.due.items():
        rows = [
            (each.study.study, ",".join(each.study.modalities), _day(each.newest), str(each.instances), _mb(each.bytes))
            for each in candidates[:STUDIES_SHOWN]
        ]
        print_table(("study", "modalities", "received", "instances", "size"), rows, title=f"To be deleted by {name}")
        if len(candidates) > STUDIES_SHOWN:
            typer.echo(f"… and {len(candidates) - STUDIES_SHOWN} more studies by {name}")
    for study in plan.held:
        typer.echo(f"on hold, stays: {study}")
    typer.echo(f"in all {_amount(plan)}")


def _amount(plan: RetentionPlan) -> str:
    return f"{sum(map(len, plan.due.values()))} studies, {plan.instances} instances, {_mb(plan.bytes)}"


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _day(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).date().isoformat()


def _confirm(plan: RetentionPlan) -> None:
    """Ask a person; ends the command unless the answer is yes (exit code 1), or nobody can be asked (exit code 2)."""
    if not (sys.stdin.isatty() and on_terminal()):
        fail("nothing was deleted: without a terminal to ask on, --yes is needed", WRONG_USAGE)
    if not typer.confirm(f"Delete {_amount(plan)}?"):
        fail("nothing was deleted")
