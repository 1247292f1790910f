"""``fastarchive status``: what an archive holds and how it stands."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import typer

from fastarchive.cli.output import fail, load_settings, print_facts, print_json

HTTP_SECONDS = 10.0


def status(
    *,
    data: Annotated[Path | None, typer.Option("--data", help="The archive's folder.", metavar="FOLDER")] = None,
    server: Annotated[
        str | None, typer.Option("--server", help="Ask a running archive over HTTP instead.", metavar="URL")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show what an archive holds, from its folder or from a running server.

    - `fastarchive status --data ./archive`
    - `fastarchive status --server http://127.0.0.1:8080 --json`
    """
    if server is not None and data is not None:
        fail("--data and --server exclude each other", 2)
    facts = _from_server(server) if server is not None else _from_folder(load_settings({"data": data}, config).data)
    if as_json:
        print_json(facts)
    else:
        from fastarchive.web.page import flatten

        processes = facts.pop("processes", [])
        print_facts(flatten(facts) + [(process["name"], _process(process)) for process in processes])


def _process(process: dict[str, Any]) -> str:
    return f"{process['state']}, process {process['pid']}, restarts {process['restarts']}"


def _from_server(server: str) -> dict[str, Any]:
    url = server if "://" in server else f"http://{server}"
    if not url.startswith(("http://", "https://")):
        fail(f'"{server}" is no address; allowed: http://HOST:PORT', 2)
    try:
        with urllib.request.urlopen(url.rstrip("/") + "/status", timeout=HTTP_SECONDS) as response:
            facts: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            fail(f"{url} answers {error.code}")
    except (OSError, ValueError) as error:
        fail(f"{url} does not answer: {getattr(error, 'reason', error)}")
    return facts


def _from_folder(folder: Path) -> dict[str, Any]:
    from fastarchive.archive import Archive
    from fastarchive.server.run_directory import RunDirectory

    run = RunDirectory(folder)
    try:
        with Archive.open(folder, read_only=True) as archive:
            facts: dict[str, Any] = {"archive": archive.status()}
    except OSError as error:
        fail(str(error) if isinstance(error, FileNotFoundError) else f"{folder} can't be read: {error.strerror}")
    processes = run.processes()
    facts["running"] = bool(processes)
    if processes:
        facts["dicom_port"] = int(run.read("dicom-port") or 0)
        facts["http_port"] = int(run.read("http-port") or 0)
        facts["processes"] = processes
    return facts
