"""The command line.

Every command imports what it needs when it runs, so that ``--help`` and small commands answer at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from fastarchive import __version__
from fastarchive.cli import (
    backup,
    compact,
    conflicts,
    delete,
    deletions,
    echo,
    export,
    find,
    hold,
    importing,
    quarantine,
    reindex,
    rejections,
    restore,
    retention,
    serve,
    settings_page,
    status,
    verify,
)

WRONG_USAGE = 2
INTERRUPTED = 130

app = typer.Typer(
    name="fastarchive",
    help=(
        "fastarchive keeps DICOM images, finds them and hands them out.\n\n"
        "Start an archive, fill it, look into it:\n\n"
        "- `fastarchive serve --data ./archive`\n"
        "- `fastarchive import --data ./archive ~/images`\n"
        "- `fastarchive find study --data ./archive 'PatientName=SMITH*'`\n"
        "- `fastarchive status --data ./archive`\n\n"
        "Every command tells more with --help."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastarchive {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


app.command("serve")(serve.command())
app.command("import")(importing.import_files)
app.command("find")(find.find)
app.command("status")(status.status)
app.command("export")(export.export)
app.command("delete")(delete.delete)
app.command("deletions")(deletions.deletions)
app.command("retention")(retention.retention)
app.command("rejections")(rejections.rejections)
app.command("hold")(hold.hold)
app.command("conflicts")(conflicts.conflicts)
app.command("quarantine")(quarantine.quarantine)
app.command("verify")(verify.verify)
app.command("compact")(compact.compact)
app.command("backup")(backup.backup)
app.command("restore")(restore.restore)
app.command("reindex")(reindex.reindex)
app.command("echo")(echo.echo)
app.command("settings")(settings_page.settings)


def main() -> None:
    """The entry point of ``fastarchive`` and ``python -m fastarchive``."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has had enough (``| head``); Python must not complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
