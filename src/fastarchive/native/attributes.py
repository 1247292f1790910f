"""The attributes of records split and compared: attributes.c by ctypes. Its twins are in index/contributions.py."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from fastarchive.native.loading import library

__all__ = ["BELOW_SERIES", "EVERY_LEVEL", "IMAGE", "NONE", "Kinds", "instance_part", "split"]

IMAGE, EVERY_LEVEL, NONE = 3, 4, 5
"""What an attribute describes, beside 0 to 2 for patient, study and series."""
BELOW_SERIES: Final = 8
"""Added for what may differ from instance to instance of a series."""

_PLACE: Final = struct.Struct("<HHIII")
_MOST: Final = 256
_ROOM: Final = 1 << 16

Place = tuple[int, int, int, int, int]
"""What it describes, its VR (two letters, little endian) if it is more than ASCII, tag, start and end of the value."""


class Kinds:
    """What each attribute describes, for the functions here; immutable."""

    def __init__(self, kinds: Mapping[int, int]) -> None:
        tags = sorted(kinds)
        self._tags = (ctypes.c_uint32 * len(tags))(*tags)
        self._kinds = (ctypes.c_uint8 * len(tags))(*[kinds[tag] for tag in tags])
        self._table = ctypes.create_string_buffer(
            struct.pack("<QQQ", ctypes.addressof(self._tags), ctypes.addressof(self._kinds), len(tags)), 24
        )
        self.address = ctypes.addressof(self._table)


class _Memory(threading.local):
    def __init__(self) -> None:
        places, out, size = ctypes.create_string_buffer(_MOST * _PLACE.size), _room(_ROOM), ctypes.c_uint32()
        self.places, self.out, self.size = places, out, size
        self.places_at, self.out_at, self.size_at = map(ctypes.addressof, (places, out, size))


def _room(size: int) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(size)


_memory = _Memory()

Split = Callable[[bytes, Kinds], tuple[Iterator[Place], bytes] | None]
InstancePart = Callable[[bytes, bytes, Kinds], bytes | None]


def splitter(path: Path) -> Split:
    """:data:`split` of one library."""
    function = ctypes.PyDLL(str(path)).fastarchive_split
    function.restype = ctypes.c_int32
    sizes, pointers = ctypes.c_size_t, ctypes.c_void_p
    function.argtypes = (ctypes.c_char_p, sizes, pointers, pointers, sizes, pointers, pointers)

    def split(data: bytes, kinds: Kinds) -> tuple[Iterator[Place], bytes] | None:
        size, memory = len(data), _memory
        if 2 * size > _ROOM:
            return None
        count = function(data, size, kinds.address, memory.places_at, _MOST, memory.out_at, memory.size_at)
        if count < 0:
            return None
        places = ctypes.string_at(memory.places_at, count * _PLACE.size)
        return _PLACE.iter_unpack(places), ctypes.string_at(memory.out_at, memory.size.value)

    return split


def comparer(path: Path) -> InstancePart:
    """:data:`instance_part` of one library."""
    function = ctypes.PyDLL(str(path)).fastarchive_instance_part
    function.restype = ctypes.c_int64
    sizes, pointers = ctypes.c_size_t, ctypes.c_void_p
    function.argtypes = (ctypes.c_char_p, sizes, ctypes.c_char_p, sizes, pointers, pointers)

    def instance_part(first: bytes, data: bytes, kinds: Kinds) -> bytes | None:
        size, memory = len(data), _memory
        if size <= _ROOM:
            written = function(first, len(first), data, size, kinds.address, memory.out_at)
            return None if written < 0 else ctypes.string_at(memory.out_at, written)
        out = _room(size)
        written = function(first, len(first), data, size, kinds.address, ctypes.addressof(out))
        return None if written < 0 else out.raw[:written]

    return instance_part


_library = library()
split: Final = splitter(_library.path) if _library is not None else None
"""``split(data, kinds)``: the elements that say something, and those of the instance encoded as UN; None when tags
don't ascend or there are very many."""
instance_part: Final = comparer(_library.path) if _library is not None else None
"""``instance_part(first, data, kinds)``: the elements of the instance of `data` if all else is as in `first`."""
