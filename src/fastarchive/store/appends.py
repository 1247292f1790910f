"""Records on their way into the log, and who is told what became of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from fastarchive.store.encoding import EncodedRecord
from fastarchive.store.record import Location, Record, RecordKind

__all__ = ["Append", "OwnPack", "OwnPacks", "fail", "succeed"]

_MOST_HANDED: Final = 1024
"""Records of a pack kept for a follower; what it comes too late for it reads from the pack."""


@dataclass(slots=True)
class Append:
    """A record in the queue, and who is told what becomes of it."""

    encoded: EncodedRecord
    queued: float
    future: Future[Location]

    @property
    def makes_room(self) -> bool:
        """Whether it may use the reserve of the disk."""
        return self.encoded.record.kind == RecordKind.DELETION


def succeed(appends: Sequence[Append], pack: int, offsets: Sequence[int], times: tuple[float, float, float]) -> None:
    """They are durable at these offsets of a pack. times: when the group was begun, written, and synced."""
    started, written, synced = times
    for append, offset in zip(appends, offsets, strict=True):
        encoded = append.encoded
        timings = encoded.timings
        timings["queue"] = started - append.queued
        timings["write"] = written - started
        timings["sync"] = synced - written
        append.future.set_result(Location(pack, offset, encoded.size))


def fail(appends: Sequence[Append], error: Exception) -> None:
    """They were not stored."""
    for append in appends:
        append.future.set_exception(type(error)(*error.args))


class OwnPack:
    """What a follower in this process need not read from the pack that the log of this process appends to.

    One thread adds, another takes.
    """

    __slots__ = ("end", "entries")

    def __init__(self, end: int) -> None:
        self.end = end
        """Up to where everything that is durable was handed over."""
        self.entries: deque[tuple[int, int, Record]] = deque(maxlen=_MOST_HANDED)
        """Offset, size and record."""

    def add(self, offset: int, size: int, record: Record) -> None:
        """A record that readers may see now, behind all others."""
        self.entries.append((offset, size, record))
        self.end = offset + size

    def forget(self, offset: int) -> None:
        """Nobody is going to take what lies before `offset`; for the thread that takes."""
        with suppress(IndexError):
            while self.entries[0][0] < offset:
                self.entries.popleft()


class OwnPacks:
    """The packs this process appends to, by their ids."""

    def __init__(self) -> None:
        self._packs: dict[int, OwnPack] = {}

    def begin(self, pack: int, end: int) -> OwnPack:
        """The log appends to a pack from `end` on."""
        own = self._packs[pack] = OwnPack(end)
        return own

    def forget(self, pack: int) -> None:
        """It does no more: the pack is one as others."""
        self._packs.pop(pack, None)

    def get(self, pack: int) -> OwnPack | None:
        """What is handed over of a pack; None for packs of others."""
        return self._packs.get(pack)
