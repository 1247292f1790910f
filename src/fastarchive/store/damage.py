"""What is known to be damaged, in a small file, so that answers can say so (InstanceAvailability UNAVAILABLE)."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

DAMAGE: Final = "damage.json"


class Mark(NamedTuple):
    """A record of which no copy is whole."""

    pack: int
    offset: int
    sop_instance: str
    """Empty if that can't be told any more."""
    reason: str


class DamageList:
    """The damage known in a data directory: one file, replaced as a whole, shared by all processes. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / DAMAGE
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._marks: tuple[Mark, ...] = ()
        self._instances: frozenset[str] = frozenset()

    def marks(self) -> tuple[Mark, ...]:
        """All marks, by pack and offset."""
        self._look()
        return self._marks

    def is_damaged(self, sop_instance: str) -> bool:
        """Whether an instance is known to be damaged; one system call, none of them reads the packs."""
        self._look()
        return sop_instance in self._instances

    def add(self, mark: Mark) -> None:
        """Mark one record. Raises OSError."""
        if mark not in self.marks():
            self._change(
                lambda marks: (
                    [other for other in marks if (other.pack, other.offset) != (mark.pack, mark.offset)] + [mark]
                )
            )

    def replace(self, pack: int, found: Iterable[Mark]) -> None:
        """Let `found` be all the marks of a pack. Raises OSError."""
        new = sorted(found)
        if new != [mark for mark in self.marks() if mark.pack == pack]:
            self._change(lambda marks: [mark for mark in marks if mark.pack != pack] + new)

    def _look(self) -> None:
        """Read the file if it was replaced since."""
        try:
            status = os.stat(self._path)  # noqa: PTH116 - on the way of answers
        except OSError:
            seen = None
        else:
            seen = (status.st_mtime_ns, status.st_ino)
        if seen == self._seen:
            return
        with self._lock:
            self._marks = tuple(_read(self._path))
            self._instances = frozenset(mark.sop_instance for mark in self._marks if mark.sop_instance)
            self._seen = seen

    def _change(self, change: Callable[[list[Mark]], list[Mark]]) -> None:
        with _exclusive(self._path):
            marks = sorted(change(_read(self._path)))
            write_json(self._path, [mark._asdict() for mark in marks])


def _read(path: Path) -> list[Mark]:
    """The marks in the file; none if it isn't there or isn't ours: it can be found out again by verifying."""
    try:
        return [Mark(**entry) for entry in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    fd = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def write_json(path: Path, value: object) -> None:
    """Replace a small file as a whole: after a crash it is the old one or the new one. Raises OSError."""
    temporary = path.with_suffix(f".{os.getpid()}.partial")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
