"""Rows from the document store of a Tantivy segment, many in one call (``stored.c``)."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from fastarchive.native.loading import library

__all__ = ["StoredRows", "stored_rows"]

_ROOM: Final = 1 << 20
"""Bytes an unpacked block may have. Tantivy ends a block with the document after which it has 16 KB."""
_OUT: Final = 1 << 20
"""Bytes of rows given by one call."""


class _Memory(threading.local):
    """What one thread reads into, again and again."""

    def __init__(self) -> None:
        self.room = ctypes.create_string_buffer(_ROOM)
        self.out = mmap.mmap(-1, _OUT)  # of what can be written to, only this gives slices as bytes
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.out))


class StoredRows:
    """Reads stores with one library. Thread-safe; the interpreter lock is let go of once a call, not once a row."""

    def __init__(self, path: Path) -> None:
        self._read = ctypes.CDLL(str(path)).fastarchive_stored
        self._read.restype = ctypes.c_uint32
        self._read.argtypes = (
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
        )
        self._memory = _Memory()

    def __call__(self, address: int, size: int, documents: Sequence[int]) -> list[bytes]:
        """The rows of the first of these documents, fewer than asked for when there are many or one can't be read.

        address, size: of a store in memory, from its first block to its own footer. Documents in ascending order of
        their number share blocks.
        """
        count, memory = len(documents), self._memory
        ends = (ctypes.c_uint32 * count)()
        numbers = (ctypes.c_uint32 * count)(*documents)
        found = self._read(address, size, numbers, count, memory.room, _ROOM, memory.address, _OUT, ends)
        out = memory.out
        return [out[start:end] for start, end in pairwise([0, *ends[:found]])]


_library = library()
stored_rows: Final = StoredRows(_library.path) if _library is not None else None
"""What reads stores here; None where no library was built for the machine."""
