"""Stored instances read from their packs straight into the PDUs that carry them (``outgoing.c``)."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Final

from fastarchive.native.loading import library
from fastarchive.native.memory import Pages
from fastarchive.native.zstd import zstd_library

__all__ = ["LEAST_FRAGMENT", "MOST", "OutgoingInstances", "Space", "outgoing_instances"]

MOST: Final = 1 << 20
"""Bytes of a data set that is read in one stroke."""
LEAST_FRAGMENT: Final = 1024
"""Bytes that a PDU holds at least."""
_HEADERS: Final = 12
"""Bytes of headers in a PDU with one fragment (PS3.8 9.3.5)."""
_HEAD: Final = 4096
"""Room for a command set before the data set."""
_ROOM: Final = _HEAD + MOST + _HEADERS * (MOST // LEAST_FRAGMENT + 1)


class Space:
    """Memory for a C-STORE request in PDUs, one at a time: the command set and the data set next to each other."""

    __slots__ = ("_end", "_pages", "address", "view")

    def __init__(self) -> None:
        self._pages = Pages(_ROOM)
        self.view = self._pages.view
        self.address = self._pages.address + _HEAD
        """Where the PDUs of the data set begin."""
        self._end = 0

    def hold(self, size: int) -> None:
        """So many bytes of PDUs are there."""
        self._end = _HEAD + size

    def message(self, head: bytes) -> memoryview:
        """The PDUs after those with the command set, which has a few hundred bytes."""
        start = _HEAD - len(head)
        self.view[start:_HEAD] = head
        return self.view[start : self._end]


class OutgoingInstances:
    """Reads instances with one library and the zstd of the package ``zstandard``. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Raises OSError or AttributeError where that zstd can't be called from C."""
        zstd = zstd_library()
        native = ctypes.CDLL(str(path))
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        zstd.ZSTD_createDCtx.restype = pointer
        native.fastarchive_outgoing_room.restype = size
        native.fastarchive_outgoing_prepare.argtypes = (pointer, pointer, pointer)
        pages = Pages(native.fastarchive_outgoing_room())
        self._kept = (zstd, pages)
        self._room = pages.address
        decompress = ctypes.cast(zstd.ZSTD_decompressDCtx, pointer)
        native.fastarchive_outgoing_prepare(self._room, decompress, zstd.ZSTD_createDCtx())
        self._read = native.fastarchive_outgoing
        self._read.restype = size
        self._read.argtypes = (
            pointer, ctypes.c_int, ctypes.c_int64, size, size, ctypes.c_char_p, size, ctypes.c_uint8, size, pointer,
        )  # fmt: skip

    def read(
        self,
        file: int,
        offset: int,
        size: int,
        space: Space,
        *,
        length: int,
        transfer_syntax: bytes,
        context: int,
        longest: int,
    ) -> bool:
        """Whether `space` now holds the data set of the record that lies at `offset` of a file, `size` bytes long.

        It is verified, and in PDUs in the presentation context `context` with fragments of at most `longest` bytes.
        length, transfer_syntax: of the data set, as the index has them. False when the record is not in memory or not
        of the plain kind that C reads alone, and whenever something is wrong.
        """
        if longest < LEAST_FRAGMENT or length > MOST:
            return False
        written: int = self._read(
            self._room,
            file,
            offset,
            size,
            length,
            transfer_syntax,
            len(transfer_syntax),
            context,
            longest,
            space.address,
        )
        space.hold(written)
        return written > 0


def outgoing_instances() -> OutgoingInstances | None:
    """What reads instances here; None where that has to be left to the Python code."""
    loaded = library()
    if loaded is None:
        return None
    try:
        return OutgoingInstances(loaded.path)
    except (OSError, AttributeError):
        return None
