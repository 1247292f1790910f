"""The settings in force: read from a TOML file, the environment and options into the model.

Precedence rises in that order: an option beats ``FASTARCHIVE_…``, which beats the file, which beats the default.
:func:`load` merges the three and remembers where each value came from, so that a wrong one is reported with its name,
its value, its origin and what is allowed.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from fastarchive.settings_model import Settings, allowed, fields

__all__ = [
    "ENVIRONMENT_PREFIX",
    "Settings",
    "SettingsError",
    "allowed",
    "environment_name",
    "fields",
    "from_json",
    "load",
    "option_name",
    "repeated",
    "to_json",
]

ENVIRONMENT_PREFIX = "FASTARCHIVE_"

_REPEATED = {
    "peers": "peer",
    "character_sets": "character_set",
    "conflict_policies": "conflict_policy_of",
    "query_limits": "query_limit",
}


class SettingsError(Exception):
    """One or more settings are wrong. ``str()`` of it is the message for the person who starts the archive.

    problems: one line each: name, value, origin, and what is allowed.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def environment_name(name: str) -> str:
    """The environment variable of a setting."""
    return ENVIRONMENT_PREFIX + name.upper()


def option_name(name: str) -> str:
    """The option of ``fastarchive serve`` for a setting."""
    return "--" + _REPEATED.get(name, name).replace("_", "-")


def repeated() -> frozenset[str]:
    """The settings whose option is given once for each entry."""
    return frozenset(_REPEATED)


def load(
    options: Mapping[str, object] | None = None,
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Merge file, environment and options (None: not given) and validate. Raises SettingsError.

    config: the TOML file; without it ``FASTARCHIVE_CONFIG`` names one, if set.
    """
    environ = os.environ if environ is None else environ
    if config is None and environ.get(environment_name("config")):
        config = Path(environ[environment_name("config")])
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    problems: list[str] = []
    known = list(fields())

    if config is not None:
        for key, value in _read_toml(config).items():
            if key not in fields():
                problems.append(f"{key} (in {config}) is no setting{_suggestion(key, known)}")
                continue
            values[key], origins[key] = value, f"in {config}"
    for variable in sorted(environ):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == environment_name("config"):
            continue
        key = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if key not in fields():
            near = _suggestion(variable, [environment_name(name) for name in known])
            problems.append(f"{variable} (in the environment) is no setting{near}")
            continue
        values[key], origins[key] = environ[variable], f"from {variable}"
    for key, given in (options or {}).items():
        if given is not None:
            values[key], origins[key] = given, f"from {option_name(key)}"

    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems += [
            _explain(str(detail["loc"][0]), values, origins, detail["type"], detail["msg"]) for detail in error.errors()
        ]
        raise SettingsError(problems) from None
    if problems:
        raise SettingsError(problems)
    return settings


def _read_toml(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError([f"the configuration file {path} can't be read: {error.strerror}"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError([f"the configuration file {path} is not TOML: {error}"]) from None


def _suggestion(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _explain(name: str, values: Mapping[str, object], origins: Mapping[str, str], kind: str, message: str) -> str:
    value = values.get(name, "")
    shown = json.dumps(value, default=str, ensure_ascii=False)
    reason = f" ({message.removeprefix('Value error, ')})" if kind == "value_error" else ""
    return f"{name} = {shown} {origins.get(name, '')} is wrong{reason}; allowed: {allowed(name)}"


def to_json(settings: Settings) -> str:
    """For handing the settings to another process; :func:`from_json` reads it."""
    return settings.model_dump_json()


def from_json(text: str) -> Settings:
    """The settings a parent process wrote with :func:`to_json`."""
    return Settings.model_validate_json(text)
