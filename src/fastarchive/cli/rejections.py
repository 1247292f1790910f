"""``fastarchive rejections``: which instances rejection notes hide, taking a note back, deleting what one hides."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fastarchive.cli.delete import operator
from fastarchive.cli.output import WRONG_USAGE, fail, fail_unusable, load_settings, print_json, print_table

ACTIONS = ("list", "revoke", "discard")


def rejections(
    action: Annotated[str, typer.Argument(help="list, revoke or discard.", metavar="list|revoke|discard")],
    note: Annotated[
        str, typer.Argument(help="SOP Instance UID of the note.", metavar="NOTE-UID", show_default=False)
    ] = "",
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why: kept for good.", metavar="TEXT")] = "",
    data: Annotated[Path | None, typer.Option("--data", help="The archive's folder.", metavar="FOLDER")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the notes concerned as JSON.")] = False,
) -> None:
    """List the rejection notes in force, revoke one, or delete what it rejects; works on a running archive, too.

    - `fastarchive rejections list --data ./archive`
    - `fastarchive rejections revoke 1.2.840.99.7 --reason "wrong study" --data ./archive`

    A rejection note is a Key Object Selection document by which a modality or a workstation says that instances are not
    to be used (IHE Imaging Object Change Management). They are kept, but no query finds them. To revoke a note is to
    delete it: what it alone rejected is found again at once. To discard is to delete what the note rejects, and to keep
    the note.

    Exit codes: 0 done; 1 there is no such note, or it couldn't be done; 2 wrong usage.
    """
    if action not in ACTIONS:
        fail(f'"{action}" is not an action; allowed: {", ".join(ACTIONS)}', WRONG_USAGE)
    if (action == "list") is bool(note) or (action != "list" and not reason.strip()):
        fail("revoke and discard need the SOP Instance UID of a note and a --reason; list takes neither", WRONG_USAGE)
    settings = load_settings({"data": data}, config)
    from fastarchive.archive import Archive
    from fastarchive.dicom.rejection import TITLES
    from fastarchive.store.writers import LogBroken, NoSpace
    from fastarchive.upkeep import deletion, holds
    from fastarchive.upkeep.rejections import discard, revoke

    number = 0
    try:
        with Archive.open(settings.data, read_only=True, mirror=settings.mirror) as archive:
            found = archive.view().rejection_notes()
            if action != "list":
                found = [one for one in found if one.instance == note.strip()]
                if not found:
                    fail(f"there is no such rejection note: {note}")
                act = revoke if action == "revoke" else discard
                number = act(
                    archive,
                    found[0],
                    reason=reason,
                    operator=operator(),
                    mirror=settings.mirror,
                    mirror_wait=settings.mirror_wait,
                )
    except (deletion.OnHold, deletion.ClockBehind, holds.HoldsUnreadable, ValueError) as error:
        fail(f"nothing was done: {error}")
    except (NoSpace, LogBroken) as error:
        fail(f"not all was done: {error}; it is safe to try again")
    except OSError as error:
        fail_unusable(settings.data, error)
    if as_json:
        print_json(
            [
                {
                    "note": one.instance,
                    "study": one.study,
                    "code": one.code,
                    "meaning": TITLES[one.code],
                    "received": one.order[0],
                    "rejected": list(one.rejected),
                }
                for one in found
            ]
        )
    elif action == "list":
        rows = [
            (
                one.instance,
                f"{one.code} {TITLES[one.code]}",
                datetime.fromtimestamp(one.order[0] / 1e9, UTC).isoformat(timespec="seconds"),
                str(len(one.rejected)),
                one.study,
            )
            for one in found
        ]
        print_table(("note", "title", "received", "rejected", "study"), rows, title="Rejection notes")
    else:
        done = "is revoked" if action == "revoke" else f"stays; {number} instances it rejects are deleted"
        typer.echo(f"{note} {done}")
