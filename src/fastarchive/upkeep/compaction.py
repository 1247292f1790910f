"""Compaction: packs with much dead space, and small ones, are rewritten, the instances of a series side by side.

What is promised and why it holds: ``docs/format.md``, "Compaction". In short: what is needed of some sealed packs is
copied into a new one, each record marked with where it was first, so that it keeps its place in the order of records.
When the new pack is sealed, read back, in the mirror and in the index, the old ones are removed. Killed anywhere, there
is a record too many, never one too few, and the next run removes what this one was about to.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from fastarchive.index.current import Index
from fastarchive.store.compacted import read_compacted, write_compacted
from fastarchive.store.damage import DamageList
from fastarchive.store.disk import DISK, Disk
from fastarchive.store.log import SEAL_SIZE
from fastarchive.store.mirror import catch_up, seal_of
from fastarchive.store.pack import PACKS, PAGE, list_packs, pack_path, removal_lock
from fastarchive.store.record import Location
from fastarchive.store.recovery import remove_unborn
from fastarchive.store.rewrite import DamagedSource, NewPack, Source, Unsealed, WrittenWrong, open_source
from fastarchive.store.scrub import Pacer, Stopped
from fastarchive.upkeep.compaction_plan import DEAD, Aims, Plan, make_plan
from fastarchive.upkeep.liveness import SETTLED_SECONDS, Kept, Unreadable, Use, distinct, examine

LEFT_FREE: Final = 16 << 20
"""Bytes of the disk that compaction never uses. It may use the rest of the reserve: it makes room."""
INDEX_SECONDS: Final = 60.0
"""How long the index may take to take in a new pack until the old ones are left to the next run."""
_RECORD_COST: Final = 16_384
"""Bytes that a record counts for when it is shown: it costs each process about as much as reading those."""
_MOST_UNINDEXED: Final = 3000
"""Records the index may be behind before more are shown: until it has them every process has them in memory."""
_POLL_SECONDS: Final = 0.05
_LOCK_SECONDS: Final = 1.0


class CompactionBusy(Exception):
    """Another process compacts this archive."""


class NotSecured(Exception):
    """A pack that replaces others isn't where it has to be before they may go: they stay until the next run."""


@dataclass(slots=True)
class CompactionReport:
    """What compaction did."""

    removed: list[int] = field(default_factory=list)
    """Packs that are gone."""
    written: list[int] = field(default_factory=list)
    """Packs that are new."""
    moved_records: int = 0
    moved_bytes: int = 0
    dead_records: int = 0
    freed_bytes: int = 0
    """By how much the packs became smaller; each copy of them."""
    left: dict[int, str] = field(default_factory=dict)
    """Packs left as they are this time, and why."""
    seconds: float = 0.0
    complete: bool = False
    """It came to its end; else it was stopped."""


