"""``fastarchive restore``: an archive out of a backup."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastarchive.cli.output import FAILED, fail, load_settings, print_json
from fastarchive.cli.progress import Bar


def restore(
    source: Annotated[Path, typer.Argument(help="The folder of the backup.", metavar="SRC")],
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Then decode every instance and compare its digest, too.")
    ] = False,
    data: Annotated[Path | None, typer.Option("--data", help="The folder to fill: empty.", metavar="FOLDER")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Make an archive from a backup, in an empty folder; then start it with `fastarchive serve`.

    - `fastarchive restore /mnt/backup/archive --data ./archive`

    Every pack is compared with its checksum, packs that were open are recovered as after a crash, and the index is
    built anew. Stopped at any moment, it is run again and goes on from there.

    Exit codes: 0 all is there; 1 something is damaged or missing in the backup, or the folder isn't empty; 2 wrong
    usage.
    """
    settings = load_settings({"data": data}, config)
    from fastarchive.store.recovery import recover
    from fastarchive.store.scrub import Scrub
    from fastarchive.upkeep.copies import CopyFailed, SourceUnreadable
    from fastarchive.upkeep.manifest import BackupError
    from fastarchive.upkeep.reindex import count_records, rebuild
    from fastarchive.upkeep.restore import restore as restore_packs

    damaged = 0
    try:
        with Bar("copying", in_bytes=True) as bar:
            report = restore_packs(source, settings.data, advance=bar.advance, total=bar.total)
        recover(settings.data)
        with Bar("indexing", count_records(settings.data), unit="records") as bar:
            built = rebuild(settings.data, advance=bar.advance)
        if verify:
            with Bar("verifying", in_bytes=True) as bar:
                scrub = Scrub(settings.data, deep=True, progress=bar.advance)
                bar.total(scrub.size())
                damaged = len(scrub.run().remaining)
    except (BackupError, CopyFailed, SourceUnreadable) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{settings.data} can't be written: {error.strerror or error}")
    facts = {
        "packs": report.packs,
        "bytes": report.bytes,
        "seconds": round(report.seconds, 3),
        "records": built.records,
        "damaged_packs": report.damaged,
        "missing_packs": report.missing,
        "damaged_records": damaged,
    }
    if as_json:
        print_json(facts)
    else:
        for pack in report.damaged:
            typer.echo(f"damaged in the backup, restored as it is: pack {pack}; see `fastarchive verify`")
        for pack in report.missing:
            typer.echo(f"missing in the backup: pack {pack}")
        if damaged:
            typer.echo(f"{damaged} damaged; see `fastarchive verify`")
        typer.echo(
            f"{report.packs} packs with {built.records} records restored to {settings.data} "
            f"({report.bytes / 1e6:.1f} MB in {report.seconds:.1f} s)"
        )
    raise typer.Exit(FAILED if report.damaged or report.missing or damaged else 0)
