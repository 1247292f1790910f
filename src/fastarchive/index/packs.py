"""Single records read back from their packs, and packs compared with a checkpoint."""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from fastarchive.store.codec import DamagedBlock, decode_block, verify_block
from fastarchive.store.follow import Positions
from fastarchive.store.pack import PAGE, list_packs, pack_path, read_record, read_state
from fastarchive.store.record import Location, Record, TornRecord

LONGEST: Final = 64 << 20
"""Bytes of a record whose data set is read whole."""
_MOST_OPEN: Final = 16


class ReadRecord(Protocol):
    """Reads what is at a location; None if it can't be read any more."""

    def __call__(self, location: Location) -> Record | None:
        """The metadata of the record."""

    def content(self, location: Location) -> bytes | None:
        """The data set of a small record, verified."""


class RecordReader:
    """Reads the metadata of records at known locations, from the mirror where need be. Not thread-safe."""

    def __init__(self, directory: Path, mirror: Path | None = None) -> None:
        self._copies = (directory,) if mirror is None else (directory, mirror)
        self._files: OrderedDict[Path, int] = OrderedDict()

    def __call__(self, location: Location) -> Record | None:
        """The record at `location`; None if it can't be read any more."""
        for copy in self._copies:
            with suppress(OSError, TornRecord):
                return self._read(pack_path(copy, location.pack), location)
        return None

    def content(self, location: Location) -> bytes | None:
        """The data set of the record at `location`, verified; None if it can't be read or is longer than LONGEST."""
        if location.size > LONGEST:
            return None
        for copy in self._copies:
            with suppress(OSError, TornRecord, DamagedBlock):
                path = pack_path(copy, location.pack)
                record = self._read(path, location)
                position = location.end - sum(block.stored for block in record.blocks)
                parts = []
                for block in record.blocks:
                    stored = os.pread(self._files[path], block.stored, position)
                    verify_block(block, stored)
                    parts.append(bytes(decode_block(block, stored)))
                    position += block.stored
                return b"".join(parts)
        return None

    def _read(self, path: Path, location: Location) -> Record:
        fd = self._files.get(path)
        if fd is None:
            fd = self._files[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if len(self._files) > _MOST_OPEN:
                os.close(self._files.popitem(last=False)[1])
        return read_record(fd, location.offset, location.end)[0]

    def forget_removed(self) -> None:
        """Let go of packs that were removed since they were opened: they keep their space for as long."""
        for path in [path for path, fd in self._files.items() if not os.fstat(fd).st_nlink]:
            os.close(self._files.pop(path))

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.popitem()[1])


def reaches_beyond(positions: Positions, directory: Path) -> int | None:
    """The id of a pack that is not there yet or shorter than `positions` say; None if there is none.

    A pack that is gone while there are later ones was compacted away: what was alive in it has been moved to those.
    """
    present = set(list_packs(directory))
    newest = max(present, default=0)
    if positions.horizon > newest:
        return positions.horizon
    for pack, offset in positions.items():
        if offset <= PAGE:  # nothing was read of it; empty packs may be removed
            continue
        if pack not in present:
            if pack > newest:
                return pack
            continue
        fd = os.open(pack_path(directory, pack), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if read_state(fd).end < offset:
                return pack
        finally:
            os.close(fd)
    return None
