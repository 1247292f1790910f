"""Rows read straight from the document stores of an index, many in one call (docs/adr/0019).

Tantivy gives a document at a time, through a map of its fields, and lets go of the interpreter lock for each. Here the
files of the stores are mapped and read by a C function. Whatever it can't read is left to Tantivy.
"""

from __future__ import annotations

import json
import mmap
import struct
from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
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
            memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        size, mark = _FOOTER.unpack_from(memory, len(memory) - _FOOTER.size)
        end = len(memory) - _FOOTER.size - size
        if mark != _MARK or end < 0:
            return None
        if json.loads(memory[end : end + size])["version"]["index_format_version"] != _FORMAT:
            return None
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None
    view = np.frombuffer(memory, np.uint8)
    address: int = view.__array_interface__["data"][0]
    return _Store(address, end, view)
