"""Memory given back, at once or after a peak: glibc keeps what was freed, for a next time that may never come."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["Trimmer", "keep_large_blocks_apart", "keep_trimmed"]

WORTHWHILE: Final = 16 * 2**20
"""Bytes above what the process held after the last trim from which on another one is worth its page faults."""
SOME: Final = 2 * 2**20
"""The same for the trim that comes once in a while: under steady work holes grow slowly, and for hours."""
EVERY_SECONDS: Final = 30.0
LARGE: Final = 2**20
"""Bytes of a block from which on it gets pages of its own, which go back to the system as soon as it is freed."""
_KEPT_ON_TOP: Final = 16 * 2**20
"""Free bytes at the end of the heap that stay: with less, each data set is paid for twice, once in page faults."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_STATM: Final = Path("/proc/self/statm")


def keep_large_blocks_apart() -> bool:
    """Give every block of :data:`LARGE` bytes or more pages of its own, in this process; whether that can be had.

    Without this glibc raises that limit to the largest block ever freed, up to 32 MiB. From then on data sets whose
    headers are collected leave holes in the heap of each thread, and a crowd of senders takes twice the memory that
    they may hold.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, LARGE) and mallopt(_M_TRIM_THRESHOLD, _KEPT_ON_TOP))


class Trimmer:
    """Gives free memory back to the system while nothing arrives, and all the same once in `every` seconds; to be
    looked at every few seconds, in a thread.

    `busy` tells whether anything is arriving, which is better not disturbed often. Does nothing where the C library
    isn't glibc.
    """

    def __init__(self, busy: Callable[[], bool], *, every: float = EVERY_SECONDS) -> None:
        self._busy = busy
        self._every = every
        self._was_busy = True
        self._settled = resident()
        self._last = time.monotonic()
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def look(self) -> bool:
        """Trim if it is time to; whether it was."""
        was_busy, self._was_busy = self._was_busy, self._busy()
        idle = not was_busy and not self._was_busy
        grown, now = resident() - self._settled, time.monotonic()
        if self._trim is None or not (
            (idle and grown >= WORTHWHILE) or (grown >= SOME and now - self._last >= self._every)
        ):
            return False
        if idle:
            gc.collect()  # quick: what was there before the first association is frozen
        self._trim(0)
        self._settled, self._last = resident(), now
        return True


def keep_trimmed(stop: threading.Event) -> None:
    """Trim this process once in :data:`EVERY_SECONDS`, in a thread of its own."""
    threading.Thread(target=_run, args=(stop,), name="trimmer", daemon=True).start()


def _run(stop: threading.Event) -> None:
    trimmer = Trimmer(lambda: True)
    while not stop.wait(EVERY_SECONDS):
        trimmer.look()


def resident() -> int:
    """The resident set size of this process in bytes, 0 where it can't be told."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
