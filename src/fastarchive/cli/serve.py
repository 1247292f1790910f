"""``fastarchive serve``: its options are the settings, made from the settings model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from fastarchive import settings
from fastarchive.cli.output import fail, load_settings
from fastarchive.settings_reference import default_text

_HELP = """Run the archive until SIGTERM or Ctrl-C, which drain it: running associations finish, all is committed.

- `fastarchive serve --data /var/lib/fastarchive --ae-title ARCHIVE --host 0.0.0.0`
- `fastarchive serve --config /etc/fastarchive.toml --peer WORKSTATION=10.1.2.3:11112`
- `fastarchive serve --data ./archive --dicom-port 0 --http-port 0`

Port 0 picks a free port; the ports in use are printed and written to DATA/run/dicom-port and DATA/run/http-port.
Every option can also be set in the TOML file and as FASTARCHIVE_… in the environment: see `fastarchive settings`.

Exit codes: 0 drained, 1 the start failed or the end was forced, 2 a setting is wrong.
"""

_MAIN = ("data", "ae_title", "host", "dicom_port", "http_port", "workers", "peers")
_METAVARS = {
    "data": "FOLDER",
    "peers": "AET=HOST:PORT",
    "character_sets": "AET=TERM",
    "conflict_policies": "AET=POLICY",
    "query_limits": "AET=NAME:NUMBER;…",
    "workers": "N",
    "dicom_port": "PORT",
    "http_port": "PORT",
}


def command() -> Callable[..., None]:
    """The command's function, with one parameter for every setting."""

    def serve(**given: Any) -> None:
        config: Path | None = given.pop("config")
        for name in settings.repeated():
            given[name] = given[name] or None
        run(load_settings(given, config))

    parameters = [
        inspect.Parameter(
            "config",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                Path | None,
                typer.Option("--config", help="TOML file with settings.", metavar="FILE", show_default=False),
            ],
        )
    ]
    for name, field in settings.fields().items():
        flag = settings.option_name(name)
        kind: Any = str | None
        flags = [flag]
        if field.annotation is bool:
            kind, flags = bool | None, [f"{flag}/--no-{flag[2:]}"]
        elif name in settings.repeated():
            kind = list[str] | None
        option = typer.Option(
            *flags,
            help=f"{field.description} Default: {default_text(name)}.",
            metavar=None if field.annotation is bool else _METAVARS.get(name, "VALUE"),
            rich_help_panel="Options" if name in _MAIN else "More settings",
            show_default=False,
        )
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])
        )
    serve.__doc__ = _HELP
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what inspect.signature() reads
    serve.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return serve


def run(loaded: settings.Settings) -> None:
    """Run the supervisor and end with its exit code."""
    from fastarchive.server import supervisor
    from fastarchive.server.child import StartFailed
    from fastarchive.server.listeners import ListenError
    from fastarchive.server.run_directory import AlreadyRunning

    try:
        code = supervisor.run(loaded)
    except (AlreadyRunning, ListenError, StartFailed) as error:
        fail(str(error))
    except OSError as error:
        fail(f'data = "{loaded.data}" can\'t be used: {error.strerror or error}')
    raise typer.Exit(code)
