"""Whether this archive should be given work: a few checks, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastarchive.setting_values import size_text
from fastarchive.store.writers import LogStatus

STALLED_AFTER = 30.0
"""Seconds without progress after which an index that has something to take in counts as stalled."""
SLOW_DISK = 5.0
"""Seconds a group of instances may take to be written before the disk counts as stalled."""
CAUGHT_UP = 20_000
"""Records a process may still have to search in memory when it takes its first work: some tens of milliseconds."""


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of readiness; ``detail`` says how things stand, met or not.

    One that is not ``needed`` says that something is amiss and leaves the archive ready for everything else.
    """

    name: str
    ready: bool
    detail: str
    needed: bool = True


def is_ready(checks: Sequence[Check]) -> bool:
    """Whether the archive should be given work."""
    return all(check.ready for check in checks if check.needed)


def is_degraded(checks: Sequence[Check]) -> bool:
    """Whether it is ready and can't do all of its work."""
    return is_ready(checks) and not all(check.ready for check in checks)


@dataclass(frozen=True, slots=True)
class Tail:
    """What one look at the index found: records not in it yet, and which commit it is at."""

    records: int
    generation: int


class TailWatch:
    """Tells an index that is behind and moves from one that is behind and stands still.

    Until it has caught up once, as after a start without an index, one that moves is not enough: queries are answered,
    rightly and slowly.
    """

    def __init__(self) -> None:
        self._generation: int | None = None
        self._moved = 0.0
        self._caught_up = False

    def check(self, tail: Tail, now: float) -> Check:
        """Judge the tail seen at ``now`` (seconds of any steady clock; never going back)."""
        if tail.generation != self._generation or not tail.records:
            self._generation, self._moved = tail.generation, now
        self._caught_up = self._caught_up or tail.records <= CAUGHT_UP
        standing = now - self._moved
        detail = f"{tail.records} records to take in"
        if standing > STALLED_AFTER:
            detail += f", no commit for {standing:.0f} s"
        elif not self._caught_up:
            detail += ", catching up"
        return Check("index tail", self._caught_up and standing <= STALLED_AFTER, detail)


def index_writer(processes: Sequence[Mapping[str, object]]) -> Check:
    """Whether the supervisor has an index writer running."""
    states = [str(process.get("state")) for process in processes if process.get("role") == "indexer"]
    return Check("index writer", "running" in states, ", ".join(states) or "unknown")


def disk(free: int, reserve: int) -> Check:
    """Whether there is room to store anything: free bytes against the reserve.

    Not needed to be ready: a full archive refuses to store and still finds and hands out what it has, which nobody
    could ask it for if it were taken out of service.
    """
    detail = f"{free / 2**30:.1f} GiB free, {size_text(reserve)} kept in reserve"
    if free > reserve:
        return Check("disk", True, detail, needed=False)
    return Check("disk", False, f"{detail}; nothing is stored, all else goes on", needed=False)


def writing(log: LogStatus, read_only: bool) -> Check:
    """Whether what arrives can be written: a disk that fails, that is mounted for reading only, or that doesn't answer.

    Not needed to be ready, as with a full disk. What failed is tried again with the next instance.
    """
    detail = ""
    if read_only:
        detail = "mounted for reading only"
    elif log.stalled > SLOW_DISK:
        detail = f"the disk hasn't answered for {log.stalled:.0f} s"
    elif log.failure:
        detail = f"the last write failed: {log.failure}"
    if detail:
        return Check("writing", False, f"{detail}; nothing is stored, all else goes on", needed=False)
    return Check("writing", True, "the disk answers", needed=False)


def serving(draining: bool) -> Check:
    """Whether new associations are taken."""
    return Check("serving", not draining, "draining" if draining else "taking associations")
