"""``fastarchive hold``: studies that nothing may delete."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fastarchive.cli.output import FAILED, fail, load_settings, print_json, print_table

ACTIONS = ("add", "remove", "list")


def hold(
    action: Annotated[str, typer.Argument(help="add, remove or list.", metavar="add|remove|list")],
    studies: Annotated[
        list[str] | None, typer.Argument(help="Study Instance UIDs.", metavar="STUDY-UID…", show_default=False)
    ] = None,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the list.", metavar="TEXT")] = "",
    data: Annotated[Path | None, typer.Option("--data", help="The archive's folder.", metavar="FOLDER")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the holds concerned as JSON.")] = False,
) -> None:
    """Put studies on hold, take them off, or list the holds; works while the archive runs and while it doesn't.

    - `fastarchive hold add 1.2.840.99.1 --reason "case 17" --data ./archive`

    A study on hold is not deleted, nor any part of it, whatever else says so. A study may be put on hold before its
    first instance comes.

    Exit codes: 0 done; 1 a study to be removed was not on hold, or the holds can't be read; 2 wrong usage.
    """
    wanted = [study.strip() for study in studies or ()]
    if action not in ACTIONS:
        fail(f'"{action}" is not an action; allowed: {", ".join(ACTIONS)}', 2)
    if (action == "list") is bool(wanted):
        fail("add and remove need Study Instance UIDs; list takes none", 2)
    settings = load_settings({"data": data}, config)
    if not (settings.data / "packs").is_dir():
        fail(f"there is no archive in {settings.data}")
    from fastarchive.upkeep import holds

    try:
        if action == "add":
            found = holds.add(settings.data, wanted, reason)
        elif action == "remove":
            found = holds.remove(settings.data, wanted)
        else:
            found = list(holds.read(settings.data).values())
    except holds.HoldsUnreadable as error:
        fail(str(error))
    except OSError as error:
        fail(f"{settings.data} can't be used: {error.strerror or error}")
    if as_json:
        print_json([asdict(one) for one in found])
    elif action == "list":
        print_table(
            ("study", "since", "reason"), [(one.study, one.since, one.reason) for one in found], title="On hold"
        )
    else:
        typer.echo(f"{len(found)} {'put on' if action == 'add' else 'taken off'} hold")
    raise typer.Exit(FAILED if action == "remove" and len(found) < len(set(wanted)) else 0)
