"""What the records of plain data sets are made in (``plain.c``)."""

from __future__ import annotations

import ctypes
from collections.abc import Collection
from pathlib import Path
from typing import Final

from fastarchive.native.memory import Pages
from fastarchive.native.zstd import zstd_library

__all__ = ["MOST", "Rooms"]

MOST: Final = 1 << 20
"""Bytes of a data set that may be plain."""
_COMPRESSION_LEVEL: Final = 100
"""ZSTD_c_compressionLevel."""


class Rooms:
    """`count` rooms for one thread each, as ``plain.c`` works in, with the zstd of the package ``zstandard``."""

    def __init__(self, path: Path, stored: Collection[int], most: int, count: int) -> None:
        """stored: tags of the attributes a record has. most: bytes of a data set, up to :data:`MOST`.

        Raises OSError or AttributeError where that zstd can't be called from C.
        """
        zstd = zstd_library()
        native = ctypes.PyDLL(str(path))
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        zstd.ZSTD_createCCtx.restype = pointer
        zstd.ZSTD_CCtx_setParameter.restype, zstd.ZSTD_CCtx_setParameter.argtypes = (
            size,
            (pointer, ctypes.c_int, ctypes.c_int),
        )
        zstd.ZSTD_freeCCtx.restype, zstd.ZSTD_freeCCtx.argtypes = size, (pointer,)
        native.fastarchive_plain_room.restype, native.fastarchive_plain_room.argtypes = size, (size,)
        native.fastarchive_plain_prepare.argtypes = (pointer, size, pointer, pointer, pointer, ctypes.c_uint32)
        self._zstd = zstd
        self._contexts: list[int] = []
        self.pages: Final = [Pages(native.fastarchive_plain_room(most)) for _ in range(count)]
        self.addresses: Final = [pages.address for pages in self.pages]
        tags = (ctypes.c_uint32 * len(stored))(*sorted(stored))
        compress = ctypes.cast(zstd.ZSTD_compress2, pointer)
        for address in self.addresses:
            context = zstd.ZSTD_createCCtx()
            self._contexts.append(context)
            zstd.ZSTD_CCtx_setParameter(context, _COMPRESSION_LEVEL, 1)
            if not native.fastarchive_plain_prepare(address, most, compress, context, tags, len(tags)):
                raise OSError("there are more tags to store than there is room for")

    def __del__(self) -> None:
        for context in self._contexts:
            self._zstd.ZSTD_freeCCtx(context)
