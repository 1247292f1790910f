"""``fastarchive quarantine``: instances that came under a UID which is stored with another content."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastarchive.cli.output import WRONG_USAGE, fail, fail_unusable, load_settings, print_json, print_table

if TYPE_CHECKING:
    from fastarchive.archive import Archive
    from fastarchive.index.notes import Quarantined

ACTIONS = ("list", "export", "release", "discard")
DIGITS = 12
"""Of a digest, on the screen."""


def quarantine(
    action: Annotated[str, typer.Argument(help="list, export, release or discard.", metavar="|".join(ACTIONS))],
    instance: Annotated[str, typer.Argument(help="SOP Instance UID.", metavar="SOP-UID", show_default=False)] = "",
    *,
    digest: Annotated[
        str, typer.Option("--digest", help="Which one, where several have the UID: how its digest begins.")
    ] = "",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="For export: the file.", metavar="FILE")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The archive's folder.", metavar="FOLDER")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON what is concerned.")] = False,
) -> None:
    """See what is in quarantine, and decide; works while the archive runs and while it doesn't.

    - `fastarchive quarantine list --data ./archive`
    - `fastarchive quarantine export 1.2.840.99.1 --output look.dcm --data ./archive`
    - `fastarchive quarantine release 1.2.840.99.1 --data ./archive`

    With the setting `conflict_policy = "quarantine"` an instance comes here when its SOP Instance UID is stored with
    another content. Released, it takes the place of that one, which is gone when its pack is compacted; discarded, it
    is gone itself. An instance of a study on hold is not replaced.

    Exit codes: 0 done; 1 there is no such instance in quarantine, or it couldn't be done; 2 wrong usage.
    """
    if action not in ACTIONS:
        fail(f'"{action}" is not an action; allowed: {", ".join(ACTIONS)}', WRONG_USAGE)
    if (action == "list") is bool(instance) or (action == "export") is (output is None):
        fail("export, release and discard need a SOP Instance UID, export an --output, too; list takes none", 2)
    settings = load_settings({"data": data}, config)
    from fastarchive.archive import Archive
    from fastarchive.store.blobs import DamagedInstance
    from fastarchive.store.writers import LogBroken, NoSpace
    from fastarchive.upkeep import holds
    from fastarchive.upkeep.quarantine import OnHold, discard, release

    try:
        with Archive.open(settings.data, read_only=True, mirror=settings.mirror) as archive:
            if action == "list":
                _list(archive, as_json=as_json)
            else:
                one = _only(archive, instance, digest)
                if output is not None:
                    archive.write_file(archive.blobs.open(one.location), output)
                else:
                    act = release if action == "release" else discard
                    act(archive, one, mirror=settings.mirror, mirror_wait=settings.mirror_wait)
                _print(one, action, as_json=as_json)
    except (OnHold, holds.HoldsUnreadable, DamagedInstance) as error:
        fail(f"nothing was changed: {error}")
    except (NoSpace, LogBroken) as error:
        fail(f"not all was done: {error}; it is safe to try again")
    except OSError as error:
        fail_unusable(settings.data, error)


def _list(archive: Archive, *, as_json: bool) -> None:
    from fastarchive.upkeep.quarantine import entries

    found = entries(archive)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    rows = [
        (one.instance, one.digest[:DIGITS], _time(one.received), one.calling_ae, _size(one.bytes), one.study)
        for one in found
    ]
    print_table(("instance", "digest", "received", "from", "size", "study"), rows, title="In quarantine")


def _only(archive: Archive, instance: str, digest: str) -> Quarantined:
    """The one data set that is meant; ends the command if it is none or several (exit code 1)."""
    from fastarchive.upkeep.quarantine import select

    found = select(archive, instance, digest)
    if not found:
        fail(f"there is no such instance in quarantine: {instance}")
    if len(found) > 1:
        several = ", ".join(one.digest.hex()[:DIGITS] for one in found)
        fail(f"{len(found)} data sets with that UID are in quarantine; say which by --digest: {several}")
    return found[0]


def _print(one: Quarantined, action: str, *, as_json: bool) -> None:
    done = {"export": "exported", "release": "released", "discard": "discarded"}[action]
    if as_json:
        print_json({"instance": one.instance, "digest": one.digest.hex(), "done": done})
    else:
        typer.echo(f"{done} {one.instance}")


def _time(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat(timespec="seconds")


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
