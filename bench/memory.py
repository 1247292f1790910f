"""How much memory a tree of processes has, and the most it had (Linux).

What it really has, pages shared between its processes counted once, is told by `/proc/PID/smaps_rollup`: the kernel
walks all its pages for that, milliseconds a time in which none can be added. What it has with those counted for each
process stands ready in `/proc/PID/statm`. So the former is asked for seldom, and whenever the latter says that more is
there than ever before; in between, what it changed by counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, NamedTuple

from bench.process import read, tree

_LONGEST: Final = 2.0
"""Seconds that what statm says may stand in for the real size."""
_RISE: Final = 0.01
"""Of the most seen: a rise beyond that is looked at with care."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Footprint(NamedTuple):
    """Memory of a tree of processes, in bytes."""

    size: int
    """Proportional set size: pages shared between its processes count once, pages of mapped files count."""
    anonymous: int
    """Of that what is no page of a file."""


def parse_rollup(rollup: bytes) -> Footprint:
    """What /proc/PID/smaps_rollup says."""
    fields = {}
    for line in rollup.splitlines():
        name, colon, rest = line.partition(b":")
        if colon and rest.strip().endswith(b"kB"):
            fields[name] = int(rest.split()[0]) * 1024
    return Footprint(fields.get(b"Pss", 0), fields.get(b"Pss_Anon", 0) + fields.get(b"Pss_Shmem", 0))


def parse_statm(statm: bytes) -> Footprint:
    """What /proc/PID/statm says: shared pages count in full, and shared memory as pages of a file."""
    fields = statm.split()
    resident, of_files = int(fields[1]) * _PAGE, int(fields[2]) * _PAGE
    return Footprint(resident, resident - of_files)


def footprint(pids: Sequence[int]) -> Footprint:
    """What these processes have now; those that ended meanwhile have nothing."""
    return _sum(pids, "smaps_rollup", parse_rollup)


def _sum(pids: Sequence[int], file: str, parse: Callable[[bytes], Footprint]) -> Footprint:
    size = anonymous = 0
    for pid in pids:
        try:
            one = parse(read(f"/proc/{pid}/{file}"))
        except OSError:
            continue
        size += one.size
        anonymous += one.anonymous
    return Footprint(size, anonymous)


def memory_bytes(root: int) -> int:
    """Proportional set size of the tree below and including process `root`."""
    return footprint(tree(root)).size


class MemoryWatch:
    """Looks at the memory of a tree of processes again and again. For one thread."""

    def __init__(self, root: int) -> None:
        self.peak = 0
        """Bytes, the most that any look found: at most a hundredth of it is not looked at with care."""
        self._root = root
        self._exact = self._resident = Footprint(0, 0)
        self._exact_at = -_LONGEST
        self._processes: list[int] = []

    def look(self, *, exact: bool = False) -> Footprint:
        """What it has now; `exact`: looked at with care in any case."""
        processes, now = tree(self._root), monotonic()
        resident = _sum(processes, "statm", parse_statm)
        found = Footprint(
            max(0, self._exact.size + resident.size - self._resident.size),
            max(0, self._exact.anonymous + resident.anonymous - self._resident.anonymous),
        )
        if (
            exact
            or processes != self._processes
            or now - self._exact_at >= _LONGEST
            or found.size > self.peak * (1 + _RISE)
        ):
            found = self._exact = footprint(processes)
            self._resident, self._exact_at, self._processes = resident, now, processes
        self.peak = max(self.peak, found.size)
        return found
