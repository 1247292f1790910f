"""``fastarchive settings``: the reference of all settings, and the values in force."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fastarchive.cli.output import load_settings, print_json, print_table
from fastarchive.settings_model import allowed
from fastarchive.settings_reference import default_text, reference


def settings(
    *,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference page instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the values as JSON.")] = False,
) -> None:
    """Show every setting with the value in force, from the file, the environment and the defaults.

    - `fastarchive settings --config /etc/fastarchive.toml`
    """
    if markdown:
        sys.stdout.write(reference())
        return
    loaded = load_settings({}, config)
    values = loaded.model_dump(mode="json")
    if as_json:
        print_json(values)
        return
    rows = [(name, str(value), default_text(name), allowed(name)) for name, value in values.items()]
    print_table(("setting", "value", "default", "allowed"), rows)
