"""What the web pages know: the archive, its processes, and how they stand at this moment."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastarchive import __version__
from fastarchive.archive import Archive
from fastarchive.metrics import Metrics
from fastarchive.settings import Settings
from fastarchive.store.compacted import read_compacted
from fastarchive.store.damage import DamageList
from fastarchive.web.readiness import (
    Check,
    Tail,
    TailWatch,
    disk,
    index_writer,
    is_degraded,
    is_ready,
    serving,
    writing,
)


@dataclass(slots=True, kw_only=True)
class WebState:
    """The things behind the pages of one worker. Its methods block for some milliseconds: call them in a thread.

    processes: what the supervisor recorded of the processes. arriving: bytes in memory of data sets on their way in.
    draining: set when this worker takes no more associations.
    """

    archive: Archive
    metrics: Metrics
    settings: Settings
    processes: Callable[[], Sequence[Mapping[str, Any]]]
    arriving: Callable[[], int] = int
    draining: bool = False
    started: float = field(default_factory=time.time)
    _watch: TailWatch = field(default_factory=TailWatch)

    def tail(self) -> Tail:
        """How far the index is behind."""
        return Tail(records=self.archive.index.tail_length(), generation=self._last_commit())

    def _last_commit(self) -> int:
        """When the index was last committed to: Tantivy replaces this file with every commit."""
        try:
            return (self.settings.data / "index" / "meta.json").stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def free(self) -> int:
        """Free bytes where the packs are; with a mirror, on the fuller disk."""
        return min(shutil.disk_usage(folder).free for folder in self._folders())

    def _folders(self) -> list[Path]:
        """Where instances are written to."""
        return [self.settings.data, *([] if self.settings.mirror is None else [self.settings.mirror])]

    def _read_only(self) -> bool:
        """Whether a disk that is written to is mounted for reading only, as many are after an error."""
        return any(os.statvfs(folder).f_flag & os.ST_RDONLY for folder in self._folders())

    def observe(self) -> None:
        """Set the gauges that nobody sets in passing."""
        tail, free = self.tail(), self.free()
        self._watch.check(tail, time.monotonic())
        self.metrics.index_tail_records.set(tail.records)
        self.metrics.disk_free_bytes.set(free)
        self.metrics.damaged_records.set(len(DamageList(self.settings.data).marks()))
        self.metrics.disagreeing_studies.set(self.archive.index.disagreements())
        compacted = read_compacted(self.settings.data)
        self.metrics.compaction_freed_bytes.set(compacted.freed_bytes)
        self.metrics.compaction_completed.set(compacted.completed)
        self.metrics.arriving_bytes.set(self.arriving())
        log = self.archive.log_status()
        self.metrics.log_stalled_seconds.set(log.stalled)
        self.metrics.log_failing.set(bool(log.failure))

    def readiness(self) -> list[Check]:
        """Every check of readiness; a check that can't be made is one that failed."""
        checks = [serving(self.draining), index_writer(self.processes())]
        try:
            checks += [
                self._watch.check(self.tail(), time.monotonic()),
                disk(self.free(), self.settings.reserve),
                writing(self.archive.log_status(), self._read_only()),
                Check("archive", True, "open"),
            ]
        except Exception as error:  # whatever is wrong, the answer is "not ready", with its kind
            checks.append(Check("archive", False, type(error).__name__))
        return checks

    def status(self) -> dict[str, Any]:
        """All there is to say about the archive, for /status and the start page."""
        checks = self.readiness()
        return {
            "version": __version__,
            "ae_title": self.settings.ae_title,
            "ready": is_ready(checks),
            "degraded": is_degraded(checks),
            "checks": {check.name: {"ready": check.ready, "detail": check.detail} for check in checks},
            "pid": os.getpid(),
            "uptime_seconds": round(time.time() - self.started, 3),
            "processes": list(self.processes()),
            "disk_free_bytes": self.free(),
            "archive": self.archive.status(),
        }
