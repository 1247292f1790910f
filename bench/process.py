"""What a server costs: processor time and memory of its whole process tree, read from /proc (Linux)."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

_TICK = 1 / os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process ids of `root` and everything below it that runs now."""
    found = [root]
    for pid in found:
        try:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
        except OSError:
            continue  # it ended while we looked
    return found


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


def parse_pss(rollup: str) -> int:
    """Bytes of proportional set size out of the text of /proc/PID/smaps_rollup."""
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def memory_bytes(root: int) -> int:
    """Proportional set size of the tree: pages shared between its processes count once."""
    total = 0
    for pid in tree(root):
        try:
            total += parse_pss(Path(f"/proc/{pid}/smaps_rollup").read_text())
        except OSError:
            continue
    return total


class Meter:
    """Processor time and peak memory of a server while a `with` block runs.

    `processor` and `peak_memory` are valid after the block. What the server does after the last answer (an index that
    catches up) belongs to the work: the block's end waits until the tree is idle, at most `settle` seconds.
    """

    def __init__(self, root: int | None, *, interval: float = 0.1, settle: float = 15.0) -> None:
        """root: process id of the server; None for a server elsewhere, of which nothing is known."""
        self._root = root
        self._interval = interval
        self._settle = settle
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory sampler", daemon=True)
        self.processor = 0.0
        self.peak_memory = 0

    def __enter__(self) -> Self:
        if self._root is not None:
            self._before = processor_seconds(self._root)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._root is None:
            return
        if kind is None:
            wait_idle(self._root, self._settle)
        self._stop.set()
        self._thread.join()
        self.processor = processor_seconds(self._root) - self._before

    def _sample(self) -> None:
        assert self._root is not None
        while True:
            self.peak_memory = max(self.peak_memory, memory_bytes(self._root))
            if self._stop.wait(self._interval):
                return


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
