"""``fastarchive deletions``: what was deleted, when, by whom and why."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from typer import Option

from fastarchive.cli.output import fail, load_settings, print_json, print_table


def deletions(
    *,
    data: Annotated[Path | None, Option("--data", help="The archive's folder.", metavar="FOLDER")] = None,
    config: Annotated[Path | None, Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    as_json: Annotated[bool, Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """List all deletions: what was deleted, when, by whom and why; works while the archive runs and while it doesn't.

    - `fastarchive deletions --data ./archive`

    It reads the log from its beginning, so a large archive takes a while. Instances that another content took the place
    of are listed, too. What is named may have been stored again since.

    Exit codes: 0 listed; 1 the archive can't be read; 2 wrong usage.
    """
    settings = load_settings({"data": data}, config)
    from fastarchive.upkeep.deletion import past_deletions

    if not (settings.data / "packs").is_dir():
        fail(f"there is no archive in {settings.data}")
    try:
        found = past_deletions(settings.data, settings.mirror)
    except OSError as error:
        fail(f"{settings.data} can't be used: {error.strerror}")
    if as_json:
        print_json([asdict(one) | {"level": one.level.value} for one in found])
        return
    rows = [
        (
            datetime.fromtimestamp(one.moment / 1e9, UTC).isoformat(timespec="seconds"),
            one.level.value,
            one.sop_instance or one.series or one.study,
            one.operator,
            one.reason,
        )
        for one in found
    ]
    print_table(("when", "level", "what", "by", "why"), rows, title="Deleted")
