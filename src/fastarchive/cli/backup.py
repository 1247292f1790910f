"""``fastarchive backup``: every pack a second time, while the archive runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastarchive.cli.output import FAILED, fail, load_settings, print_json
from fastarchive.cli.progress import Bar

if TYPE_CHECKING:
    from fastarchive.upkeep.backup import BackupReport


def backup(
    target: Annotated[Path, typer.Argument(help="The folder of the backup; made where it is missing.", metavar="DEST")],
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read what earlier backups copied, too, and copy anew what is damaged.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove packs the archive no longer has, for instance after compaction.")
    ] = False,
    data: Annotated[Path | None, typer.Option("--data", help="The archive's folder.", metavar="FOLDER")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Copy what is new since the last backup; works while the archive runs and while it doesn't.

    - `fastarchive backup --data ./archive /mnt/backup/archive`

    All that was acknowledged before it began is in it. Packs that are full are copied once; of those still written to,
    what is durable is copied each time it grew. Each copy is synced, read back and compared before it counts. Stopped
    at any moment, the next backup goes on from there. `fastarchive restore` makes an archive of it.

    Exit codes: 0 all is in the backup; 1 something in the archive or in the backup is damaged, or the backup can't be
    written; 2 wrong usage.
    """
    settings = load_settings({"data": data}, config)
    from fastarchive.upkeep.backup import Backup
    from fastarchive.upkeep.copies import CopyFailed
    from fastarchive.upkeep.manifest import BackupError

    try:
        with Bar("copying", in_bytes=True) as bar:
            report = Backup(
                settings.data,
                target,
                mirror=settings.mirror,
                verify=verify,
                prune=prune,
                advance=bar.advance,
                total=bar.total,
            ).run()
    except (BackupError, CopyFailed) as error:
        fail(str(error))
    except FileNotFoundError as error:
        fail(str(error))
    except OSError as error:
        fail(f"the backup in {target} can't be written: {error.strerror or error}")
    if as_json:
        print_json(as_dict(report))
    else:
        _print(report, target)
    raise typer.Exit(0 if report.complete else FAILED)


def as_dict(report: BackupReport) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "complete": report.complete,
        "packs": report.packs,
        "copied": report.copied,
        "bytes": report.bytes,
        "seconds": round(report.seconds, 3),
        "damaged": [
            {"pack": each.pack, "offset": each.offset, "sop_instance": each.sop_instance, "reason": each.reason}
            for each in report.damaged
        ],
        "failed": [{"pack": pack, "reason": reason} for pack, reason in report.failed.items()],
        "healed": report.healed,
        "lost": report.lost,
        "gone": report.gone,
        "pruned": report.pruned,
    }


def _print(report: BackupReport, target: Path) -> None:
    for finding in report.damaged:
        typer.echo(f"damaged in the archive: pack {finding.pack} offset {finding.offset}: {finding.reason}")
    for pack, reason in report.failed.items():
        typer.echo(f"not copied: pack {pack}: {reason}")
    for pack in report.lost:
        typer.echo(f"damaged in the backup, and not in the archive any more: pack {pack}")
    for pack in report.healed:
        typer.echo(f"damaged in the backup, copied anew: pack {pack}")
    if report.gone:
        typer.echo(f"{len(report.gone)} packs are not in the archive any more; they stay in the backup without --prune")
    if report.pruned:
        typer.echo(f"{len(report.pruned)} packs removed that are not in the archive any more")
    typer.echo(
        f"{report.copied} of {report.packs} packs copied to {target} "
        f"({report.bytes / 1e6:.1f} MB in {report.seconds:.1f} s)"
    )
