"""Which processes a server consists of, and how much processor time they take, read from /proc (Linux)."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_LONGEST = 1 << 16


def tree(root: int) -> list[int]:
    """The process ids of `root` and everything below it that runs now."""
    found = [root]
    for pid in found:
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - ten times a second beside what is measured
                found += map(int, read(f"/proc/{pid}/task/{thread}/children").split())
        except OSError:
            continue  # it ended while we looked
    return found


def read(path: str) -> bytes:
    """A file below /proc, as cheap as can be: a quarter of what pathlib takes. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _LONGEST)
    finally:
        os.close(fd)


def parse_stat(stat: str) -> float:
    """Seconds of user and system time of a process and of its children it has waited for, from /proc/PID/stat."""
    # The command's name stands in parentheses and may hold anything, also parentheses and spaces.
    fields = stat.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) * _TICK


def processor_seconds(root: int) -> float:
    """Processor time the tree has used so far; children that ended count through the parent that waited for them."""
    total = 0.0
    for pid in tree(root):
        try:
            total += parse_stat(Path(f"/proc/{pid}/stat").read_text())
        except OSError:
            continue
    return total


def wait_idle(root: int, limit: float) -> None:
    """Return when the tree has used less than 3 % of a core over half a second, or after `limit` seconds."""
    deadline = time.monotonic() + limit
    before = processor_seconds(root)
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = processor_seconds(root)
        if now - before < 0.015:
            return
        before = now


def percentile(values: Iterable[float], fraction: float) -> float:
    """The value below which `fraction` of the values lie (nearest rank); 0 when there are none."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]
