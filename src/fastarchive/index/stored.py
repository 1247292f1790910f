"""Rows read straight from the document stores of an index, many in one call (docs/adr/0019).

Tantivy gives a document at a time, through a map of its fields, and lets go of the interpreter lock for each. Here the
files of the stores are mapped and read by a C function. Whatever it can't read is left to Tantivy.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import struct
from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple

import tantivy

from fastarchive.native.stored import stored_rows

_FOOTER: Final = struct.Struct("<II")
"""The last bytes of every file of Tantivy's: the size of what tells its version, and a mark."""
_MARK: Final = 1337
_FORMAT: Final = 7
"""Of Tantivy's files, the one known here."""
_FEW: Final = 4
"""Documents that Tantivy reads as fast."""

_segment: Final = attrgetter("segment_ord")
_number: Final = attrgetter("doc")


class _Store(NamedTuple):
    """The store of one segment: where it is in memory, and what keeps it there."""

    address: int
    size: int
    memory: object


class Stores:
    """The document stores of the segments of one commit, in their order. Usable from any thread."""

    def __init__(self, path: Path, meta: bytes, before: Stores | None = None) -> None:
        """path: the folder of the index. meta: its list of segments. before: has those that are open already."""
        self._path = path
        self._names = [each["segment_id"].replace("-", "") for each in json.loads(meta)["segments"]]
        known = {} if before is None else before._stores
        self._stores: dict[str, _Store | None] = {name: known[name] for name in self._names if name in known}
        self._proven: set[int] = set()
        """Segments whose first row read here was what Tantivy reads."""

    def rows(self, searcher: tantivy.Searcher, addresses: Sequence[tantivy.DocAddress]) -> list[bytes]:
        """The rows of documents, which come as they lie, segment by segment; `searcher` is of the same commit."""
        if stored_rows is None or len(addresses) < _FEW:
            return rows(searcher, addresses)
        found: list[bytes] = []
        while len(found) < len(addresses):
            first = len(found)
            segment = addresses[first].segment_ord
            end = bisect_right(addresses, segment, first, key=_segment)
            found += self._rows(searcher, segment, addresses[first:end])
        return found

    def _rows(self, searcher: tantivy.Searcher, segment: int, addresses: Sequence[tantivy.DocAddress]) -> list[bytes]:
        store = self._store(searcher, segment, addresses[0])
        if store is None:
            return rows(searcher, addresses)
        assert stored_rows is not None
        numbers = list(map(_number, addresses))
        found: list[bytes] = []
        while len(found) < len(numbers):
            some = stored_rows(store.address, store.size, numbers[len(found) :])
            found += some or rows(searcher, addresses[len(found) : len(found) + 1])
        return found

    def _store(self, searcher: tantivy.Searcher, segment: int, address: tantivy.DocAddress) -> _Store | None:
        if segment >= len(self._names):
            return None
        name = self._names[segment]
        if name not in self._stores:
            self._stores[name] = _opened(self._path / f"{name}.store")
        store = self._stores[name]
        if store is not None and segment not in self._proven:
            assert stored_rows is not None
            # Tantivy promises no order of segments.
            if stored_rows(store.address, store.size, [address.doc]) != rows(searcher, [address]):
                store = self._stores[name] = None
            self._proven.add(segment)
        return store


def rows(searcher: tantivy.Searcher, addresses: Sequence[tantivy.DocAddress]) -> list[bytes]:
    """The rows of documents as Tantivy reads them."""
    doc = searcher.doc
    return [doc(address).get_first("row") for address in addresses]  # type: ignore[misc]  # always stored


def _opened(path: Path) -> _Store | None:
    """A store; None if it isn't there any more, or is of another format."""
    try:
        with path.open("rb") as file:
            memory = _Mapped(file.fileno())
        size, mark = _FOOTER.unpack_from(memory.view, memory.size - _FOOTER.size)
        end = memory.size - _FOOTER.size - size
        if mark != _MARK or end < 0:
            return None
        if json.loads(bytes(memory.view[end : end + size]))["version"]["index_format_version"] != _FORMAT:
            return None
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None
    return _Store(memory.address, end, memory)


_FAILED: Final = ctypes.c_void_p(-1).value
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class _Mapped:
    """A file in memory, to be read, for as long as this object lives.

    The mmap of Python keeps a descriptor for each file; there may be many segments, in every worker.
    """

    __slots__ = ("address", "size", "view")
    _unmap = _libc.munmap  # still there when the interpreter ends

    def __init__(self, fd: int) -> None:
        """Raises OSError; ValueError for a file that is empty."""
        self.address = 0
        self.size = os.fstat(fd).st_size
        if not self.size:
            raise ValueError("an empty file")
        address = _libc.mmap(None, self.size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        if address == _FAILED:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        self.address = address
        self.view = memoryview((ctypes.c_uint8 * self.size).from_address(address)).cast("B").toreadonly()
        """Only to be used while this object lives."""

    def __del__(self) -> None:
        if self.address:
            self._unmap(self.address, self.size)
