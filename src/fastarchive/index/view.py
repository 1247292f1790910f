"""What a process sees of the archive: the last commit of the index, and what the log holds past it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import tantivy

from fastarchive.dicom.attributes import Level
from fastarchive.index.conditions import Condition
from fastarchive.index.disagreements import DISAGREEMENT, decode_tags
from fastarchive.index.documents import KEY_SEPARATOR, Document, Order
from fastarchive.index.notes import NO_NOTES, QUARANTINE, Notes, Quarantined, in_quarantine
from fastarchive.index.packs import RecordReader
from fastarchive.index.rejections import REJECTING, RejectionNote, rejection_notes
from fastarchive.index.snapshot import Snapshot
from fastarchive.index.stored import Stores
from fastarchive.index.tail import NO_TOMBSTONES, Changes, Tail
from fastarchive.index.tombstones import is_deleted
from fastarchive.index.writer import INDEX
from fastarchive.store.appends import OwnPacks
from fastarchive.store.follow import Follower
from fastarchive.store.pack import list_packs
from fastarchive.store.record import Location

_POLL_LIMIT: Final = 4096
_PROMPT_LIMIT: Final = 64
"""Records that are read in a moment: about 2 ms."""
_RETRY_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 0.05
_log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]


class NotNow(Exception):
    """To answer takes more than a moment."""


class InstanceEntry(NamedTuple):
    """What is known of an instance, enough to answer a C-STORE of it or to read it."""

    location: Location
    digest: bytes
    transfer_syntax: str
    sop_class: str
    study: str
    series: str
    received: int
    """Nanoseconds since the epoch."""


class View:
    """One moment of the archive; immutable, usable from any thread."""

    def __init__(
        self,
        snapshot: Snapshot,
        changes: Changes,
        tail_length: int,
        tombstones: Mapping[str, Order] = NO_TOMBSTONES,
        notes: Notes = NO_NOTES,
    ) -> None:
        self._snapshot = snapshot
        self._notes = notes
        self._changes = changes
        self._tombstones = (tombstones, snapshot.tombstones)
        self.tail_length = tail_length
        """Records the log holds past the commit this view is based on."""

    def get(self, level: Level, key: str) -> Document | None:
        """The entity with this key (:attr:`Document.key`). A series may be named by its UID alone."""
        if level is Level.SERIES and KEY_SEPARATOR not in key:
            return next(iter(self.get_many(level, (key,))), None)
        changed = self._changes[level]
        return changed[key] if key in changed else self._snapshot.get(level, key)

    def is_deleted(self, order: Order, study: str, series: str, instance: str) -> bool:
        """Whether a deletion names a record of that order and these UIDs."""
        return any(is_deleted(each, order, study, series, instance) for each in self._tombstones if each)

    def quarantined(self, instance: str | None = None) -> list[Quarantined]:
        """The data sets in quarantine: those of the instance with a UID, or all, in the order they were received."""
        if instance is not None:
            note = self._notes.get((QUARANTINE, instance)) or self._snapshot.note(QUARANTINE, instance)
            return [] if note is None else in_quarantine(note, self.is_deleted)
        notes = self._snapshot.notes(QUARANTINE)
        notes |= {name: note for (kind, name), note in self._notes.items() if kind == QUARANTINE}
        return sorted(one for note in notes.values() for one in in_quarantine(note, self.is_deleted))

    def rejection_notes(self) -> list[RejectionNote]:
        """The rejection notes in force, oldest first."""
        notes = self._snapshot.notes(REJECTING)
        notes |= {name: note for (kind, name), note in self._notes.items() if kind == REJECTING}
        return rejection_notes(notes)

    def disagreements(self) -> dict[str, frozenset[int]]:
        """Studies whose instances disagree about the study or its patient, and in which attributes (tags)."""
        notes = self._snapshot.notes(DISAGREEMENT)
        notes |= {name: note for (kind, name), note in self._notes.items() if kind == DISAGREEMENT}
        return {study: decode_tags(note) for study, note in sorted(notes.items()) if note}

    def number_of_disagreements(self) -> int:
        """How many studies those are; cheap."""
        number = self._snapshot.number_of_notes(DISAGREEMENT)
        for (kind, name), note in self._notes.items():
            if kind == DISAGREEMENT:
                number += bool(note) - bool(self._snapshot.note(kind, name))
        return number

    def get_many(self, level: Level, keys: Iterable[str]) -> list[Document]:
        """The entities with these keys, each once, in no particular order.

        A series may be named by its key (its UID within its study) or by its UID alone, which gives every one with it.
        """
        changed = self._changes[level]
        wanted = set(keys)
        found: dict[str, Document] = {}
        if level is Level.SERIES and (uids := {key for key in wanted if KEY_SEPARATOR not in key}):
            wanted -= uids
            for document in self._snapshot.series_with_uids(uids):
                if document.key not in changed:
                    found[document.key] = document
            for now in changed.values():
                if now is not None and now.series in uids:
                    found[now.key] = now
        for key in wanted & changed.keys():
            now = changed[key]
            if now is not None:
                found[key] = now
        for document in self._snapshot.get_many(level, wanted - changed.keys()):
            found[document.key] = document
        return list(found.values())

    def tail_documents(self, level: Level) -> list[Document]:
        """Entities the tail touches, as they are now, the index's part included; none of them comes from pages()."""
        return [document for document in self._changes[level].values() if document is not None]

    def pages(
        self, level: Level, condition: Condition, *, first_page: int = 25, page_size: int = 1000
    ) -> Iterator[list[Document]]:
        """Entities of the index that meet `condition`, perhaps some that don't; without those of tail_documents().

        The first page is about `first_page` long, later ones about `page_size`; none is empty.
        """
        return self._snapshot.pages(level, condition, self._changes[level].keys(), first_page, page_size)

    def estimate(self, level: Level, condition: Condition, *, counted: bool = True) -> int:
        """About how many documents pages() gives, seldom too low and never 0 when there is one; cheap, cheaper when
        what lies in a range need not be counted and is taken for everything."""
        return self._snapshot.estimate(level, condition, counted=counted)

    def counts(self) -> dict[Level, int]:
        """How many entities there are of each level."""
        counts = self._snapshot.counts()
        for level, changed in self._changes.items():
            for key, document in changed.items():
                if document is None:
                    counts[level] -= self._snapshot.get(level, key) is not None
                elif not document.rowid:
                    counts[level] += 1
        return counts


