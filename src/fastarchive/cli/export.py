"""``fastarchive export``: instances out of the archive, as DICOM files in folders or in a zip file."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastarchive.cli.output import FAILED, WRONG_USAGE, fail, load_settings, print_json
from fastarchive.cli.progress import Bar

if TYPE_CHECKING:
    from fastarchive.archive import Archive
    from fastarchive.dicom.attributes import Level
    from fastarchive.index.documents import Document
    from fastarchive.upkeep.export import ExportReport, Target

FAILURES_SHOWN = 20


def export(
    level: Annotated[str, typer.Argument(help="patient, study, series or image.", metavar="LEVEL")],
    names: Annotated[
        list[str],
        typer.Argument(help="Patient IDs or UIDs, then the folder to write to (none with --zip).", metavar="UID… DEST"),
    ],
    *,
    zip_file: Annotated[Path | None, typer.Option("--zip", help="Write one zip file instead.", metavar="FILE")] = None,
    dicomdir: Annotated[
        bool, typer.Option("--dicomdir", help="Name the files as on exchange media and list them in a DICOMDIR.")
    ] = False,
    data: Annotated[Path | None, typer.Option("--data", help="The archive's folder.", metavar="FOLDER")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Write the instances of patients, studies or series as DICOM files; works while the archive runs and while it
    doesn't.

    - `fastarchive export study 1.2.840.99.1 --data ./archive ./out`
    - `fastarchive export patient 4711 --data ./archive --zip 4711.zip --dicomdir`

    The files lie in PatientID/StudyInstanceUID/SeriesInstanceUID/SOPInstanceUID.dcm and hold the data sets as they
    were received. A file that is there already is replaced.

    Exit codes: 0 all written; 1 something is not in the archive, is damaged, or couldn't be written; 2 wrong usage.
    """
    if zip_file is None and len(names) < 2:
        fail("export needs what to export and where to: LEVEL UID… DEST, or LEVEL UID… --zip FILE", WRONG_USAGE)
    place = zip_file or Path(names[-1])
    wanted = names if zip_file is not None else names[:-1]
    settings = load_settings({"data": data}, config)
    from fastarchive.archive import Archive
    from fastarchive.upkeep.media import DirectoryTooLarge

    asked = parse_level(level)
    try:
        with Archive.open(settings.data, read_only=True, mirror=settings.mirror) as archive:
            report, missing = _export(archive, asked, wanted, place, to_zip=zip_file is not None, dicomdir=dicomdir)
    except DirectoryTooLarge as error:
        fail(f"{error}; export fewer at once, or without --dicomdir")
    except OSError as error:
        where = f" {error.filename}:" if error.filename else ""
        fail(f"export failed:{where} {error.strerror or error}")
    if as_json:
        print_json(as_dict(report, missing))
    else:
        _print(report, missing, place)
    raise typer.Exit(FAILED if report.failures or missing else 0)


def parse_level(text: str) -> Level:
    """The level a person means; ends the command when it is none (exit code 2)."""
    from fastarchive.query.keywords import KeywordError
    from fastarchive.query.keywords import parse_level as parse

    try:
        return parse(text)
    except KeywordError as error:
        fail(str(error), WRONG_USAGE)


def _export(
    archive: Archive, level: Level, wanted: Iterable[str], place: Path, *, to_zip: bool, dicomdir: bool
) -> tuple[ExportReport, tuple[str, ...]]:
    from fastarchive.upkeep.export import FolderTarget, ZipTarget
    from fastarchive.upkeep.export import export as export_all
    from fastarchive.upkeep.media import media_directory
    from fastarchive.upkeep.selection import instances_of, select

    view = archive.view()
    selection = select(view, level, wanted)
    number = selection.number_of_instances
    with ExitStack() as resources:
        directory = None
        if dicomdir:
            directory = resources.enter_context(media_directory())
            with Bar("reading headers", number) as bar:
                directory.add(archive, instances_of(view, selection), bar.advance)
                directory.finish()
        target: Target = resources.enter_context(ZipTarget(place)) if to_zip else FolderTarget(place)

        def documents() -> Iterable[Document]:
            found = instances_of(view, selection)
            return found if directory is None else filter(directory.lists, found)

        def name(document: Document) -> PurePosixPath:
            from fastarchive.upkeep.export import path_of

            return path_of(document) if directory is None else directory.name(document)

        with Bar("exporting", number) as bar:
            report = export_all(archive, documents(), target, name=name, advance=bar.advance)
        if directory is not None:
            directory.write(target)
            report.failures[:0] = directory.failures
    return report, selection.missing


def as_dict(report: ExportReport, missing: Iterable[str]) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "instances": report.instances,
        "bytes": report.bytes,
        "seconds": round(report.seconds, 3),
        "missing": list(missing),
        "failed": [{"sop_instance": each.sop_instance, "reason": each.reason} for each in report.failures],
    }


def _print(report: ExportReport, missing: Iterable[str], place: Path) -> None:
    typer.echo(f"{report.instances} instances to {place} ({report.bytes / 1e6:.1f} MB in {report.seconds:.1f} s)")
    for name in missing:
        typer.echo(f"not in the archive: {name}")
    for failure in report.failures[:FAILURES_SHOWN]:
        typer.echo(f"not exported: {failure.sop_instance}: {failure.reason}")
    if len(report.failures) > FAILURES_SHOWN:
        typer.echo(f"… and {len(report.failures) - FAILURES_SHOWN} more not exported")
