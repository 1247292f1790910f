"""What a process sees of the archive now: the last commit of the index, and what the log holds past it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import tantivy

from fastarchive.dicom.attributes import Level
from fastarchive.dicom.rejection import KEY_OBJECT_SELECTION
from fastarchive.index.disagreements import DISAGREEMENT
from fastarchive.index.documents import Document
from fastarchive.index.packs import RecordReader
from fastarchive.index.snapshot import Snapshot
from fastarchive.index.stored import Stores
from fastarchive.index.tail import Tail
from fastarchive.index.view import View
from fastarchive.index.writer import INDEX
from fastarchive.store.appends import OwnPacks
from fastarchive.store.follow import Follower
from fastarchive.store.pack import list_packs
from fastarchive.store.record import Location, Record

__all__ = ["Index", "InstanceEntry", "NotNow"]

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


class Index:
    """The reader of one process on the data directory `directory`; thread-safe.

    It needs no writer to be right, only to be fast: what no commit covers is held in memory as the tail. A record comes
    there when somebody asks for its instance by the UID, or for more than an instance.

    Whoever finds a new commit opens it, and all others wait for that. With `renewed_apart` only the first one is found
    so: after that a thread with nothing else to do calls :meth:`renew`.
    """

    def __init__(
        self, directory: Path, *, mirror: Path | None = None, own: OwnPacks | None = None, renewed_apart: bool = False
    ) -> None:
        """What can't be read in `directory` is read from `mirror`, a data directory with copies of the packs; what the
        log of this process appends comes through `own`."""
        self._directory = directory
        self._mirror = mirror
        self._path = directory / INDEX
        self._meta = self._path / "meta.json"
        self.renewed_apart: Final = renewed_apart
        self._lock = threading.Lock()
        self._renewing = threading.Lock()
        """Held while a commit is opened; taken before the other."""
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
        self._follower = Follower(
            directory, self._snapshot.positions, mirror=mirror, own=own or OwnPacks(), noted=KEY_OBJECT_SELECTION
        )
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
            self._go_on_if_due()
            if self._tail.may_reject or not self._follower.lacks(sop_instance):
                self._read_on()
            return self._find(sop_instance)

    def locate_promptly(self, sop_instance: str) -> InstanceEntry | None:
        """As :meth:`locate`, for whoever can't wait. Raises NotNow, too: when another thread has the index, a commit is
        to be opened, or much of the log is to be read."""
        if not self._lock.acquire(blocking=False):
            raise NotNow
        try:
            if self._tail.may_reject or not self._refresh_promptly(sop_instance):
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
            self._go_on_if_due()
            unread = self._follower.unread()
            if unread is None:
                self._read_on()
            return len(self._tail.records) + (unread or 0)

    def disagreements(self) -> int:
        """Studies whose instances disagree about the study or its patient, as of the last commit that was opened."""
        return self._snapshot.number_of_notes(DISAGREEMENT)

    def renew(self) -> bool:
        """Go on from a commit that is new, so that others find it opened; whether there was one. Raises OSError.

        What the log holds past it is taken in, and merged if it was before, while they go on with what there is: they
        are held up by the change alone.
        """
        with self._renewing:
            with self._lock:
                if self._stamp is None:
                    self._look_for_commit()
                    return self._stamp is not None
                before = self._tail
                seen = len(before.records)
            stamp = self._committed()
            if stamp is None or stamp == self._stamp:
                return False
            snapshot = self._opened()
            if snapshot is None:
                return False
            reader = RecordReader(self._directory, self._mirror)
            tail = Tail(snapshot, reader)
            tail.add(_beyond(before.records[:seen], snapshot))
            if before.is_merged:
                tail.changes()
            with self._lock:
                return self._go_on(stamp, snapshot, reader, tail, seen)

    def close(self) -> None:
        """Let go of files; views handed out before stay usable."""
        with self._lock:
            self._follower.close()
            self._reader.close()

    def _refresh_promptly(self, sop_instance: str) -> bool:
        """Whether all that is durable and tells of an instance is known now; takes no more than a moment."""
        if self._opens_commits:
            now = time.monotonic()
            if now >= self._look_at:  # the tail tells all that a commit since then would
                self._look_at = now + _LOOK_SECONDS
                if self._committed() != self._stamp:
                    self._look_at = 0.0
                    return False
        if self._follower.lacks(sop_instance):
            return True
        records = self._follower.poll(_PROMPT_LIMIT)
        if records:
            self._tail.add(records)
            self._view = None
        return len(records) < _PROMPT_LIMIT and not self._tail.may_reject

    def _committed(self) -> _Stamp | None:
        """What tells one commit of the index from another; None when there is none."""
        try:
            status = self._meta.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_dev

    @property
    def _opens_commits(self) -> bool:
        """Whether it is for whoever stores or asks to open the next commit."""
        return not self.renewed_apart or self._stamp is None

    def _refresh(self) -> None:
        self._go_on_if_due()
        self._read_on()

    def _go_on_if_due(self) -> None:
        if self._opens_commits:
            self._look_for_commit()

    def _read_on(self) -> None:
        poll = self._follower.poll
        while records := poll(_POLL_LIMIT):
            self._tail.add(records)
            self._view = None
            if len(records) < _POLL_LIMIT:
                break

    def _look_for_commit(self) -> None:
        """Go on from the commit that is there now, if it is a new one, usable, and no step back."""
        stamp = self._committed()
        if stamp is None:
            self._stamp = None
        elif stamp != self._stamp:
            snapshot = self._opened()
            if snapshot is not None:
                reader = RecordReader(self._directory, self._mirror)
                self._go_on(stamp, snapshot, reader, Tail(snapshot, reader), 0)

    def _go_on(self, stamp: _Stamp, snapshot: Snapshot, reader: RecordReader, tail: Tail, seen: int) -> bool:
        """Go on from a commit, unless that is a step back; whether it wasn't. With the lock.

        tail: what lies beyond it of the first `seen` records beyond the commit before; it reads with `reader`.
        """
        self._stamp = stamp
        if self._made_anew:  # wait until it has caught up
            # It never read the packs that were compacted away before it was made.
            present = set(list_packs(self._directory))
            if not snapshot.positions.covers_all(self._snapshot.positions, present):
                reader.close()
                return False
            self._made_anew = False
        self._follower.skip(snapshot.positions)
        tail.add(_beyond(self._tail.records[seen:], snapshot))
        self._reader.close()
        self._reader, self._snapshot, self._tail, self._view = reader, snapshot, tail, None
        return True

    def _opened(self) -> Snapshot | None:
        """The commit that is there now; None if it can't be used, or was found unusable a moment ago."""
        if time.monotonic() < self._retry_at:
            return None
        inode = self._inode
        try:
            snapshot = self._open()
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # a panic of Tantivy is a BaseException
            # Being made anew, or of another version: the log tells everything meanwhile.
            _log.info("no usable index: %s", error)
            self._index = None
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            return None
        if self._inode != inode:
            self._made_anew = True
        return snapshot

    def _open(self) -> Snapshot:
        """The directory of the index may have been replaced since the last look."""
        directory = self._path.stat().st_ino
        if self._index is None or directory != self._inode:
            self._index = tantivy.Index.open(str(self._path))
            self._inode = directory
        meta = self._meta.read_bytes()
        self._index.reload()
        searcher = self._index.searcher()
        # The list of segments is the searcher's if it was the same before and after.
        same = meta == self._meta.read_bytes()
        stores = Stores(self._path, meta, self._snapshot.stores) if same else None
        return Snapshot(searcher, self._snapshot, stores=stores)


def _beyond(records: Iterable[tuple[Location, Record]], snapshot: Snapshot) -> list[tuple[Location, Record]]:
    """Those of them that a commit doesn't cover."""
    covers = snapshot.positions.covers
    return [entry for entry in records if not covers(entry[0])]
