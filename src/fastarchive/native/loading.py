"""Finds the library this machine can run, if one was built."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from fastarchive.native.build import file_name

OFF: Final = "FASTARCHIVE_NATIVE"
"""Environment variable; ``0`` keeps to the Python code."""

_V3: Final = frozenset({"avx", "avx2", "bmi1", "bmi2", "fma", "f16c", "movbe", "abm"})
_NEEDS: Final = {
    "avx512": _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512vbmi", "avx512_vbmi2"},
    "avx2": _V3,
    "baseline": frozenset[str](),
}
"""What the processor must have for each library, the fastest first; names as in /proc/cpuinfo."""


class Library(NamedTuple):
    """A library that can be loaded."""

    name: str
    path: Path


def libraries() -> dict[str, Path]:
    """The libraries that were built and that this processor can run, the fastest first."""
    has = _processor_flags()
    paths = {name: Path(__file__).with_name(file_name(name)) for name, needs in _NEEDS.items() if needs <= has}
    return {name: path for name, path in paths.items() if path.exists()}


@cache
def library() -> Library | None:
    """The fastest library there is for this machine; None when there is none."""
    if os.environ.get(OFF) == "0":
        return None
    for name, path in libraries().items():
        try:
            ctypes.CDLL(str(path))
        except OSError:  # built for another C library
            continue
        return Library(name, path)
    return None


def _processor_flags() -> frozenset[str]:
    try:
        with Path("/proc/cpuinfo").open() as file:
            for line in file:
                if line.startswith("flags"):
                    return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()
