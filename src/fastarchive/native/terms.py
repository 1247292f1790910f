"""What patients, studies and series are found by: terms.c by ctypes. Its Python twin is in ``index/terms.py``."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from fastarchive.native.attributes import Kinds
from fastarchive.native.loading import library

__all__ = ["DATE", "EXACT", "GRAMS", "NAME", "NUMBER", "TIME", "Found", "entity_terms"]

EXACT, GRAMS, DATE, TIME, NUMBER, NAME = 1, 2, 4, 8, 16, 32
"""Of an attribute: has terms of its values as a whole; has a field of texts, dates or times; is a number, or a name."""

_ROOM: Final = 1 << 17
_MOST: Final = 64


class Found(NamedTuple):
    """What the index gets of a row, as far as values are plain."""

    text: str
    """Fields in JSON; the last is ``exact``, without the bracket that closes it."""
    several: bool
    """Whether there is anything in ``exact`` yet."""
    careful: list[int]
    """The elements left out, by their number in the row."""


class _Memory(threading.local):
    def __init__(self) -> None:
        self.out = ctypes.create_string_buffer(_ROOM)
        self.view = memoryview(self.out)
        self.careful = (ctypes.c_uint32 * _MOST)()
        self.found, self.several = ctypes.c_uint32(), ctypes.c_uint32()
        self.places = (
            ctypes.addressof(self.careful),
            _MOST,
            ctypes.addressof(self.found),
            ctypes.addressof(self.several),
        )
        self.out_at = ctypes.addressof(self.out)


_memory = _Memory()
EntityTerms = Callable[[bytes, int, Kinds], Found | None]


def finder(path: Path) -> EntityTerms:
    """:data:`entity_terms` of one library."""
    function = ctypes.PyDLL(str(path)).fastarchive_terms
    function.restype = ctypes.c_int64
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    function.argtypes = (ctypes.c_char_p, size, size, pointer, pointer, size, pointer, size, pointer, pointer)

    def entity_terms(row: bytes, table: int, recipes: Kinds) -> Found | None:
        memory = _memory
        written = function(row, len(row), table, recipes.address, memory.out_at, _ROOM, *memory.places)
        if written < 0:
            return None
        left = memory.found.value
        text = str(memory.view[:written], "ascii")
        return Found(text, memory.several.value != 0, memory.careful[:left] if left else [])

    return entity_terms


_library = library()
entity_terms: Final = finder(_library.path) if _library is not None else None
"""``entity_terms(row, table, recipes)``: what the index gets of the row of a patient, study or series whose elements
begin at `table`; None for rows that are very long."""
