"""What settings may hold beside numbers, texts and switches: AE titles, addresses of peers, character sets.

Each is read from every form a setting comes in: a TOML table or list, the values of a repeated option, or one text of
the environment in which commas join them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Final, NamedTuple, TypeVar

from pydantic import BeforeValidator, PlainSerializer

AE_TITLE_LENGTH: Final = 16
CONFLICT_POLICIES: Final = ("keep-first", "replace", "quarantine")
_CHARACTER_SET: Final = re.compile(
    "ISO_IR (6|13|100|101|109|110|126|127|138|144|148|166|192|203)"
    "|ISO 2022 IR (6|13|58|87|100|101|109|110|126|127|138|144|148|149|159|166|203)|GB18030|GBK"
)
_MOST: Final = 2**53
_UID: Final = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_UID_LENGTH: Final = 64
_STANDARD_ROOT: Final = "1.2.840.10008."
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")
_Value = TypeVar("_Value")


class QueryLimits(NamedTuple):
    """What one C-FIND of one AE may take; None: what holds for everybody, 0: no limit."""

    matches: int | None = None
    seconds: float | None = None
    headers: int | None = None
    scanned: int | None = None
    queries: int | None = None

    def __str__(self) -> str:
        return ";".join(f"{name}:{value:g}" for name, value in self._asdict().items() if value is not None)


class Peer(NamedTuple):
    """Where a C-MOVE destination listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_ae_title(value: object) -> str:
    """An AE title as PS3.5 6.2 has it: 1 to 16 characters of the default repertoire, spaces around it without meaning,
    neither backslash nor control characters. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("not a text")
    title = value.strip(" ")
    if not title:
        raise ValueError("empty")
    if len(title) > AE_TITLE_LENGTH:
        raise ValueError(f"{len(title)} characters long")
    if not all(" " <= character <= "~" and character != "\\" for character in title):
        raise ValueError("holds a backslash, a control character or one outside ASCII")
    return title


def parse_peer(value: object) -> Peer:
    """``HOST:PORT`` (an IPv6 address in brackets). Raises ValueError."""
    if isinstance(value, Peer):
        return value
    if not isinstance(value, str):
        raise ValueError("not of the form HOST:PORT")
    host, colon, port = value.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not colon or not host or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError("not of the form HOST:PORT with a port from 1 to 65535")
    return Peer(host, int(port))


def parse_character_sets(value: object) -> str:
    """Defined terms of Specific Character Set (PS3.3 C.12.1.1.2), joined by backslashes. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("not a text")
    terms = [term.strip(" ") for term in value.split("\\")]
    if not any(terms) or not all(_CHARACTER_SET.fullmatch(term) for term in terms if term):
        raise ValueError("no defined term of Specific Character Set")
    return "\\".join(terms)


def parse_query_limits(value: object) -> QueryLimits:
    """A table of limits, or ``NAME:NUMBER`` joined by semicolons. Raises ValueError."""
    if isinstance(value, QueryLimits):
        return value
    if isinstance(value, str):
        value = dict(_named_number(part) for part in value.split(";") if part.strip())
    if not isinstance(value, Mapping) or not value:
        raise ValueError("no table of limits")
    if unknown := [name for name in value if name not in QueryLimits._fields]:
        raise ValueError(f"{unknown[0]} is none of {', '.join(QueryLimits._fields)}")
    for name, number in value.items():
        whole = isinstance(number, int) and not isinstance(number, bool)
        if not (whole or (name == "seconds" and isinstance(number, float))) or not 0 <= number < _MOST:
            raise ValueError(f"{name} is no {'number' if name == 'seconds' else 'whole number'} from 0 on")
    return QueryLimits(**value)


def _named_number(part: str) -> tuple[str, float]:
    name, colon, number = part.partition(":")
    if not colon:
        raise ValueError(f"{part!r} is not of the form NAME:NUMBER")
    try:
        return name.strip(), int(number)
    except ValueError:
        return name.strip(), float(number)


def parse_conflict_policy(value: object) -> str:
    """One of :data:`CONFLICT_POLICIES`. Raises ValueError."""
    if value not in CONFLICT_POLICIES:
        raise ValueError(f"none of {', '.join(CONFLICT_POLICIES)}")
    return str(value)


def _by_ae_title(value: object, form: str, parse: Callable[[object], _Value]) -> dict[str, _Value]:
    """A table (TOML), a list of AET=VALUE (options) or such a list joined by commas (environment)."""
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if isinstance(value, Mapping):
        pairs: list[tuple[object, ...]] = list(value.items())
    elif isinstance(value, list | tuple):
        pairs = []
        for part in map(str, value):
            if "=" not in part:
                raise ValueError(f"{part!r} is not of the form {form}")
            pairs.append(tuple(part.split("=", 1)))
    else:
        raise ValueError("not a table of AE titles")
    found: dict[str, _Value] = {}
    for title, given in pairs:
        try:
            parsed, one = parse_ae_title(title), parse(given)
        except ValueError as error:
            raise ValueError(f"{title}={given} is {error}") from None
        if found.setdefault(parsed, one) != one:
            raise ValueError(f"{parsed} is given twice, with different values")
    return found


def _parse_peers(value: object) -> object:
    return _by_ae_title(value, "AET=HOST:PORT", parse_peer)


def _parse_character_sets(value: object) -> object:
    return _by_ae_title(value, "AET=TERM", parse_character_sets)


def _parse_query_limits(value: object) -> object:
    return _by_ae_title(value, "AET=NAME:NUMBER;…", parse_query_limits)


def _parse_conflict_policies(value: object) -> object:
    return _by_ae_title(value, "AET=POLICY", parse_conflict_policy)


def _parse_ae_titles(value: object) -> object:
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError("not a list of AE titles")
    return tuple(parse_ae_title(title) for title in value)


def _parse_uids(value: object) -> object:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError("not a list of UIDs")
    for uid in value:
        if not isinstance(uid, str) or len(uid) > _UID_LENGTH or not _UID.fullmatch(uid):
            raise ValueError(f"{uid!r} is not a UID")
        if uid.startswith(_STANDARD_ROOT):
            raise ValueError(f"{uid} belongs to the standard")
    return tuple(value)


def size_text(count: int) -> str:
    """Bytes with a binary unit when they come out even: 268435456 → ``256MiB``."""
    text = str(int(count))
    for power, unit in enumerate(_UNITS, start=1):
        if count and count % 2 ** (10 * power) == 0:
            text = f"{count >> (10 * power)}{unit}"
    return text


AETitle = Annotated[str, BeforeValidator(parse_ae_title)]
AETitles = Annotated[tuple[str, ...], BeforeValidator(_parse_ae_titles)]
PrivateUIDs = Annotated[tuple[str, ...], BeforeValidator(_parse_uids)]
Peers = Annotated[
    dict[str, Peer],
    BeforeValidator(_parse_peers),
    PlainSerializer(lambda peers: {title: str(peer) for title, peer in peers.items()}),
]
QueryLimitsByTitle = Annotated[
    dict[str, QueryLimits],
    BeforeValidator(_parse_query_limits),
    PlainSerializer(lambda limits: {title: str(one) for title, one in limits.items()}),
]
CharacterSets = Annotated[dict[str, str], BeforeValidator(_parse_character_sets)]
ConflictPolicies = Annotated[dict[str, str], BeforeValidator(_parse_conflict_policies)]
