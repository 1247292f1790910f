"""``fastarchive conflicts``: studies whose instances disagree about the study or its patient."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastarchive.cli.output import FAILED, fail_unusable, load_settings, print_json, print_table

if TYPE_CHECKING:
    from fastarchive.upkeep.disagreements import Disagreement


def conflicts(
    studies: Annotated[
        list[str] | None, typer.Argument(help="Only these studies.", metavar="STUDY-UID…", show_default=False)
    ] = None,
    *,
    data: Annotated[Path | None, typer.Option("--data", help="The archive's folder.", metavar="FOLDER")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """List where the instances of one study disagree about the study or its patient: names, birth dates, Patient IDs.

    - `fastarchive conflicts --data ./archive`
    - `fastarchive conflicts 1.2.840.99.1 --data ./archive --json`

    For each such study and attribute it shows every value there is, how many instances say so and who sent them. The
    value that queries tell is the first: that of the instance received first. Nothing is changed. Works while the
    archive runs and while it doesn't.

    Exit codes: 0 there are none; 1 there are some, or the archive can't be read; 2 wrong usage.
    """
    settings = load_settings({"data": data}, config)
    from fastarchive.archive import Archive
    from fastarchive.upkeep.disagreements import disagreements

    try:
        with Archive.open(settings.data, read_only=True, mirror=settings.mirror) as archive:
            found = list(disagreements(archive, [study.strip() for study in studies or ()]))
    except OSError as error:
        fail_unusable(settings.data, error)
    if as_json:
        print_json([_as_dict(one) for one in found])
    else:
        _print(found)
    raise typer.Exit(FAILED if found else 0)


def _as_dict(one: Disagreement) -> dict[str, Any]:
    return {
        "study": one.study,
        "tag": f"{one.tag:08X}",
        "keyword": one.keyword,
        "values": [
            {
                "value": each.value,
                "instances": each.instances,
                "calling_ae_titles": sorted(each.calling_ae_titles),
                "an_instance": each.an_instance,
            }
            for each in one.statements
        ],
    }


def _print(found: list[Disagreement]) -> None:
    rows = [
        (one.study, one.keyword, each.value or "(none)", str(each.instances), ", ".join(sorted(each.calling_ae_titles)))
        for one in found
        for each in one.statements
    ]
    print_table(("study", "attribute", "value", "instances", "from"), rows, title="Instances that disagree")
    number = len({one.study for one in found})
    typer.echo(f"{number} {'study' if number == 1 else 'studies'} whose instances disagree", err=True)
