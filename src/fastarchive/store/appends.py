"""Records on their way into the log, and who is told what became of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol

from fastarchive.store.encoding import EncodedRecord, Spool
from fastarchive.store.filters import Buffer
from fastarchive.store.record import Location, Record, RecordKind

__all__ = ["Append", "Landing", "OwnPack", "OwnPacks", "WholeRecord", "fail", "succeed"]

_MOST_HANDED: Final = 1024
"""Records of a pack kept for a follower; what it comes too late for it reads from the pack."""


@dataclass(slots=True)
class WholeRecord:
    """A small record ready for the pack, its blocks within `metadata`: as it lies there."""

    metadata: bytes
    size: int
    record: Record
    """What its metadata says."""
    buffers: Sequence[Buffer] = ()
    spool: Spool | None = None


class Landing(Protocol):
    """Told, in the committer thread, of all appends of a group that name it."""

    def __call__(self, tokens: list[Any], synced: float, error: Exception | None) -> None:
        """What these tokens stand for is durable, which took `synced` seconds; or it was not stored."""


@dataclass(slots=True)
class Append:
    """A record in the queue. It has a future, or a landing and a token."""

    encoded: EncodedRecord | WholeRecord
    queued: float
    future: Future[Location] | None = None
    landing: Landing | None = None
    token: Any = None

    @property
    def makes_room(self) -> bool:
        """Whether it may use the reserve of the disk."""
        return self.encoded.record.kind == RecordKind.DELETION


def succeed(appends: Sequence[Append], pack: int, offsets: Sequence[int], times: tuple[float, float, float]) -> None:
    """They are durable at these offsets of a pack. times: when the group was begun, written, and synced."""
    started, written, synced = times
    for append, offset in zip(appends, offsets, strict=True):
        encoded = append.encoded
        if append.future is None:
            continue
        if type(encoded) is EncodedRecord:
            timings = encoded.timings
            timings["queue"] = started - append.queued
            timings["write"] = written - started
            timings["sync"] = synced - written
        append.future.set_result(Location(pack, offset, encoded.size))
    _land(appends, synced - written, None)


def fail(appends: Sequence[Append], error: Exception) -> None:
    """They were not stored."""
    for append in appends:
        if append.future is not None:
            append.future.set_exception(type(error)(*error.args))
    _land(appends, 0.0, error)


def _land(appends: Sequence[Append], synced: float, error: Exception | None) -> None:
    landed: dict[Landing, list[Any]] = {}
    for append in appends:
        if append.landing is not None:
            landed.setdefault(append.landing, []).append(append.token)
    for landing, tokens in landed.items():
        landing(tokens, synced, error and type(error)(*error.args))


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

    def add(self, appends: Sequence[Append], offsets: Sequence[int], end: int) -> None:
        """Records that readers may see now."""
        for append, offset in zip(appends, offsets, strict=True):
            encoded = append.encoded
            self.entries.append((offset, encoded.size, encoded.record))
        self.end = end


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
