"""Memory given back after a peak: glibc keeps what each thread has freed, for a next time that may never come."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["Trimmer"]

WORTHWHILE: Final = 16 * 2**20
"""Bytes above what the process held after the last trim from which on another one is worth its page faults."""
_STATM: Final = Path("/proc/self/statm")


class Trimmer:
    """Gives free memory back to the system while nothing arrives; to be looked at every few seconds, in a thread.

    `busy` tells whether anything is arriving, which is better not disturbed. Does nothing where the C library isn't
    glibc.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._was_busy = True
        self._settled = resident()
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def look(self) -> bool:
        """Trim if it is time to; whether it was."""
        was_busy, self._was_busy = self._was_busy, self._busy()
        if self._trim is None or was_busy or self._was_busy or resident() < self._settled + WORTHWHILE:
            return False
        gc.collect()  # quick: what was there before the first association is frozen
        self._trim(0)
        self._settled = resident()
        return True


def resident() -> int:
    """The resident set size of this process in bytes, 0 where it can't be told."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
