"""``fastarchive reindex``: the index built anew from the packs."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from fastarchive.cli.output import fail, load_settings, print_json
from fastarchive.cli.progress import Bar


def reindex(
    *,
    data: Annotated[Path | None, typer.Option("--data", help="The archive's folder.", metavar="FOLDER")] = None,
    mirror: Annotated[
        Path | None, typer.Option("--mirror", help="The folder of its second copy.", metavar="FOLDER")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Build the index anew from the packs; works while the archive runs and while it doesn't.

    - `fastarchive reindex --data ./archive`

    The new index is built beside the old one, which answers queries until it is replaced in one step: there must be
    room for both. A running archive then starts its index writer again, and goes on storing and answering meanwhile.
    What is damaged is read from the mirror, if there is one.

    Exit codes: 0 done; 1 the index is in use by a process that can't be asked to let go, such as an import, or can't
    be written; 2 wrong usage.
    """
    settings = load_settings({"data": data, "mirror": mirror}, config)
    if not (settings.data / "packs").is_dir():
        fail(f"there is no archive in {settings.data}")
    if settings.mirror is not None and not settings.mirror.is_dir():
        fail(f"there is no folder {settings.mirror}")
    from fastarchive.index.writer import IndexBusy
    from fastarchive.upkeep.reindex import count_records, rebuild

    try:
        with Bar("indexing", count_records(settings.data), unit="records") as bar:
            built = rebuild(
                settings.data,
                advance=bar.advance,
                ask_writer_to_end=lambda: ask_writer_to_end(settings.data),
                mirror=settings.mirror,
            )
    except IndexBusy as error:
        fail(f"{error}; try again when that has ended. The old index stays in use")
    except OSError as error:
        fail(f"{settings.data} can't be used: {error.strerror or error}")
    if as_json:
        print_json(
            {"records": built.records, "seconds": round(built.seconds, 3), "records_per_second": round(built.rate)}
        )
    else:
        typer.echo(f"indexed {built.records} records in {built.seconds:.1f} s ({built.rate:.0f}/s)")


def ask_writer_to_end(data: Path) -> bool:
    """Ask the index writer process of the archive running on `data` to end; its supervisor starts it again.

    False if there is none: whoever writes the index then isn't a running archive.
    """
    from fastarchive.server.run_directory import RunDirectory

    for process in RunDirectory(data).processes():
        pid = process.get("pid")
        if process.get("role") == "indexer" and isinstance(pid, int) and _is_index_writer(pid):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)
                return True
    return False


def _is_index_writer(pid: int) -> bool:
    """Whether the process is what the run folder says it is, and not a later one of the same number."""
    try:
        return b"fastarchive.server.indexer" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
