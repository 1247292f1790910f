"""How far a reader of the log has read: an offset for each pack, and a horizon below which there is nothing left."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from fastarchive.store.record import Location

_VERSION: Final = 1
_HEAD = struct.Struct("<BQI")
_ENTRY = struct.Struct("<QQ")


class Positions(Mapping[int, int]):
    """An immutable map from pack id to the offset up to which the pack was read.

    Packs up to `horizon` are read to their end and not listed; neither are packs that were not begun.
    """

    __slots__ = ("_offsets", "horizon")

    def __init__(self, offsets: Mapping[int, int] | None = None, horizon: int = 0) -> None:
        self.horizon = horizon
        self._offsets = {pack: offset for pack, offset in (offsets or {}).items() if pack > horizon}

    def __getitem__(self, pack: int) -> int:
        return self._offsets[pack]

    def __iter__(self) -> Iterator[int]:
        return iter(self._offsets)

    def __len__(self) -> int:
        return len(self._offsets)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Positions):
            return NotImplemented
        return self.horizon == other.horizon and self._offsets == other._offsets

    def __hash__(self) -> int:
        return hash((self.horizon, frozenset(self._offsets.items())))

    def __repr__(self) -> str:
        return f"Positions({self._offsets!r}, horizon={self.horizon})"

    def covers(self, location: Location) -> bool:
        """Whether the record at `location` was read."""
        return location.pack <= self.horizon or location.end <= self._offsets.get(location.pack, 0)

    def covers_all(self, other: Positions, present: Collection[int] | None = None) -> bool:
        """Whether everything that `other` has read was read here too; of the packs in `present`, if that is given."""
        if present is None:
            unread = self.horizon < other.horizon
        else:
            unread = any(self.horizon < pack <= other.horizon for pack in present)
        return not unread and all(
            pack <= self.horizon or self._offsets.get(pack, 0) >= offset
            for pack, offset in other.items()
            if present is None or pack in present
        )

    def encode(self) -> bytes:
        """13 bytes, and 16 for each pack listed."""
        entries = b"".join([_ENTRY.pack(pack, offset) for pack, offset in sorted(self._offsets.items())])
        return _HEAD.pack(_VERSION, self.horizon, len(self._offsets)) + entries

    @classmethod
    def decode(cls, data: bytes) -> Positions:
        """What :meth:`encode` gave. Raises ValueError."""
        if len(data) < _HEAD.size:
            raise ValueError("positions are cut short")
        version, horizon, count = _HEAD.unpack_from(data)
        if version != _VERSION or len(data) != _HEAD.size + count * _ENTRY.size:
            raise ValueError("positions of an unknown form")
        return cls(dict(_ENTRY.iter_unpack(data[_HEAD.size :])), horizon)
