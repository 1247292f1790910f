"""The few loops that are worth machine code, each with a Python twin elsewhere that does the same.

Every function here is None where no library was built for the machine (see :mod:`fastarchive.native.build`); its caller
then runs the Python code. Thread-safe; calls that take longer than waiting for the interpreter lock would release it.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastarchive.native.loading import library

Buffer = bytes | bytearray | memoryview

__all__ = ["PLACE", "VARIANT", "PlainHeader", "restore_rows", "scan_plain_header"]

_loaded = library()
VARIANT: Final = _loaded.name if _loaded is not None else "none"
"""The library in use: avx512, avx2, baseline or none."""


class _Memory(threading.local):
    """Arrays used again and again by one thread."""

    def __init__(self) -> None:
        self.scan = ctypes.create_string_buffer(_SCAN.size)
        self.found = ctypes.create_string_buffer(0)
        self.attributes = ctypes.create_string_buffer(0)


class PlainHeader(NamedTuple):
    """What :func:`scan_plain_header` found."""

    places: bytes
    """Of each wanted value an entry of :data:`PLACE`, in ascending order of tags."""
    attributes: bytes
    """The wanted elements that are not too long, as a data set."""
    pixel: tuple[int, int, int, int, int] | None
    """Tag, VR, length (0xFFFFFFFF: undefined), offset of the element and of its value."""
    bulk_offset: int


_SCAN: Final = struct.Struct("<7I")
PLACE: Final = struct.Struct("<IHxxII")
"""Tag, VR (its two letters as a little endian number), offset and length of a value."""
_memory = _Memory()


@lru_cache(maxsize=64)
def _ascending(wanted: frozenset[int]) -> tuple[ctypes.Array[ctypes.c_uint32], int]:
    tags = sorted(wanted)
    return (ctypes.c_uint32 * len(tags))(*tags), len(tags)


def rows(path: Path) -> Callable[[Buffer, int], Buffer]:
    """:data:`restore_rows` of one library."""
    restore = ctypes.CDLL(str(path)).fastarchive_restore_rows
    restore.restype = None
    restore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p)

    def restore_rows(data: Buffer, distance: int) -> Buffer:
        planes = np.frombuffer(data, np.uint8)
        out = np.empty(len(data), np.uint8)
        restore(_address(planes), len(data), distance, _address(out))
        return out.data

    return restore_rows


def _address(array: NDArray[np.uint8]) -> int:
    """Of memory that can't be written to, too, for which ctypes has no way."""
    address: int = array.__array_interface__["data"][0]
    return address


def headers(path: Path) -> Callable[[bytes, frozenset[int], int], PlainHeader | None]:
    """:data:`scan_plain_header` of one library."""
    scan = ctypes.PyDLL(str(path)).fastarchive_header
    scan.restype = ctypes.c_int
    scan.argtypes = (
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_uint32),
        ctypes.c_uint32,
        ctypes.c_uint32,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_char_p,
    )

    def scan_plain_header(data: bytes, wanted: frozenset[int], longest: int) -> PlainHeader | None:
        tags, count = _ascending(wanted)
        memory = _memory
        if len(memory.found) < count * PLACE.size or len(memory.attributes) < count * (8 + longest):
            memory.found = ctypes.create_string_buffer(count * PLACE.size)
            memory.attributes = ctypes.create_string_buffer(count * (8 + longest))
        if not scan(data, len(data), tags, count, longest, memory.found, memory.attributes, memory.scan):
            return None
        found, copied, tag, vr, length, header, value = _SCAN.unpack(memory.scan)
        return PlainHeader(
            ctypes.string_at(memory.found, found * PLACE.size),
            ctypes.string_at(memory.attributes, copied),
            (tag, vr, length, header, value) if tag else None,
            value,
        )

    return scan_plain_header


restore_rows: Final = rows(_loaded.path) if _loaded is not None else None
"""``restore_rows(data, distance)``: what the filter made `data` of, in memory of its own."""
scan_plain_header: Final = headers(_loaded.path) if _loaded is not None else None
"""``scan_plain_header(data, wanted, longest)``: the wanted elements of a data set in Explicit VR Little Endian; None
when its header is not plain or not complete, which says nothing about whether it is right."""