class Index:
    """The reader of one process on the data directory `directory`; thread-safe.

    It needs no writer to be right, only to be fast: what no commit covers is held in memory as the tail.
    """

    def __init__(self, directory: Path, *, mirror: Path | None = None, own: OwnPacks | None = None) -> None:
        """What can't be read in `directory` is read from `mirror`, a data directory with copies of the packs; what the
        log of this process appends comes through `own`."""
        self._directory = directory
        self._mirror = mirror
        self._own = own or OwnPacks()
        self._path = directory / INDEX
        self._meta = str(self._path / "meta.json")
        self._lock = threading.Lock()
        self._reader = RecordReader(directory, mirror)
        self._index: tantivy.Index | None = None
        self._inode = 0
        self._made_anew = False
        """Whether the index is another than the one the snapshot is of."""
        self._stamp: _Stamp | None = None
        self._look_at = 0.0
        """When locate_promptly() looks for a commit again."""
        self._retry_at = 0.0
        self._snapshot = Snapshot(None)
        self._follower = Follower(directory, self._snapshot.positions, mirror=mirror, own=self._own)
        self._tail = Tail(self._snapshot, self._reader)
        self._view: View | None = None

    def view(self) -> View:
        """The archive as it is now: everything that is durable at the time of the call. Raises OSError."""
        with self._lock:
            self._refresh()
            view = self._view
            if view is None:
                tail = self._tail
                view = self._view = View(
                    self._snapshot, tail.changes(), len(tail.records), tail.tombstones, tail.notes()
                )
            return view

    def locate(self, sop_instance: str) -> InstanceEntry | None:
        """The instance with this UID, if the archive has it now. Raises OSError."""
        with self._lock:
            self._refresh()
            return self._find(sop_instance)

    def locate_promptly(self, sop_instance: str) -> InstanceEntry | None:
        """As :meth:`locate`, for whoever can't wait. Raises NotNow, too: when another thread has the index, a commit is
        to be opened, or much of the log is to be read."""
        if not self._lock.acquire(blocking=False):
            raise NotNow
        try:
            if self._tail.may_reject or not self._refresh_promptly():
                raise NotNow
            return self._find(sop_instance)
        finally:
            self._lock.release()

    def _find(self, sop_instance: str) -> InstanceEntry | None:
        found = self._tail.find(sop_instance)
        if found is None:
            return None
        location, known = found
        return InstanceEntry(
            location,
            known.digest,
            known.transfer_syntax,
            known.sop_class,
            known.study,
            known.series,
            known.received,
        )

    def rejected(self, sop_instance: str) -> tuple[Document, str] | None:
        """An instance that a rejection note hides, and the note's code; None for all others. Raises OSError."""
        if not self._tail.may_reject:  # as of the last look, which is that for the instance itself
            return None
        with self._lock:
            self._refresh()
            return self._tail.rejected(sop_instance)

    def moved(self, pack: int, offset: int) -> Location | None:
        """Where the record is that was first written at that offset of that pack, if compaction has moved it since and
        it is an instance of the archive. Raises OSError."""
        with self._lock:
            self._refresh()
            for document in self._tail.changes()[Level.IMAGE].values():
                if document is not None and document.origin == (pack, offset):
                    return document.location
            found = self._snapshot.moved(pack, offset)
        return None if found is None else found.location

    def has_committed(self, location: Location) -> bool:
        """Whether the last commit of the index covers the record at `location`. Raises OSError."""
        with self._lock:
            self._refresh()
            return self._snapshot.positions.covers(location)

    def tail_length(self) -> int:
        """Records past the last commit, as of now. Raises OSError."""
        with self._lock:
            self._refresh()
            return len(self._tail.records)

    def close(self) -> None:
        """Let go of files; views handed out before stay usable."""
        with self._lock:
            self._follower.close()
            self._reader.close()

    def _refresh_promptly(self) -> bool:
        """Whether everything that is durable is known now, and no more than a moment was spent on it."""
        now = time.monotonic()
        if now >= self._look_at:  # the tail tells all that a commit since then would
            self._look_at = now + _LOOK_SECONDS
            if self._committed() != self._stamp:
                self._look_at = 0.0
                return False
        records = self._follower.poll(_PROMPT_LIMIT)
        if records:
            self._tail.add(records)
            self._view = None
        return len(records) < _PROMPT_LIMIT and not self._tail.may_reject

    def _committed(self) -> _Stamp | None:
        """What tells one commit of the index from another; None when there is none."""
        try:
            status = os.stat(self._meta)  # noqa: PTH116  # on the way of every C-STORE
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_dev

    def _refresh(self) -> None:
        stamp = self._committed()
        if stamp != self._stamp and time.monotonic() >= self._retry_at:
            self._reload(stamp)
        poll = self._follower.poll
        while records := poll(_POLL_LIMIT):
            self._tail.add(records)
            self._view = None
            if len(records) < _POLL_LIMIT:
                break

    def _reload(self, stamp: _Stamp | None) -> None:
        """Go on from the commit that is there now, if it is usable and no step back."""
        inode = self._inode
        try:
            snapshot = self._opened() if stamp is not None else None
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # a panic of Tantivy is a BaseException
            # Being made anew, or of another version: the log tells everything meanwhile.
            _log.info("no usable index: %s", error)
            self._index = None
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            return
        self._stamp = stamp
        if snapshot is None:
            return
        if self._inode != inode:
            self._made_anew = True
        if self._made_anew:  # wait until it has caught up
            # It never read the packs that were compacted away before it was made.
            present = set(list_packs(self._directory))
            if not snapshot.positions.covers_all(self._snapshot.positions, present):
                return
            self._made_anew = False
        read = self._follower.positions
        if read.covers_all(snapshot.positions):
            records = [entry for entry in self._tail.records if not snapshot.positions.covers(entry[0])]
        else:
            self._follower.close()
            self._follower = Follower(self._directory, snapshot.positions, mirror=self._mirror, own=self._own)
            records = []
        self._reader.forget_removed()
        self._snapshot = snapshot
        self._tail = Tail(snapshot, self._reader)
        self._tail.add(records)
        self._view = None

    def _opened(self) -> Snapshot:
        """The commit that is there now; the directory itself may have been replaced since the last look."""
        directory = self._path.stat().st_ino
        if self._index is None or directory != self._inode:
            self._index = tantivy.Index.open(str(self._path))
            self._inode = directory
        meta = (self._path / "meta.json").read_bytes()
        self._index.reload()
        searcher = self._index.searcher()
        # The list of segments is the searcher's if it was the same before and after.
        same = meta == (self._path / "meta.json").read_bytes()
        stores = Stores(self._path, meta, self._snapshot.stores) if same else None
        return Snapshot(searcher, self._snapshot, stores=stores)
