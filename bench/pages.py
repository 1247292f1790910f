"""What it costs to use memory that was not used before.

Next to nothing, but on a virtual machine whose host hands memory out page by page as it is touched, and takes back
what is free. Files that are written fill such pages then, and whoever writes pays for them: an archive that gets pages
used before looks faster, and neither is its own doing.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Sequence
from contextlib import suppress

from bench.report import figure

_SIZE = 256 * 2**20
"""Bytes that are looked at. What was free last is given first, and may still be there."""
_PART = 4 * 2**20
_MOST_SECONDS = 1.0
_MUCH = 2e-6
"""Seconds a page; a kernel that only has to clear it takes a tenth of that."""


def costs(size: int = _SIZE) -> list[float]:
    """Seconds a page of memory takes when it is touched first, of parts of 4 MB; fewer than `size` has when a second
    is over. Empty where there is no such memory."""
    try:
        memory = mmap.mmap(-1, size)
    except (OSError, ValueError):
        return []
    with memory:
        with suppress(OSError):  # of a kernel that has no huge pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        found: list[float] = []
        begun = time.perf_counter()
        for start in range(0, size, _PART):
            pages = range(start, min(start + _PART, size), mmap.PAGESIZE)
            before = time.perf_counter()
            for page in pages:
                memory[page] = 1
            after = time.perf_counter()
            found.append((after - before) / len(pages))
            if after - begun > _MOST_SECONDS:
                break
        return found


def remark(found: Sequence[float]) -> str:
    """What a reader of figures should know of that; nothing where pages cost as little as they should."""
    worst = sorted(found)[-(len(found) // 4 + 1) :]  # a quarter: the rest may have been free for a moment only
    mean = sum(worst) / len(worst) if worst else 0.0
    if mean < _MUCH:
        return ""
    return (
        f"memory not used before costs {figure(mean * 1e6)} µs a page here, as on a virtual machine whose host hands "
        f"it out when it is touched: every megabyte written to a file may cost an archive {figure(mean * 256e3)} ms "
        "more, and runs differ by whether it does"
    )
