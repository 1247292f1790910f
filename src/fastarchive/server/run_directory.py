"""DATA/run: what a running archive shows to scripts, and the lock that keeps a second one out.

- ``supervisor.lock``  held (flock) while an archive runs on the folder
- ``supervisor.pid``, ``dicom-port``, ``http-port``  plain numbers, there while the archive is ready
- ``processes.json``  the processes, their states and restarts
- ``metrics/``  the metrics of all processes, in prometheus_client's multi-process files
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

DATA_MODE: Final = 0o750
"""Of a data folder that is made: it holds patient data, which is no business of other users of the machine."""


class AlreadyRunning(Exception):
    """Another archive runs on the same data folder."""


class RunDirectory:
    """The run folder of one data folder."""

    def __init__(self, data: Path) -> None:
        self.path = data / "run"

    @property
    def metrics(self) -> Path:
        """Where the processes keep their metrics."""
        return self.path / "metrics"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one supervisor, emptied of what an earlier one left. Raises AlreadyRunning, OSError."""
        self.path.parent.mkdir(mode=DATA_MODE, parents=True, exist_ok=True)
        self.path.mkdir(exist_ok=True)
        with (self.path / "supervisor.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = self.read("supervisor.pid") or "unknown"
                raise AlreadyRunning(
                    f"an archive runs on {self.path.parent} already (process {holder}); stop it first, "
                    "or choose another folder with --data"
                ) from None
            self._clean()
            self.write("supervisor.pid", f"{os.getpid()}\n")
            try:
                yield
            finally:
                self._clean()

    def _clean(self) -> None:
        for name in ("supervisor.pid", "dicom-port", "http-port", "processes.json"):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.metrics, ignore_errors=True)
        self.metrics.mkdir(exist_ok=True)

    def write(self, name: str, text: str) -> None:
        """Replace a file in one step, so that no reader ever sees half of it."""
        temporary = self.path / f".{name}.new"
        temporary.write_text(text)
        temporary.replace(self.path / name)

    def read(self, name: str) -> str:
        """A file's text without the line end; empty if it isn't there."""
        try:
            return (self.path / name).read_text().strip()
        except OSError:
            return ""

    def write_processes(self, processes: Sequence[Mapping[str, object]]) -> None:
        """Record the processes: role, name, pid, state and restarts of each."""
        self.write("processes.json", json.dumps({"processes": processes}) + "\n")

    def processes(self) -> list[dict[str, Any]]:
        """The processes as last recorded; empty when no archive runs, also when one was killed and left its files."""
        if not _lives(self.read("supervisor.pid")):
            return []
        try:
            found: list[dict[str, Any]] = json.loads(self.read("processes.json"))["processes"]
        except (ValueError, KeyError):
            return []
        return found


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True  # somebody else's
    except (ValueError, OSError):
        return False
    return True
