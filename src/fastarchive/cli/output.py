"""What the commands share: tables for people, lines for scripts, errors on stderr with an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import typer

from fastarchive.setting_values import parse_ae_title, parse_peer
from fastarchive.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from rich.console import Console

FAILED = 1
WRONG_USAGE = 2


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Say what is wrong on stderr and end with a code."""
    for line in message.splitlines():
        typer.secho(f"fastarchive: {line}", fg=typer.colors.RED if sys.stderr.isatty() else None, err=True)
    raise typer.Exit(code)


def fail_unusable(folder: Path, error: OSError) -> NoReturn:
    """The archive in `folder` isn't there, or can't be read or written: say so and end."""
    fail(str(error) if isinstance(error, FileNotFoundError) else f"{folder} can't be used: {error.strerror}")


def load_settings(options: Mapping[str, object], config: Path | None = None) -> Settings:
    """The settings, or the end of the command with what is wrong with them (exit code 2)."""
    try:
        return load(options, config=config)
    except SettingsError as error:
        fail(str(error), WRONG_USAGE)


def console(*, errors: bool = False) -> Console:
    """A rich console on stdout or stderr."""
    from rich.console import Console

    return Console(stderr=errors, highlight=False)


def on_terminal() -> bool:
    """Whether a person looks at stdout."""
    return sys.stdout.isatty()


def print_json(value: object) -> None:
    """One JSON value on one line, characters as they are."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """A table on a terminal; lines of values between tabs, with the names first, anywhere else."""
    if not on_terminal():
        for row in (columns, *rows):
            sys.stdout.write("\t".join(one_line(value) for value in row) + "\n")
        return
    from rich.table import Table

    table = Table(*columns, title=title or None, header_style="bold", row_styles=("", "dim"))
    for row in rows:
        table.add_row(*(one_line(value) for value in row))
    console().print(table, markup=False)


def print_facts(facts: Sequence[tuple[str, Any]]) -> None:
    """Names and values: aligned on a terminal, between tabs elsewhere."""
    if not on_terminal():
        for name, value in facts:
            sys.stdout.write(f"{name}\t{one_line(value)}\n")
        return
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for name, value in facts:
        table.add_row(name, one_line(value))
    console().print(table, markup=False)


def one_line(value: object) -> str:
    """A value without anything that moves a terminal's cursor: stored text comes from anywhere."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


class Address(NamedTuple):
    """An application entity: who it is and where it listens."""

    ae_title: str
    host: str
    port: int


def parse_address(text: str, default_title: str) -> Address:
    """``[AET@]HOST:PORT``; ends the command when it is something else (exit code 2)."""
    title, at, place = text.rpartition("@")
    try:
        return Address(parse_ae_title(title if at else default_title), *parse_peer(place))
    except ValueError as error:
        fail(f'"{text}" is no address ({error}); allowed: AET@HOST:PORT or HOST:PORT', WRONG_USAGE)