class Compaction:
    """Compaction of one data directory. For one thread; others may store, find and retrieve meanwhile."""

    def __init__(
        self,
        directory: Path,
        index: Index,
        *,
        mirror: Path | None = None,
        seal_size: int = SEAL_SIZE,
        dead: float = DEAD,
        least_small: int = 2,
        rate: float | None = None,
        stop: threading.Event | None = None,
        progress: Callable[[int], object] = lambda _: None,
        settled_seconds: float = SETTLED_SECONDS,
        index_seconds: float = INDEX_SECONDS,
        disk: Disk = DISK,
    ) -> None:
        """`index` is any reader of the directory's index. `dead`: share of a pack that has to be dead. `least_small`:
        how many small packs there have to be before they are joined. `rate`: bytes a second read or written at most
        (None: as fast as it goes). `progress` is told of bytes, twice :attr:`Plan.moved_bytes` in all."""
        self._directory, self._index, self._mirror = directory, index, mirror
        self._copies = (directory,) if mirror is None else (directory, mirror)
        self._aims = Aims(seal_size, dead, least_small, settled_seconds)
        self._rate, self._stop = rate, stop or threading.Event()
        self._pace = Pacer(rate, self._stop, progress)
        self._index_seconds = self._patience = index_seconds
        self._disk = disk
        self._alike: set[int] = set()
        self.report = CompactionReport()

    def plan(self, advance: Callable[[int], object] = lambda _: None) -> Plan:
        """Which packs are to be rewritten. Nothing is changed. `advance` is told of instances looked at.

        Raises OSError, Stopped.
        """

        def looked_at(count: int) -> None:
            self._check_stopped()
            advance(count)

        return make_plan(self._copies, self._index, self._aims, looked_at)

    # ---------------------------------------------------------------- doing

    def run(self, plan: Plan | None = None) -> CompactionReport:
        """Carry a plan out, by default one made now. May be killed, or stopped, at any time and run again.

        Raises CompactionBusy, OSError; a full disk only ends up in the report.
        """
        report, started = self.report, time.monotonic()
        with compacting(self._directory, self._disk):
            remove_unborn(self._directory, self._disk)
            try:
                for group in (plan or self.plan()).groups(self._aims):
                    self._check_stopped()
                    self._compact(group)
            except Stopped:
                pass
            else:
                report.complete = True
            report.seconds = time.monotonic() - started
            self._note()
        return report

    def _compact(self, group: Sequence[int]) -> None:
        """Rewrite some packs as one; what can't be done is left as it is, and said in the report."""
        with ExitStack() as stack:
            uses: dict[int, tuple[Use, Source]] = {}
            for pack in group:
                try:
                    source = open_source(pack, self._copies, stack, self._lock)
                    uses[pack] = examine(self._index.view(), source, settled_seconds=self._aims.settled_seconds), source
                except (Unreadable, Unsealed) as error:
                    self.report.left[pack] = str(error)
                except BlockingIOError:
                    self.report.left[pack] = "it is in use"
                except FileNotFoundError:
                    continue
            self._fit(uses)
            if not uses or (len(uses) == 1 and not any(self._aims.are_met(use) for use, _ in uses.values())):
                return
            try:
                self._replace(uses)
            except (DamagedSource, WrittenWrong, NotSecured) as error:
                self.report.left.update(dict.fromkeys(uses, str(error)))

    def _fit(self, uses: dict[int, tuple[Use, Source]]) -> None:
        """Leave out the packs that keep most until the others fit on the disks."""
        free = min(self._free(copy) for copy in self._copies) - LEFT_FREE
        while uses and sum(use.kept_bytes for use, _ in uses.values()) > free:
            largest = max(uses, key=lambda pack: uses[pack][0].kept_bytes)
            if not uses[largest][0].kept_bytes:
                break
            del uses[largest]
            self.report.left[largest] = "there is no room for a copy of what it keeps"

    def _free(self, directory: Path) -> int:
        fd = os.open(directory / PACKS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._disk.free(fd)
        finally:
            os.close(fd)

    def _replace(self, uses: dict[int, tuple[Use, Source]]) -> None:
        kept = distinct(use for use, _ in uses.values())
        holders = {pack for use, _ in uses.values() for pack in use.elsewhere} - uses.keys()
        if kept:
            holders.add(self._write(kept, {pack: source for pack, (_, source) in uses.items()}))
        elif max(uses) == max(list_packs(self._directory), default=0):
            return  # the newest pack tells that the index isn't ahead of the packs
        self._secure(holders)
        self._remove(sorted(uses))
        report = self.report
        report.dead_records += sum(use.dead_records for use, _ in uses.values())
        report.freed_bytes += sum(use.size for use, _ in uses.values())
        if kept:
            report.freed_bytes -= self._size_now(report.written[-1])

    def _write(self, kept: Sequence[Kept], sources: dict[int, Source]) -> int:
        self._patience = self._index_seconds
        with NewPack(self._directory, pace=self._pace, disk=self._disk) as new:
            for each in kept:
                source = sources[each.location.pack]
                new.add(source, each.location, source.read_record(each.location))
            pack = new.finish(self._mirror, self._wait_for_readers)
        self.report.written.append(pack)
        self.report.moved_records += len(kept)
        self.report.moved_bytes += sum(each.location.size for each in kept)
        return pack

    def _wait_for_readers(self, records: int) -> None:
        """Every process reads what is shown: not faster than they, and the index, can do on the side."""
        if self._rate:
            self._stop.wait(records * _RECORD_COST / self._rate)
        while self._patience > 0 and self._index.tail_length() > _MOST_UNINDEXED and not self._stop.is_set():
            self._patience -= _POLL_SECONDS
            self._stop.wait(_POLL_SECONDS)

    def _secure(self, packs: set[int]) -> None:
        """Wait until packs are sealed, in the mirror and in the index. Raises NotSecured, OSError."""
        if self._mirror is not None:
            catch_up(self._directory, self._mirror, alike=self._alike, disk=self._disk)
        for pack in sorted(packs):
            seal = seal_of(self._directory, pack)
            if seal is None:
                raise NotSecured(f"pack {pack}, which replaces it, is not sealed")
            if self._mirror is not None:
                copy = seal_of(self._mirror, pack)
                if copy is None or copy[:3] != seal[:3]:
                    raise NotSecured(f"the mirror has no copy of pack {pack}, which replaces it")
            last = Location(pack, PAGE, seal.records_end - PAGE)
            deadline = time.monotonic() + self._index_seconds
            while not self._index.has_committed(last):
                if time.monotonic() > deadline:
                    raise NotSecured(f"the index has not taken in pack {pack}, which replaces it")
                time.sleep(_POLL_SECONDS)

    def _remove(self, packs: Sequence[int]) -> None:
        """Remove packs, their copies in the mirror first: a copy without its pack would be taken for a lost pack."""
        with removal_lock(self._directory, self._disk):
            for copy in reversed(self._copies):
                for pack in packs:
                    self._disk.remove(pack_path(copy, pack))
                self._disk.sync_directory(copy / PACKS)
        damage = DamageList(self._directory)
        for pack in packs:
            with suppress(OSError):
                damage.replace(pack, ())
        self.report.removed += packs

    def _size_now(self, pack: int) -> int:
        return pack_path(self._directory, pack).stat().st_size

    # ---------------------------------------------------------------- inner workings

    def _lock(self, fd: int) -> None:
        """Lock a pack as an owner would; who only looks lets go at once. Raises BlockingIOError."""
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                self._disk.lock(fd)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _check_stopped(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _note(self) -> None:
        """Write down when it was done, and the sums of all runs."""
        report, before = self.report, read_compacted(self._directory)
        with suppress(OSError):
            write_compacted(
                self._directory,
                replace(
                    before,
                    completed=time.time() if report.complete else before.completed,
                    freed_bytes=before.freed_bytes + report.freed_bytes,
                    moved_records=before.moved_records + report.moved_records,
                    removed_packs=before.removed_packs + len(report.removed),
                ),
            )


@contextmanager
def compacting(directory: Path, disk: Disk = DISK) -> Iterator[None]:
    """Hold the lock of whoever compacts. Raises CompactionBusy, OSError."""
    fd = os.open(directory / PACKS / "compaction.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            disk.lock(fd)
        except BlockingIOError:
            raise CompactionBusy("the archive is being compacted by another process") from None
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)
