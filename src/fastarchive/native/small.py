"""The record of a small data set in one stroke (``small.c``)."""

from __future__ import annotations

import ctypes
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import zstandard

from fastarchive.native.loading import library

__all__ = ["MOST", "SmallRecords", "small_records"]

MOST: Final = 64 << 10
"""Bytes of a data set that may be small."""
_COMPRESSION_LEVEL: Final = 100
"""ZSTD_c_compressionLevel."""


class SmallRecords:
    """Makes records with one library and the zstd of the package ``zstandard``. For one thread at a time."""

    def __init__(self, path: Path, stored: Collection[int]) -> None:
        """stored: tags of the attributes a record has. Raises OSError or AttributeError where that zstd can't be called
        from C."""
        zstd = _zstd()
        native = ctypes.PyDLL(str(path))
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        zstd.ZSTD_createCCtx.restype = pointer
        zstd.ZSTD_CCtx_setParameter.restype, zstd.ZSTD_CCtx_setParameter.argtypes = (
            size,
            (pointer, ctypes.c_int, ctypes.c_int),
        )
        native.fastarchive_rows_memory.restype, native.fastarchive_rows_memory.argtypes = size, (size, size)
        native.fastarchive_scratch.restype = native.fastarchive_small_room.restype = size
        native.fastarchive_scratch_prepare.argtypes = (pointer,)
        native.fastarchive_small_prepare.argtypes = (*[pointer] * 6, ctypes.c_uint32)
        compress = ctypes.cast(zstd.ZSTD_compress2, pointer)
        context = zstd.ZSTD_createCCtx()
        zstd.ZSTD_CCtx_setParameter(context, _COMPRESSION_LEVEL, 1)
        rows = ctypes.create_string_buffer(native.fastarchive_rows_memory(MOST, MOST // 8))
        scratch = ctypes.create_string_buffer(native.fastarchive_scratch())
        native.fastarchive_scratch_prepare(scratch)
        tags = (ctypes.c_uint32 * len(stored))(*sorted(stored))
        room = ctypes.create_string_buffer(native.fastarchive_small_room())
        if not native.fastarchive_small_prepare(room, compress, context, rows, scratch, tags, len(tags)):
            raise OSError("there are more tags to store than there is room for")
        self._kept = (rows, scratch, tags, zstd)
        self._room = room
        self._out = ctypes.create_string_buffer(4 * MOST)
        self._view = memoryview(self._out).cast("B")
        self._times = (ctypes.c_uint64 * 2)()
        self._make = native.fastarchive_small
        self._make.restype = size
        self._make.argtypes = (
            pointer, ctypes.c_char_p, size, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int64, pointer, pointer,
        )  # fmt: skip

    def make(self, data: bytes, strings: bytes, lengths: bytes, received: int) -> bytes | None:
        """The record of a data set in Explicit VR Little Endian; None when it is not a plain one, or should be refused.

        strings: the affected SOP class and instance (empty ones are not compared), the transfer syntax, the calling and
        the called AE title, as bytes and together; lengths: the five. received: nanoseconds since the epoch.
        """
        length = self._make(self._room, data, len(data), strings, lengths, received, self._out, self._times)
        return bytes(self._view[:length]) if length else None

    @property
    def times(self) -> tuple[float, float]:
        """Seconds the last one took to be digested and compressed."""
        digest, compress = self._times
        return digest / 1e9, compress / 1e9


def _zstd() -> ctypes.CDLL:
    """The zstd that Python code here compresses with, or another of its version. Raises OSError, AttributeError."""
    spec = find_spec("zstandard._cffi")  # its other way to Python exports nothing
    zstd = ctypes.CDLL((spec and spec.origin) or "libzstd.so.1")
    major, minor, patch = zstandard.ZSTD_VERSION
    if zstd.ZSTD_versionNumber() != (major * 100 + minor) * 100 + patch:
        raise OSError("there is no zstd of the version the archive compresses with")
    return zstd


def small_records(stored: Collection[int]) -> SmallRecords | None:
    """What makes records with the attributes of these tags here; None where that has to be left to the Python code."""
    loaded = library()
    if loaded is None:
        return None
    try:
        return SmallRecords(loaded.path, stored)
    except (OSError, AttributeError):
        return None
