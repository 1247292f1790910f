"""Following the log: the durable records of all packs of all processes, each once, from a position on."""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fastarchive.native.scout import Answer, Scout, scout
from fastarchive.store.appends import OwnPack, OwnPacks
from fastarchive.store.glimpse import glimpse
from fastarchive.store.pack import (
    PACKS,
    PAGE,
    PackError,
    State,
    decode_identity,
    find_record,
    list_packs,
    pack_path,
    read_record,
    read_state,
    read_table,
)
from fastarchive.store.positions import Positions
from fastarchive.store.record import Extent, Location, Record, TornRecord, decode_record
from fastarchive.store.recovery import Damage

__all__ = ["Follower", "Positions"]

# A directory's time stamp moves in steps of some milliseconds: a change soon after a look may not show in it.
_SETTLED_NANOSECONDS = 50_000_000
_LOOKS = 8
_LACKS, _FULL, _CHANGED = int(Answer.LACKS), int(Answer.FULL), int(Answer.CHANGED)


@dataclass(slots=True)
class _Followed:
    """A pack not yet read to its end."""

    position: int
    fd: int = -1
    second: int = -1
    """Its copy in the mirror, opened when something here can't be read."""

    def close(self) -> None:
        for fd in (self.fd, self.second):
            if fd >= 0:
                os.close(fd)
        self.fd = self.second = -1


