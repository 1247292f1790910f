"""What everything that appends to packs of this process shares: what it may fail with, what it tells of itself, and how
it begins and ends with a pack.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fastarchive.store.disk import FULL, Disk
from fastarchive.store.pack import OpenPack, seal_pack

__all__ = ["LogBroken", "LogStatus", "NoSpace", "abandon", "failure_of", "finish", "reservation"]


class NoSpace(Exception):
    """There is no room on the disk, or only the reserve is left. Nothing was stored; later appends may succeed."""


class LogBroken(Exception):
    """The record could not be made durable: an error of the disk, or the log is closed. It must not be acknowledged."""


class LogStatus(NamedTuple):
    """What the log has done so far."""

    pack: int | None
    """The open pack's id."""
    end: int
    """Bytes in the open pack."""
    records: int
    """Records made durable."""
    groups: int
    """Syncs that made them durable."""
    refused: int
    """Appends that failed for lack of space."""
    abandoned: int
    """Packs given up after an error of the disk."""
    stalled: float = 0.0
    """Seconds since the writing of the group under way began; 0 when none is."""
    failure: str = ""
    """Why the last group could not be written, in the words of the operating system; empty once one could again."""
    told_at: float = 0.0
    """When that was known, on the clock of perf_counter()."""

    def and_of(self, other: LogStatus) -> LogStatus:
        """Of both together; the pack is that of the other, if it has one, and the failure what was known last."""
        return LogStatus(
            self.pack if other.pack is None else other.pack,
            self.end if other.pack is None else other.end,
            self.records + other.records,
            self.groups + other.groups,
            self.refused + other.refused,
            self.abandoned + other.abandoned,
            max(self.stalled, other.stalled),
            self.failure if self.told_at > other.told_at else other.failure,
            max(self.told_at, other.told_at),
        )


def reservation(directory: Path, seal_size: int, reserve_bytes: int) -> int:
    """Bytes to set aside for a pack: all of it, unless the disk is small or filling up."""
    try:
        status = os.statvfs(directory)
    except FileNotFoundError:
        return 0
    return seal_size if status.f_bavail * status.f_frsize > reserve_bytes + 8 * seal_size else 0


def failure_of(error: OSError) -> NoSpace | LogBroken:
    """What those are told whose records could not be written because of this error."""
    kind = NoSpace if error.errno in FULL else LogBroken
    return kind(f"the log can't be written: {error.strerror}")


def finish(copy: OpenPack, end: int, offsets: Sequence[int], disk: Disk) -> None:
    """Seal one copy of a pack whose records at these offsets go up to `end`, remove it if there are none; close it.

    What can't be sealed is left to recovery, as after a crash."""
    with suppress(OSError):
        if offsets:
            seal_pack(copy.fd, end, offsets, recovered=False, disk=disk)
        else:
            disk.remove(copy.path)
    os.close(copy.fd)


def abandon(copy: OpenPack, end: int, disk: Disk) -> None:
    """Give one copy of a pack up after an error, and close it.

    What was acknowledged in it stays; the rest is cut off if possible."""
    with suppress(OSError):
        disk.truncate(copy.fd, end)
    os.close(copy.fd)
