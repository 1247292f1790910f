"""The rules about what may go after a time, or when there is too much of it: a TOML file somebody wrote on purpose."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import ByteSize, TypeAdapter, ValidationError

_DAY: Final = 86_400
_SIZE: Final = TypeAdapter(ByteSize)


class RulesError(ValueError):
    """The file of the rules can't be read, or one of them is wrong. The message names the rule and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which studies a rule is about: whole ones, and only if all of a study is within it."""

    name: str
    modalities: frozenset[str] = frozenset()
    """Every modality of the study is one of these; none given: any, and studies without one."""
    calling_ae_titles: frozenset[str] = frozenset()
    """Every instance was received from one of these; none given: from any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Scope):
    """Studies that may go when they are old enough."""

    keyword: ClassVar[str] = "rule"
    days: float
    """Days they are kept."""
    since: Literal["receipt", "study-date"] = "receipt"
    """From when: the receipt of the study's last instance, or the Study Date; a study without a date is kept."""

    @property
    def seconds(self) -> float:
        """How long they are kept."""
        return self.days * _DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota(Scope):
    """Studies of which no more than a size is kept; those whose last instance was received first go first."""

    keyword: ClassVar[str] = "quota"
    size: int
    """Bytes of their records in the packs."""


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of a file, in its order."""

    rules: tuple[Rule, ...] = ()
    quotas: tuple[Quota, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rules or self.quotas)


def read_rules(path: Path) -> Rules:
    """The rules in a TOML file. Raises RulesError."""
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise RulesError(f"the rules in {path} can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RulesError(f"{path} is not TOML: {error}") from None
    for name, value in tables.items():
        if name not in {"rule", "quota"} or not isinstance(value, list):
            raise RulesError(f"{path}: {name} is neither [[rule]] nor [[quota]]")
    rules = Rules(
        tuple(_rule(path, table) for table in tables.get("rule", ())),
        tuple(_quota(path, table) for table in tables.get("quota", ())),
    )
    names = [each.name for each in (*rules.rules, *rules.quotas)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise RulesError(f'{path}: more than one rule is called "{min(twice)}"')
    return rules


def _rule(path: Path, table: Any) -> Rule:
    where, scope = _scope(path, table, Rule)
    days, since = table.get("days"), table.get("since", "receipt")
    if isinstance(days, bool) or not isinstance(days, int | float) or not 0 < days < 1e6:
        raise RulesError(f"{where}: days = {days!r} is wrong; allowed: a number above 0")
    if since not in {"receipt", "study-date"}:
        raise RulesError(f'{where}: since = {since!r} is wrong; allowed: "receipt" or "study-date"')
    return Rule(**scope, days=days, since=since)


def _quota(path: Path, table: Any) -> Quota:
    where, scope = _scope(path, table, Quota)
    try:
        size = int(_SIZE.validate_python(table.get("size")))
    except ValidationError:
        size = 0
    if size <= 0:
        size_text = table.get("size")
        raise RulesError(f'{where}: size = {size_text!r} is wrong; allowed: bytes, or a text as "500GiB"')
    return Quota(**scope, size=size)


def _scope(path: Path, table: Any, kind: type[Rule] | type[Quota]) -> tuple[str, dict[str, Any]]:
    """Where in the file, for messages, and what rules and quotas have in common."""
    name = table.get("name") if isinstance(table, Mapping) else None
    if not isinstance(name, str) or not name.strip() or len(name) > 100:
        raise RulesError(f"{path}: each [[{kind.keyword}]] needs a name of 1 to 100 characters")
    where = f'{path}: {kind.keyword} "{name}"'
    allowed = [field.name for field in fields(kind)]
    if unknown := [key for key in table if key not in allowed]:
        raise RulesError(f"{where}: {unknown[0]} is none of {', '.join(allowed)}")
    lists = {}
    for key in ("modalities", "calling_ae_titles"):
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, str) and each.strip() for each in value):
            raise RulesError(f"{where}: {key} = {value!r} is wrong; allowed: a list of texts")
        lists[key] = frozenset(each.strip() for each in value)
    return where, {"name": name.strip(), **lists}
