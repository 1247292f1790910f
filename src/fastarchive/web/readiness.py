"""Whether this archive should be given work: a few checks, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastarchive.settings import size_text

STALLED_AFTER = 30.0
"""Seconds without progress after which an index that has something to take in counts as stalled."""


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of readiness; ``detail`` says how things stand, met or not."""

    name: str
    ready: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Tail:
    """What one look at the index found: records not in it yet, and which commit it is at."""

    records: int
    generation: int


class TailWatch:
    """Tells an index that is behind and moves from one that is behind and stands still."""

    def __init__(self) -> None:
        self._generation: int | None = None
        self._moved = 0.0

    def check(self, tail: Tail, now: float) -> Check:
        """Judge the tail seen at ``now`` (seconds of any steady clock; never going back)."""
        if tail.generation != self._generation or not tail.records:
            self._generation, self._moved = tail.generation, now
        standing = now - self._moved
        detail = f"{tail.records} records to take in"
        if standing > STALLED_AFTER:
            detail += f", no commit for {standing:.0f} s"
        return Check("index tail", standing <= STALLED_AFTER, detail)


def index_writer(processes: Sequence[Mapping[str, object]]) -> Check:
    """Whether the supervisor has an index writer running."""
    states = [str(process.get("state")) for process in processes if process.get("role") == "indexer"]
    return Check("index writer", "running" in states, ", ".join(states) or "unknown")


def disk(free: int, reserve: int) -> Check:
    """Whether there is room to store anything: free bytes against the reserve."""
    return Check("disk", free > reserve, f"{free / 2**30:.1f} GiB free, {size_text(reserve)} kept in reserve")


def serving(draining: bool) -> Check:
    """Whether new associations are taken."""
    return Check("serving", not draining, "draining" if draining else "taking associations")
