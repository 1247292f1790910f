"""What a load costs a server: processor time and peak memory of its whole process tree."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from bench.memory import MemoryWatch
from bench.process import processor_seconds, wait_idle
from bench.sampling import Sampling


class Meter:
    """Processor time and peak memory of a server while a `with` block runs.

    `processor` and `peak_memory` are valid after the block. What the server does after the last answer (an index that
    catches up) belongs to the work: the block's end waits until the tree is idle, at most `settle` seconds.
    """

    def __init__(self, root: int | None, *, interval: float = 0.1, settle: float = 15.0) -> None:
        """root: process id of the server; None for a server elsewhere, of which nothing is known."""
        self._root = root
        self._settle = settle
        self._watch = None if root is None else MemoryWatch(root)
        self._sampling = Sampling(self._look, interval)
        self.processor = 0.0
        self.peak_memory = 0

    def __enter__(self) -> Self:
        if self._root is not None:
            self._before = processor_seconds(self._root)
            self._look()
            self._sampling.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._root is None:
            return
        if kind is None:
            wait_idle(self._root, self._settle)
        self._sampling.stop()
        self.processor = processor_seconds(self._root) - self._before

    def _look(self) -> None:
        assert self._watch is not None
        self._watch.look()
        self.peak_memory = self._watch.peak
