"""Records dealt out to readers: harvest.c by ctypes. Its Python twin is in ``index/harvest.py``."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from fastarchive.native.loading import library

__all__ = ["MOST", "Dealt", "deal"]

MOST: Final = 4096
"""Records found at a time."""
_FOUND: Final = struct.Struct("<IIQI4x")
_REACHED: Final = struct.Struct("<QQQII")

Found = tuple[int, int, int, int]
"""Where a record begins in the piece, bytes of its metadata and of all of it, records passed before it."""


class Dealt(NamedTuple):
    """What of a piece of a pack falls to a reader."""

    found: list[Found]
    following: int
    """Where to read on, from the start of the piece."""
    needed: int
    """Bytes that have to be there for that."""
    last: int
    """Bytes of the last record passed."""
    passed: int
    """Records."""
    ended: bool
    """Whether what is there is no whole record, or goes beyond the end."""


class _Memory(threading.local):
    def __init__(self) -> None:
        self.found = ctypes.create_string_buffer(MOST * _FOUND.size)
        self.reached = ctypes.create_string_buffer(_REACHED.size)


_memory = _Memory()
Deal = Callable[[bytes, int, int, int], Dealt]


def dealer(path: Path) -> Deal:
    """:data:`deal` of one library."""
    function = ctypes.CDLL(str(path)).fastarchive_deal
    function.restype = number = ctypes.c_uint32
    function.argtypes = (
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint64,
        number,
        number,
        ctypes.c_char_p,
        number,
        ctypes.c_char_p,
    )

    def deal(piece: bytes, left: int, reader: int, of: int) -> Dealt:
        memory = _memory
        count = function(piece, len(piece), left, reader, of, memory.found, MOST, memory.reached)
        following, needed, last, passed, ended = _REACHED.unpack(memory.reached)
        found = list(_FOUND.iter_unpack(ctypes.string_at(memory.found, count * _FOUND.size)))
        return Dealt(found, following, needed, last, passed, ended != 0)

    return deal


_library = library()
deal: Final = dealer(_library.path) if _library is not None else None
"""``deal(piece, left, reader, of)``: the records in a piece of a pack that fall to a reader; `left` bytes of records
are left in the pack from the start of the piece on."""
