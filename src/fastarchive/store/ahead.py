"""Zeroes written ahead of small groups of records.

Space that was only set aside has to be entered as written when a record comes into it, so that every `fdatasync` also
waits for the file system's journal. Where zeroes are already, a sync has nothing but the records to write. To write
everything twice pays only where groups are small (bench/README.md, "Where the time goes"): the zeroes of many are
written with the sync of one.
"""

from __future__ import annotations

from typing import Final

from fastarchive.store.disk import FULL, Disk
from fastarchive.store.pack import OpenPack

__all__ = ["Ahead"]

_STRETCH: Final = 256 << 10
"""Bytes of zeroes at a time."""
_SMALL: Final = 32 << 10
"""Mean bytes of a group up to which it pays; from 64 KB on it costs."""
_WEIGHT: Final = 1 / 8
"""Of the latest group in that mean."""
_ZEROES: Final = bytes(_STRETCH)


class Ahead:
    """Decides for one log when to write ahead."""

    mean: float = 2.0 * _SMALL
    """Bytes of a group lately; at first too many, so that a handful of records causes nothing."""

    def expect(self, size: int) -> None:
        """The next group has `size` bytes."""
        self.mean += (size - self.mean) * _WEIGHT

    def prepare(self, copy: OpenPack, size: int, disk: Disk) -> None:
        """Before `size` bytes are written at the end of `copy`: zeroes there and beyond, if that pays.

        Raises OSError, but not for lack of space: then it is not done any more.
        """
        if copy.end + size <= copy.zeroed or self.mean > _SMALL or size > _STRETCH:
            return
        start = max(copy.end, copy.zeroed)
        length = min(_STRETCH, copy.reserved - start)
        if length <= 0:
            return
        try:
            disk.write(copy.fd, (_ZEROES[:length],), start)
        except OSError as error:
            if error.errno not in FULL:
                raise
            copy.reserved = 0
        else:
            copy.zeroed = start + length