class Follower:
    """Reads records in pack order, metadata only. For one thread at a time; other processes may append meanwhile.

    Within a pack records come in the order they were appended; between packs there is no order in time.
    """

    def __init__(
        self,
        directory: Path,
        positions: Positions | None = None,
        *,
        mirror: Path | None = None,
        own: OwnPacks | None = None,
        noted: str | None = None,
    ) -> None:
        """Follow the packs of the data directory `directory` from `positions` (by default from the beginning).

        What can't be read there is read from `mirror`, a data directory with copies of the packs. What the log of this
        process appends is taken from `own`; records are decoded as far as they are asked for then. noted: for
        :meth:`lacks`, a SOP class whose records may tell of other instances.
        """
        positions = Positions() if positions is None else positions
        self.damaged: list[Damage] = []
        """Damage passed over so far; the records in it can't be named."""
        self.unreadable: dict[int, str] = {}
        """Packs that can't be read, and why. They hold the horizon back and are tried again at each poll."""
        self._directory = directory
        self._packs = str(directory / PACKS)
        self._own = own
        self._decode = decode_record if own is None else glimpse
        self._mirror = mirror
        self._horizon = positions.horizon
        self._followed: dict[int, _Followed] = {pack: _Followed(offset) for pack, offset in positions.items()}
        self._complete: dict[int, int] = {}
        """Packs beyond the horizon read to their end, and that end."""
        self._seen: list[int] = []
        """Packs beyond the horizon, ascending, as of the last look at the directory."""
        self._settled = 0
        """No pack with an id up to this one can appear any more."""
        self._listed_at: int | None = None
        """When the directory had changed last at the last look; None when it may have changed since in that moment."""
        self._changed = 0
        """The same, but told in any case."""
        self._kept: Positions | None = positions
        self._scout = None if noted is None else scout(self._packs, noted)
        self._sent: set[int] | None = None
        """The packs that the scout looks at, from what was returned so far on; None: it would have to begin anew."""

    @property
    def positions(self) -> Positions:
        """How far everything returned so far reaches."""
        if self._kept is None:
            offsets = {pack: followed.position for pack, followed in self._followed.items() if followed.position}
            self._kept = Positions(offsets | self._complete, self._horizon)
        return self._kept

    def poll(self, limit: int) -> list[tuple[Location, Record]]:
        """Up to `limit` durable records not returned before; fewer mean there are no more right now.

        Raises OSError when the directory or a pack can't be read.
        """
        self._sent = None
        self._look()
        found: list[tuple[Location, Record]] = []
        finished = False
        for _ in range(_LOOKS):
            vanished = False
            for pack in self._seen:
                if len(found) >= limit:
                    break
                followed = self._followed.get(pack)
                if followed is not None:
                    try:
                        finished |= self._read(pack, followed, limit, found)
                    except FileNotFoundError:
                        vanished = True
            if not vanished:
                break
            # Compacted away since the look: what was alive in it is in a pack that appeared before it went.
            self._listed_at = None
            self._look()
        if finished:
            self._raise_horizon()
        return found

    def lacks(self, instance: str) -> bool:
        """Whether none of the durable records that were not returned yet is of this instance, or could tell anything
        else of it, as far as that is found out in a moment and without reading them; only True says something."""
        scout = self._scout
        if scout is None or ((self._sent is None or self._listed_at is None) and not self._send(scout)):
            return False
        answer = scout.ask(instance)
        if answer == _CHANGED and self._send(scout):
            answer = scout.ask(instance)
        if answer == _FULL:
            self._sent = None
            if self._send(scout):
                answer = scout.ask(instance)
        return answer == _LACKS

    def unread(self) -> int | None:
        """How many durable records were not returned yet; None if that isn't found out in a moment."""
        scout = self._scout
        return scout.records if scout is not None and self.lacks("") else None

    def skip(self, positions: Positions) -> None:
        """Take what `positions` cover for returned."""
        for pack, offset in positions.items():
            followed = self._followed.get(pack)
            if followed is not None:
                followed.position = max(followed.position, offset)
                own = None if self._own is None else self._own.get(pack)
                if own is not None:
                    own.forget(offset)
            elif pack > self._horizon and pack not in self._complete:
                self._followed[pack] = _Followed(offset)
                self._listed_at = None  # it may be gone already
        if positions.horizon > self._horizon:
            self._horizon = positions.horizon
            for pack in [pack for pack in self._followed if pack <= self._horizon]:
                self._followed.pop(pack).close()
            self._complete = {pack: end for pack, end in self._complete.items() if pack > self._horizon}
            self._seen = [pack for pack in self._seen if pack > self._horizon]
        self._sent = None
        self._kept = None

    def close(self) -> None:
        """Close the packs held open; may be called twice. A later poll opens them again."""
        self._sent = None
        for followed in self._followed.values():
            followed.close()

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, scout: Scout) -> bool:
        """Have the scout look at the packs there are now, those it knows from where it is; whether it can."""
        sent, self._sent = self._sent, None
        try:
            self._look()
            if sent is None or not sent <= self._followed.keys():
                sent = set()
                scout.begin(self._changed)
            for pack, followed in list(self._followed.items()):
                if pack in sent:
                    continue
                if followed.fd < 0 and not self._open(pack, followed):
                    return False
                position = max(followed.position, PAGE)
                if self._end_if_over(pack, followed, position, read_state(followed.fd)):
                    self._raise_horizon()
                elif not scout.add(followed.fd, position):
                    return False
        except OSError:  # for poll() to tell
            return False
        scout.go_on(self._changed)
        self._sent = set(self._followed)
        return True

    def _look(self) -> None:
        """List the directory if it changed since the last look."""
        try:
            changed = os.stat(self._packs).st_mtime_ns  # noqa: PTH116 - on every query's way
        except FileNotFoundError:
            return
        if changed == self._listed_at:
            return
        self._changed = changed
        # Packs appear in the order of their ids. A list made while nothing changed misses none up to its greatest.
        settled = time.time_ns() - changed >= _SETTLED_NANOSECONDS
        self._seen = list_packs(self._directory, self._horizon)
        for pack in self._seen:
            if pack not in self._complete and pack not in self._followed:
                self._followed[pack] = _Followed(0)
        present = set(self._seen)
        for pack in [pack for pack in self._followed if pack not in present]:
            followed = self._followed.pop(pack)
            followed.close()
            if followed.position > PAGE:  # compacted away, and what wasn't read of it is read where it is now
                self._complete[pack] = followed.position
            self._kept = None
        if settled and os.stat(self._packs).st_mtime_ns == changed:  # noqa: PTH116
            self._listed_at = changed
            self._settled = self._seen[-1] if self._seen else self._settled
            self._raise_horizon()
        else:
            self._listed_at = None

    def _read(self, pack: int, followed: _Followed, limit: int, found: list[tuple[Location, Record]]) -> bool:
        """Read on in one pack; whether it is read to its sealed end now."""
        own = None if self._own is None else self._own.get(pack)
        if own is not None and self._take(pack, own, followed, limit, found):
            return False
        if followed.fd < 0 and not self._open(pack, followed):
            return False
        fd = followed.fd
        state = read_state(fd)
        position = max(followed.position, PAGE)
        end = state.end
        while position < end and len(found) < limit:
            try:
                record, extent = self._read_record(pack, followed, position, end)
            except TornRecord:
                following = self._after_damage(fd, position, end)
                self.damaged.append(Damage(pack, position, following))
                position = following
                continue
            found.append((Location(pack, position, extent.total), record))
            position += extent.total
        if position != followed.position:
            followed.position = position
            self._kept = None
        return self._end_if_over(pack, followed, position, state)

    def _end_if_over(self, pack: int, followed: _Followed, position: int, state: State) -> bool:
        """Let go of a pack read to its sealed end, though those below it may stay open for ever; whether it is."""
        if state.seal is None or position < state.end:
            return False
        followed.close()
        del self._followed[pack]
        self._complete[pack] = position
        self._kept = None
        return True

    def _take(
        self, pack: int, own: OwnPack, followed: _Followed, limit: int, found: list[tuple[Location, Record]]
    ) -> bool:
        """Go on with what was handed over of a pack; False where that doesn't go on from what was read."""
        end = own.end  # before the entries: there may be more of them, never fewer
        position = start = max(followed.position, PAGE)
        entries = own.entries
        while position < end and len(found) < limit:
            try:
                offset, size, record = entries[0]
            except IndexError:
                break
            if offset > position:
                break
            entries.popleft()
            if offset == position:
                found.append((Location(pack, offset, size), record))
                position += size
        if position != start:
            followed.position = position
            self._kept = None
        return position >= end or len(found) >= limit

    def _read_record(self, pack: int, followed: _Followed, position: int, end: int) -> tuple[Record, Extent]:
        """A record, from the mirror's copy if it is damaged here. Raises TornRecord, OSError."""
        try:
            return read_record(followed.fd, position, end, self._decode)
        except (TornRecord, OSError):
            if self._mirror is None:
                raise
            with suppress(OSError, TornRecord):
                if followed.second < 0:
                    followed.second = os.open(pack_path(self._mirror, pack), os.O_RDONLY | os.O_CLOEXEC)
                return read_record(followed.second, position, end, self._decode)
            raise

    def _open(self, pack: int, followed: _Followed) -> bool:
        """Open a pack, or its copy in the mirror where its header page is damaged; whether that could be done.

        Raises FileNotFoundError when the pack isn't there any more.
        """
        for copy in (self._directory, self._mirror):
            if copy is None:
                continue
            try:
                fd = os.open(pack_path(copy, pack), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                if copy == self._directory:
                    raise
                continue
            try:
                decode_identity(os.pread(fd, PAGE, 0))
            except PackError as error:
                self.unreadable.setdefault(pack, str(error))
                os.close(fd)
                continue
            self.unreadable.pop(pack, None)
            followed.fd = fd
            return True
        return False

    def _after_damage(self, fd: int, position: int, end: int) -> int:
        """Where to read on after something that isn't a record."""
        seal = read_state(fd).seal
        if seal is not None:
            table = read_table(fd, seal)
            if table:
                index = bisect_right(table, position)
                return table[index] if index < len(table) else end
        following = find_record(fd, position + 1, end)
        return end if following is None else following

    def _raise_horizon(self) -> None:
        """Let packs read to their end fall together, as long as nothing below them can still come."""
        raised = 0
        for pack in self._seen:
            if pack not in self._complete or pack > self._settled:
                break
            self._horizon = pack
            raised += 1
        if raised:
            self._complete = {pack: end for pack, end in self._complete.items() if pack > self._horizon}
            del self._seen[:raised]
            self._kept = None
