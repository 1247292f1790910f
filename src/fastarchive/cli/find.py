"""``fastarchive find``: query an archive's folder, or any DICOM archive by C-FIND."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastarchive.cli.output import fail, load_settings, on_terminal, one_line, parse_address, print_json, print_table

if TYPE_CHECKING:
    from fastarchive.archive import Archive

WIDE_COLUMNS = 9
Row = Mapping[str, str]


class LevelName(StrEnum):
    """What is looked for."""

    PATIENT = "patient"
    STUDY = "study"
    SERIES = "series"
    IMAGE = "image"


def find(
    level: Annotated[LevelName, typer.Argument(help="What to look for.", case_sensitive=False)],
    keys: Annotated[
        list[str] | None,
        typer.Argument(help="DICOM keyword and value to match: *, ? and ranges as in C-FIND.", metavar="KEYWORD=VALUE"),
    ] = None,
    *,
    returning: Annotated[
        list[str] | None,
        typer.Option("--return", "-r", help="An attribute to show, instead of the usual ones.", metavar="KEYWORD"),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The archive's folder.", metavar="FOLDER")] = None,
    server: Annotated[
        str | None, typer.Option("--server", help="Ask this archive by C-FIND instead.", metavar="[AET@]HOST:PORT")
    ] = None,
    calling: Annotated[str, typer.Option("--calling", help="Our own AE title.", metavar="AET")] = "FASTARCHIVE",
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="Stop after so many.", min=1)] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show how it is answered instead of the answers.")] = False,
) -> None:
    """Find patients, studies, series or images.

    - `fastarchive find study --data ./archive 'PatientName=SMITH*' StudyDate=20240101-20241231`
    - `fastarchive find series --server ARCHIVE@127.0.0.1:11112 StudyInstanceUID=1.2.3 --return Manufacturer`
    - `fastarchive find image Modality=CT --json | jq .SOPInstanceUID`
    - `fastarchive find study 'PatientName=SMITH*' --explain`

    Values match as DICOM has it (PS3.4 C.2.2.2): * and ? stand for any characters, A-B is a range of dates or times,
    UIDs may be a list joined by \\\\. On a terminal the answers are a table, elsewhere lines of values between tabs
    with the names in the first line.

    Exit codes: 0 also when nothing was found, 1 the archive could not answer, 2 wrong usage.
    """
    if server is not None and data is not None:
        fail("--data and --server exclude each other", 2)
    if explain and (server is not None or limit is not None):
        fail("--explain works on an archive's folder and on all answers: not with --server or --limit", 2)
    wanted = _parse_keys(keys or [])
    if explain:
        _explain(load_settings({"data": data}, config).data, level, wanted, returning or [], as_json=as_json)
        return
    rows: Iterator[Row]
    if server is not None:
        rows = _from_server(server, calling, level, wanted, returning or [], limit=limit)
    else:
        folder = load_settings({"data": data}, config).data
        rows = itertools.islice(_from_folder(folder, level, wanted, returning or []), limit)
    if as_json:
        for row in rows:
            print_json(row)
    else:
        _print_rows(rows)


def _parse_keys(keys: Sequence[str]) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for key in keys:
        keyword, equals, value = key.partition("=")
        if not equals or not keyword:
            fail(f'"{key}" is no key; allowed: Keyword=value, e.g. PatientName=SMITH*', 2)
        if keyword in wanted:
            fail(f"{keyword} is given twice", 2)
        wanted[keyword] = value
    return wanted


def _from_folder(folder: Path, level: LevelName, keys: Mapping[str, str], returning: Sequence[str]) -> Iterator[Row]:
    with _opened(folder) as archive:
        yield from archive.find(level.value.upper(), keys, returning)


def _explain(
    folder: Path, level: LevelName, keys: Mapping[str, str], returning: Sequence[str], *, as_json: bool
) -> None:
    with _opened(folder) as archive:
        explanation = archive.explain(level.value.upper(), keys, returning)
    if as_json:
        print_json(explanation.as_json())
        return
    for line in explanation.lines():
        typer.echo(one_line(line))


@contextmanager
def _opened(folder: Path) -> Iterator[Archive]:
    """The archive in a folder, to be read; what goes wrong in the block ends the command with a message."""
    from fastarchive.archive import Archive
    from fastarchive.query.keywords import KeywordError

    try:
        with Archive.open(folder, read_only=True) as archive:
            yield archive
    except KeywordError as error:
        fail(str(error), 2)
    except OSError as error:
        fail(str(error) if isinstance(error, FileNotFoundError) else f"{folder} can't be read: {error.strerror}")


def _from_server(
    server: str,
    calling: str,
    level: LevelName,
    keys: Mapping[str, str],
    returning: Sequence[str],
    *,
    limit: int | None,
) -> Iterator[Row]:
    peer = parse_address(server, "ANY-SCP")
    from fastarchive.cli import requests
    from fastarchive.query.keywords import KeywordError

    try:
        question = requests.question(level.value.upper(), keys, returning)
        yield from requests.find(peer, calling, question, limit)
    except KeywordError as error:
        fail(str(error), 2)
    except requests.RequestFailed as error:
        fail(f"{peer.ae_title}@{peer.host}:{peer.port}: {error}")


def _print_rows(rows: Iterator[Row]) -> None:
    found = list(rows) if on_terminal() else None
    if found is None:
        first = next(rows, None)
        if first is None:
            return
        columns = list(first)
        print_table(columns, [[first.get(name, "") for name in columns]])
        for row in rows:
            typer.echo("\t".join(one_line(row.get(name, "")) for name in columns))
        return
    if not found:
        typer.echo("nothing found")
        return
    columns = list(dict.fromkeys(name for row in found for name in row))
    if len(columns) > WIDE_COLUMNS:
        # A wide table wraps every cell; what no row has is left out.
        columns = [name for name in columns if any(row.get(name) for row in found)]
    print_table(columns, [[row.get(name, "") for name in columns] for row in found], f"{len(found)} found")
