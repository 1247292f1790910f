"""Single records read back from their packs, and packs compared with a checkpoint."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fastarchive.store.follow import Positions
from fastarchive.store.pack import PAGE, list_packs, pack_path, read_record, read_state
from fastarchive.store.record import Location, Record, TornRecord

_MOST_OPEN: Final = 16

ReadRecord = Callable[[Location], Record | None]


class RecordReader:
    """Reads the metadata of records at known locations. Not thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: OrderedDict[int, int] = OrderedDict()

    def __call__(self, location: Location) -> Record | None:
        """The record at `location`; None if it can't be read any more."""
        try:
            fd = self._files.get(location.pack)
            if fd is None:
                fd = os.open(pack_path(self._directory, location.pack), os.O_RDONLY | os.O_CLOEXEC)
                self._files[location.pack] = fd
                if len(self._files) > _MOST_OPEN:
                    os.close(self._files.popitem(last=False)[1])
            return read_record(fd, location.offset, location.end)[0]
        except (OSError, TornRecord):
            return None

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.popitem()[1])


def reaches_beyond(positions: Positions, directory: Path) -> int | None:
    """The id of a pack that is gone or shorter than `positions` say; None if there is none."""
    present = set(list_packs(directory))
    if positions.horizon and positions.horizon not in present:
        return positions.horizon
    for pack, offset in positions.items():
        if offset <= PAGE:  # nothing was read of it; empty packs may be removed
            continue
        if pack not in present:
            return pack
        fd = os.open(pack_path(directory, pack), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if read_state(fd).end < offset:
                return pack
        finally:
            os.close(fd)
    return None
