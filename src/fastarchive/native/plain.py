"""The record of a plain data set in one stroke (``plain.c``)."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fastarchive.native.loading import library
from fastarchive.native.memory import Pages
from fastarchive.native.zstd import zstd_library

__all__ = ["MOST", "Made", "PlainRecords", "plain_records"]

MOST: Final = 1 << 20
"""Bytes of a data set that may be plain."""
_COMPRESSION_LEVEL: Final = 100
"""ZSTD_c_compressionLevel."""


class Made(NamedTuple):
    """A record, and the seconds it took to digest and to compress the data set."""

    record: bytes
    digest: float
    compress: float


class PlainRecords:
    """Makes records with one library and the zstd of the package ``zstandard``. For one thread at a time."""

    def __init__(self, path: Path, stored: Collection[int], most: int, *, lets_others_run: bool = False) -> None:
        """stored: tags of the attributes a record has. most: bytes of a data set, up to :data:`MOST`.

        lets_others_run: without the interpreter lock, which it takes some time to get back. Raises OSError or
        AttributeError where that zstd can't be called from C.
        """
        zstd = zstd_library()
        native = ctypes.CDLL(str(path)) if lets_others_run else ctypes.PyDLL(str(path))
        pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
        zstd.ZSTD_createCCtx.restype = pointer
        zstd.ZSTD_CCtx_setParameter.restype, zstd.ZSTD_CCtx_setParameter.argtypes = (
            size,
            (pointer, ctypes.c_int, ctypes.c_int),
        )
        native.fastarchive_plain_room.restype, native.fastarchive_plain_room.argtypes = size, (size,)
        native.fastarchive_plain_place.restype, native.fastarchive_plain_place.argtypes = size, (pointer,)
        native.fastarchive_plain_prepare.argtypes = (pointer, size, pointer, pointer, pointer, ctypes.c_uint32)
        context = zstd.ZSTD_createCCtx()
        zstd.ZSTD_CCtx_setParameter(context, _COMPRESSION_LEVEL, 1)
        tags = (ctypes.c_uint32 * len(stored))(*sorted(stored))
        pages = Pages(native.fastarchive_plain_room(most))
        self._address = pages.address
        compress = ctypes.cast(zstd.ZSTD_compress2, pointer)
        if not native.fastarchive_plain_prepare(pages.address, most, compress, context, tags, len(tags)):
            raise OSError("there are more tags to store than there is room for")
        self._kept = (zstd, pages)
        self._out = pages.view[native.fastarchive_plain_place(pages.address) :]
        self._times = (ctypes.c_uint64 * 2)()
        self._look = native.fastarchive_plain_look
        self._look.argtypes = (pointer, text, size, size, text, text)
        self._make = native.fastarchive_plain
        self._make.restype = size
        self._make.argtypes = (pointer, text, size, text, text, ctypes.c_int64, pointer)
        self._join = native.fastarchive_plain_pieces
        self._join.restype = size
        self._join.argtypes = (pointer, pointer, pointer, size, text, text, ctypes.c_int64, pointer)

    def look(self, start: bytes, size: int, strings: bytes, lengths: bytes) -> bool:
        """Whether :meth:`make` is going to make a record of a data set of `size` bytes that begins with `start`.

        Only what comes before its pixels matters, but if there are none that is all of it.
        """
        return bool(self._look(self._address, start, len(start), size, strings, lengths))

    def make(self, pieces: Sequence[bytes], strings: bytes, lengths: bytes, received: int) -> Made | None:
        """The record of a data set in Explicit VR Little Endian; None when it is not a plain one, or should be refused.

        strings: the affected SOP class and instance (empty ones are not compared), the transfer syntax, the calling and
        the called AE title, as bytes and together; lengths: the five. received: nanoseconds since the epoch.
        """
        times = self._times
        count = len(pieces)
        if count == 1:
            data = pieces[0]
            length = self._make(self._address, data, len(data), strings, lengths, received, times)
        else:
            where = (ctypes.c_char_p * count)(*pieces)
            sizes = (ctypes.c_uint32 * count)(*map(len, pieces))
            length = self._join(self._address, where, sizes, count, strings, lengths, received, times)
        return Made(bytes(self._out[:length]), times[0] / 1e9, times[1] / 1e9) if length else None


def plain_records(stored: Collection[int], most: int, *, lets_others_run: bool = False) -> PlainRecords | None:
    """What makes records with the attributes of these tags here, as :class:`PlainRecords`; None where that has to be
    left to the Python code."""
    loaded = library()
    if loaded is None:
        return None
    try:
        return PlainRecords(loaded.path, stored, most, lets_others_run=lets_others_run)
    except (OSError, AttributeError):
        return None
