"""The one process that writes the index: it follows the log of every process and commits in batches.

The index is a view of the packs. Nothing is lost with it: an index that is missing, unreadable, of another version or
ahead of the packs is dropped and built anew. Each commit replaces the checkpoint in the same commit, so whatever the
moment of a crash, what the index holds and what it says it holds agree.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import tantivy

from fastarchive.index import schema
from fastarchive.index.changes import Changes, write_checkpoint
from fastarchive.index.ledger import Ledger
from fastarchive.index.packs import RecordReader, reaches_beyond
from fastarchive.index.snapshot import Checkpoint, Snapshot
from fastarchive.store.follow import Follower

INDEX: Final = "index"
_HEAP: Final = 128 * 1024 * 1024
_POLL_LIMIT: Final = 2000
_POLL_SECONDS: Final = 0.2
"""Between looks at the log. Nobody waits for a look: queries read what is new themselves."""
_COMMIT_SHARE: Final = 0.01
"""Of the time, for commits that bring few records: a commit costs tens of milliseconds, whatever is in it."""
_QUIET_SHARE: Final = 0.05
"""Of the time, for the commit after which nothing is left: what a burst brought is asked for next."""
_QUIET: Final = 0.4
"""Times `commit_seconds` without a new record: the burst is over."""
_LONGEST_COMMIT_WAIT: Final = 4.0
"""Times `commit_seconds`."""
_WORTH_A_COMMIT: Final = 3000
"""Records: a longer tail costs every query more than commits cost, and memory in every worker."""
_RETRY_SECONDS: Final = 1.0
_log = logging.getLogger(__name__)


class IndexBusy(Exception):
    """Another process writes this index."""


class IndexWriter:
    """The writer of the index of the data directory `directory`. One thread at a time.

    Commits when `commit_records` records wait or `commit_seconds` after the first of them, whichever comes first; when
    records are too few to be worth the processor time of a commit, up to four times as long after; sooner when no more
    come. What is merged is handed to Tantivy at once where it can be, so that a commit is short.
    Records damaged in `directory` are read from `mirror`. Raises IndexBusy if another writer is at work.
    """

    def __init__(
        self,
        directory: Path,
        *,
        commit_records: int = 10_000,
        commit_seconds: float = 1.0,
        mirror: Path | None = None,
    ) -> None:
        self._directory = directory
        self._path = directory / INDEX
        self._commit_records, self._commit_seconds = commit_records, commit_seconds
        self._lock = _lock(directory)
        self._mirror = mirror
        self._reader = RecordReader(directory, mirror)
        self._waiting = 0
        self._since = self._latest = 0.0
        self._commit_cost = 0.0
        self._failed = False
        self._index: tantivy.Index
        self._writer: tantivy.IndexWriter
        self._snapshot: Snapshot
        self._ledger: Ledger
        self._changes: Changes
        self._follower: Follower
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    @property
    def waiting(self) -> int:
        """Records merged but not committed."""
        return self._waiting

    @property
    def snapshot(self) -> Snapshot:
        """The last commit."""
        return self._snapshot

    def step(self) -> int:
        """Merge some more of the log and commit when it is time; how many records were merged.

        Raises OSError or ValueError when the index can't be written; :meth:`reopen` then goes back to the last commit.
        """
        batch = self._follower.poll(_POLL_LIMIT)
        if batch:
            self._latest = time.monotonic()
            if not self._waiting:
                self._since = self._latest
            self._ledger.apply(batch)
            self._changes.put_instances()
            self._waiting += len(batch)
        if self._waiting and self._is_due():
            self.commit()
        return len(batch)

    def _is_due(self) -> bool:
        now = time.monotonic()
        waited = now - self._since
        if self._waiting >= self._commit_records:
            return True
        if self._waiting >= _WORTH_A_COMMIT:
            return waited >= self._commit_seconds
        if now - self._latest >= _QUIET * self._commit_seconds and waited >= self._commit_cost / _QUIET_SHARE:
            return True
        affordable = min(self._commit_cost / _COMMIT_SHARE, self._commit_seconds * _LONGEST_COMMIT_WAIT)
        return waited >= max(self._commit_seconds, affordable)

    def commit(self) -> None:
        """Commit what waits, if anything does."""
        if not self._waiting:
            return
        started = time.process_time()
        writer, ledger, snapshot = self._writer, self._ledger, self._snapshot
        self._changes.finish()
        deletions = snapshot.checkpoint.deletions + len(ledger.overlay.tombstones)
        write_checkpoint(
            writer, Checkpoint(schema.SCHEMA_VERSION, self._changes.next_rowid, deletions, self._follower.positions)
        )
        writer.commit()
        self._index.reload()
        self._snapshot = Snapshot(self._index.searcher(), snapshot)
        ledger.rebase(self._snapshot)
        self._changes = self._fresh_changes()
        self._reader.forget_removed()
        self._waiting = 0
        self._commit_cost = time.process_time() - started

    def run(self, stop: threading.Event, *, keeping_up: Callable[[bool], object] = lambda _keeping_up: None) -> None:
        """Follow the log until `stop` is set, then commit all that is durable. Goes on after errors of the disk.

        keeping_up: told after each look at the log whether nothing more is there, and no great commit to come.
        """
        pause = min(_POLL_SECONDS, self._commit_seconds / 5)
        while not stop.is_set():
            try:
                if self._failed:
                    self.reopen()
                everything = self.step() < _POLL_LIMIT
                keeping_up(everything and self._waiting < _WORTH_A_COMMIT)
                if everything:
                    stop.wait(pause)
            except (OSError, ValueError):
                _log.exception("the index can't be written; going back to its last commit")
                self._failed = True
            if self._failed:  # not while the exception keeps Tantivy's writer, and with it its lock, alive
                stop.wait(_RETRY_SECONDS)
        if not self._failed:
            try:
                self.finish()
            except (OSError, ValueError):
                _log.exception("the index can't be written; the rest is merged at the next start")

    def finish(self) -> None:
        """Merge what is durable now, and commit it. Raises as :meth:`step`."""
        while self.step() == _POLL_LIMIT:
            pass
        self.commit()

    def reopen(self) -> None:
        """Go back to the last commit. Raises OSError or ValueError when that can't be done now; may be tried again."""
        self._release()
        self._open()
        self._failed = False

    def close(self) -> None:
        """Let go of the index; what was not committed is merged again next time."""
        self._release()
        self._reader.close()
        os.close(self._lock)
        self._lock = -1

    def _release(self) -> None:
        # Tantivy's own lock goes with its writer.
        if "_follower" in self.__dict__:
            self._follower.close()
        for name in ("_changes", "_writer", "_ledger", "_snapshot", "_index", "_follower"):
            self.__dict__.pop(name, None)

    def _open(self) -> None:
        self._waiting = 0
        unusable = self._load()
        if unusable is not None:
            self._make(unusable)
            if (unusable := self._load()) is not None:
                raise ValueError(f"the index just made is unusable: {unusable}")
        self._ledger = Ledger(self._snapshot, self._reader)
        self._follower = Follower(self._directory, self._snapshot.positions, mirror=self._mirror)
        self._writer = self._index.writer(_HEAP, 1)
        self._changes = self._fresh_changes()

    def _fresh_changes(self) -> Changes:
        return Changes(self._writer, self._ledger.overlay, self._snapshot.checkpoint.next_rowid)

    def _load(self) -> str | None:
        """Open the index there is; why it is unusable, "" if there is none. Raises OSError."""
        if not self._path.exists():
            return ""
        if not (self._path / "meta.json").exists():
            return "its directory holds no index"
        try:
            self._index = tantivy.Index(schema.SCHEMA, path=str(self._path))
            schema.register_tokenizers(self._index)
            self._index.reload()
            self._snapshot = Snapshot(self._index.searcher())
        except (KeyboardInterrupt, SystemExit, MemoryError, OSError):
            raise
        except BaseException as error:  # a panic of Tantivy is a BaseException
            if "Lockfile" in str(error):  # it makes one to read: a disk that is full or read-only, not the index
                raise OSError(errno.EIO, "the index can't be locked") from error
            return str(error) or type(error).__name__
        beyond = reaches_beyond(self._snapshot.positions, self._directory)
        return None if beyond is None else f"it reaches beyond pack {beyond}"

    def _make(self, reason: str) -> None:
        """Put an empty index in the place of an unusable one."""
        self._release()
        if reason:
            _log.warning("the index is dropped and built anew from the packs: %s", reason)
            aside = self._path.with_name(f"{INDEX}.dropped-{time.time_ns()}")
            self._path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        # Made beside its place and renamed, so that readers never see half an index.
        fresh = self._path.with_name(f"{INDEX}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        tantivy.Index(schema.SCHEMA, path=str(fresh), reuse=False)
        fresh.rename(self._path)


def _lock(directory: Path) -> int:
    path = directory / "run" / "index.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise IndexBusy(f"{path} is held by another process") from error
    return fd
