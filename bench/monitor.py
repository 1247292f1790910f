"""The course of a server over time: processor, memory, descriptors, bytes written and what its folder holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.memory import MemoryWatch
from bench.process import processor_seconds, tree
from bench.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Sample:
    """The whole process tree at one moment."""

    moment: float
    """time.monotonic()."""
    processor: float
    """Seconds of processor time used since the server started."""
    memory: int
    """Bytes, proportional set size: pages shared between its processes count once, pages of mapped files count."""
    anonymous: int
    """Bytes of memory that is no page of a file."""
    descriptors: int
    threads: int
    written: int
    """Bytes it caused to be written to disk, of processes that still run."""
    inventory: dict[str, int]
    """What is in its folder: for instance `segments` and `packs`."""


def parse_written(io: str) -> int:
    """Bytes written to storage, out of the text of /proc/PID/io."""
    for line in io.splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def sample(root: int, watch: MemoryWatch, inventory: Callable[[], dict[str, int]] = dict) -> Sample:
    """Look at the tree below and including process `root` now; processes that end meanwhile are left out."""
    descriptors = threads = written = 0
    for pid in tree(root):
        proc = Path(f"/proc/{pid}")
        try:
            descriptors += sum(1 for _ in (proc / "fd").iterdir())
            threads += sum(1 for _ in (proc / "task").iterdir())
            written += parse_written((proc / "io").read_text())
        except OSError:
            continue
    memory, anonymous = watch.look()
    moment, processor = time.monotonic(), processor_seconds(root)
    return Sample(moment, processor, memory, anonymous, descriptors, threads, written, inventory())


class Monitor:
    """Samples a server from a thread while a `with` block runs; `samples` is complete after it."""

    def __init__(
        self, root: int | None, *, interval: float = 1.0, inventory: Callable[[], dict[str, int]] = dict
    ) -> None:
        """root: process id of the server; None for a server elsewhere, of which there will be no samples."""
        self.samples: list[Sample] = []
        self._root = root
        self._watch = None if root is None else MemoryWatch(root)
        self._inventory = inventory
        self._sampling = Sampling(self._look, interval)

    def __enter__(self) -> Self:
        if self._root is not None:
            self._look()
            self._sampling.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._root is None:
            return
        self._sampling.stop()
        self._look()

    def _look(self) -> None:
        assert self._root is not None and self._watch is not None
        self.samples.append(sample(self._root, self._watch, self._inventory))

    def between(self, start: float, end: float) -> list[Sample]:
        """The samples of a stretch of time.monotonic()."""
        return [one for one in self.samples if start <= one.moment <= end]
