"""Legal holds: studies that nothing may delete, in ``holds.json`` of the data folder."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fastarchive.upkeep.manifest import write_file

HOLDS: Final = "holds.json"
_FORMAT: Final = 1


class HoldsUnreadable(Exception):
    """The file of the holds is damaged. Nothing may be deleted until it is mended: it is not known what is held."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A study on hold."""

    study: str
    reason: str
    since: str
    """ISO 8601, UTC."""


@contextmanager
def locked(directory: Path) -> Iterator[dict[str, Hold]]:
    """The holds by Study Instance UID; nobody changes them meanwhile. Raises HoldsUnreadable, OSError."""
    (directory / "run").mkdir(exist_ok=True)
    fd = os.open(directory / "run" / "holds.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield read(directory)
    finally:
        os.close(fd)


def read(directory: Path) -> dict[str, Hold]:
    """The holds by Study Instance UID, as they are now. Raises HoldsUnreadable, OSError."""
    path = directory / HOLDS
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != _FORMAT:
            raise HoldsUnreadable(f"{path} has format {content['format']}, which is not known")
        return {hold["study"]: Hold(**hold) for hold in content["holds"]}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise HoldsUnreadable(f"{path} is damaged; nothing is deleted until it is mended") from error


def add(directory: Path, studies: Iterable[str], reason: str) -> list[Hold]:
    """Put studies on hold; those that are already stay as they are. The new ones. Raises HoldsUnreadable, OSError."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    with locked(directory) as holds:
        new = [Hold(study, reason, since) for study in dict.fromkeys(studies) if study not in holds]
        if new:
            _write(directory, [*holds.values(), *new])
    return new


def remove(directory: Path, studies: Iterable[str]) -> list[Hold]:
    """Take studies off hold; those that were on it. Raises HoldsUnreadable, OSError."""
    with locked(directory) as holds:
        removed = [hold for study in dict.fromkeys(studies) if (hold := holds.pop(study, None)) is not None]
        if removed:
            _write(directory, holds.values())
    return removed


def _write(directory: Path, holds: Iterable[Hold]) -> None:
    content = {"format": _FORMAT, "holds": [asdict(hold) for hold in sorted(holds, key=lambda hold: hold.study)]}
    write_file(directory / HOLDS, json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n")
