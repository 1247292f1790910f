"""The zstd that Python code here compresses with, to be called from C."""

from __future__ import annotations

import ctypes
from importlib.util import find_spec

import zstandard

__all__ = ["zstd_library"]


def zstd_library() -> ctypes.CDLL:
    """That of the package ``zstandard``, or another of its version. Raises OSError, AttributeError."""
    spec = find_spec("zstandard._cffi")  # its other way to Python exports nothing
    zstd = ctypes.CDLL((spec and spec.origin) or "libzstd.so.1")
    major, minor, patch = zstandard.ZSTD_VERSION
    if zstd.ZSTD_versionNumber() != (major * 100 + minor) * 100 + patch:
        raise OSError("there is no zstd of the version the archive compresses with")
    return zstd
