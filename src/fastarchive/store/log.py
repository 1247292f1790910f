"""The log: one open pack owned by this process, appended to by one committer thread in groups.

What is promised, and the order of writes that keeps the promise, is in ``docs/format.md``, "Appending".
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final

from fastarchive.store.ahead import Ahead
from fastarchive.store.appends import Append, OwnPack, OwnPacks, fail, succeed
from fastarchive.store.disk import DISK, FULL, Disk, PartlyWritten
from fastarchive.store.encoding import EncodedRecord
from fastarchive.store.filters import Buffer
from fastarchive.store.mirror import MirrorWait, Trailing
from fastarchive.store.pack import PAGE, OpenPack, create_copy, create_pack, publish_durable
from fastarchive.store.record import Location
from fastarchive.store.recovery import RecoveryReport, recover, recover_pack
from fastarchive.store.writers import LogBroken, LogStatus, NoSpace, abandon, failure_of, finish, reservation

__all__ = ["Log", "RecoveryReport", "recover"]

SEAL_SIZE: Final = 256 << 20
GROUP_BYTES: Final = 64 << 20
"""A group is written and synced when it has this many bytes, even if more is waiting."""
GROUP_RECORDS: Final = 4096


class Log:
    """Appends records, durably and in groups. Thread-safe; not to be used across a fork.

    A pack is created with the first append. Futures resolve in the committer thread.
    """

    def __init__(
        self,
        directory: Path,
        *,
        seal_size: int = SEAL_SIZE,
        reserve_bytes: int = 0,
        sync: bool = True,
        mirror: Path | None = None,
        mirror_wait: MirrorWait = MirrorWait.BOTH,
        disk: Disk = DISK,
        own: OwnPacks | None = None,
    ) -> None:
        """`directory` is the data directory; `reserve_bytes` stay free on its disk; `sync` False is for experiments.

        With `mirror`, a second data directory, every pack is written there, too. `own`: where a follower in this
        process finds what is appended.
        """
        self._directory = directory
        self.seal_size: Final = seal_size
        self.reserve_bytes: Final = reserve_bytes
        self._sync = sync
        self._disk = disk
        self._lock = threading.Lock()
        self._bell = threading.Lock()
        """Held by nobody when there is something for the committer. Bare: to wait for a condition takes several."""
        self._bell.acquire()
        self._rung = False
        self._waiting: list[Append] = []
        self._own = own or OwnPacks()
        self._handed: OwnPack | None = None
        self._closing = False
        self._thread: threading.Thread | None = None
        self._mirror = mirror
        self._trailing: Trailing | None = None
        self._hand: ThreadPoolExecutor | None = None
        """Writes to the mirror while the committer writes here."""
        if mirror is not None and mirror_wait is MirrorWait.ONE:
            self._trailing = Trailing(directory, mirror, disk)
        elif mirror is not None:
            self._hand = ThreadPoolExecutor(1, thread_name_prefix="mirror")
        self._pack: OpenPack | None = None
        self._twin: OpenPack | None = None
        """The open pack's copy in the mirror, when both are waited for."""
        self._orphans: list[int] = []
        """Packs given up and not settled yet."""
        self._ahead = Ahead()
        self._records = self._groups = self._refused = self._abandoned = 0
        self._busy_since = self._told_at = 0.0
        self._failure = ""

    def append(self, encoded: EncodedRecord) -> Future[Location]:
        """Queue a record. The future resolves once it is durable and readers may see it.

        It fails with :class:`NoSpace` or :class:`LogBroken`; `encoded` must stay open until it is done.
        """
        return self.append_batch((encoded,))[0]

    def append_batch(self, batch: tuple[EncodedRecord, ...] | list[EncodedRecord]) -> list[Future[Location]]:
        """Queue several records at once; one wake-up, and as few syncs as their size allows."""
        now = time.perf_counter()
        futures: list[Future[Location]] = [Future() for _ in batch]
        for future in futures:
            future.set_running_or_notify_cancel()  # what is on its way to the disk can't be called back
        self._queue([Append(encoded, now, future) for encoded, future in zip(batch, futures, strict=True)])
        return futures

    def _queue(self, appends: list[Append]) -> None:
        with self._lock:
            closed = self._closing
            if not closed:
                self._waiting += appends
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="log-committer", daemon=True)
                    self._thread.start()
                self._ring()
        if closed:
            fail(appends, LogBroken("the log is closed"))

    def _ring(self) -> None:
        if not self._rung:
            self._rung = True
            self._bell.release()

    @property
    def stalled(self) -> float:
        """Seconds since the writing of the group under way began; 0 when none is."""
        since = self._busy_since
        return time.perf_counter() - since if since else 0.0

    def status(self) -> LogStatus:
        """Counters since the log was opened."""
        pack = self._pack
        number, end = (pack.pack, pack.end) if pack else (None, 0)
        return LogStatus(
            number,
            end,
            self._records,
            self._groups,
            self._refused,
            self._abandoned,
            self.stalled,
            self._failure,
            self._told_at,
        )

    def close(self) -> None:
        """Commit what waits, then seal the pack. Later appends fail. May be called twice."""
        with self._lock:
            self._closing = True
            thread = self._thread
            self._ring()
        if thread is not None:
            thread.join()
        if self._trailing is not None:
            self._trailing.close()
        if self._hand is not None:
            self._hand.shutdown()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        closing = False
        while not closing:
            self._bell.acquire()
            with self._lock:
                self._rung = False
                closing = self._closing  # nothing is queued after it
                batch, self._waiting = self._waiting, []
            if not batch:
                continue
            groups = self._groups
            self._commit(deque(batch))
            self._busy_since = 0.0
            if self._orphans and self._groups > groups:
                self._settle_orphans()  # the disk works again
        self._seal()
        self._settle_orphans()

    def _commit(self, queue: deque[Append]) -> None:
        """Make everything in `queue` durable, group by group, or fail it."""
        while queue:
            group: list[Append] = []
            self._busy_since = time.perf_counter()
            try:
                pack = self._pack_for(queue[0].encoded.size)
                group = self._next_group(pack, queue)
                if self._fits(pack, group):
                    self._write(pack, group, queue)
            except OSError as error:
                self._abandon()
                if not group:
                    group.append(queue.popleft())
                failure = failure_of(error)
                is_full = isinstance(failure, NoSpace)
                self._failure = "" if is_full else error.strerror or type(error).__name__
                self._told_at = time.perf_counter()
                self._refused += len(group) if is_full else 0
                fail(group, failure)
            except BaseException as error:
                # A defect, not the disk. Nobody may wait for ever, and nothing half done may be built upon.
                self._abandon()
                fail([*group, *queue], LogBroken(f"the log failed: {type(error).__name__}"))
                raise

    def _pack_for(self, size: int) -> OpenPack:
        """The pack for a record of `size` bytes; a new one if there is none or the record goes beyond the seal size."""
        pack = self._pack
        if pack is not None and pack.end > PAGE and pack.end + size > self.seal_size:
            self._seal()
            pack = None
        if pack is None:
            reserve = reservation(self._directory, self.seal_size, self.reserve_bytes)
            pack = self._pack = create_pack(self._directory, reserve, self._disk, self._mirror)
            self._handed = self._own.begin(pack.pack, pack.end)
            if self._hand is not None and self._mirror is not None:
                page = os.pread(pack.fd, PAGE, 0)
                self._twin = create_copy(
                    self._mirror,
                    pack.pack,
                    page,
                    reservation(self._mirror, self.seal_size, self.reserve_bytes),
                    self._disk,
                )
        return pack

    def _next_group(self, pack: OpenPack, queue: deque[Append]) -> list[Append]:
        """Take from the queue what goes into the pack with the next sync: at least one record."""
        group = [queue.popleft()]
        size = group[0].encoded.size
        while queue and len(group) < GROUP_RECORDS:
            size += queue[0].encoded.size
            if size > GROUP_BYTES or pack.end + size > self.seal_size:
                break
            group.append(queue.popleft())
        return group

    def _fits(self, pack: OpenPack, group: list[Append]) -> bool:
        """Fail what would eat the reserve; whether anything is left in `group`. Deletions may: they make room."""
        if self.reserve_bytes:
            free = min(self._disk.free(copy.fd) for copy in self._copies(pack)) - self.reserve_bytes
            refused = []
            for append in list(group):
                if append.makes_room or append.encoded.size <= free:
                    free -= append.encoded.size
                else:
                    refused.append(append)
                    group.remove(append)
            self._refused += len(refused)
            fail(refused, NoSpace("only the reserve is left on the disk"))
        return bool(group)

    def _write(self, pack: OpenPack, group: list[Append], queue: deque[Append]) -> None:
        """Write a group, sync it, publish it, tell those who wait. OSError means: nothing of it may be acknowledged.

        When the disk is full, what was written whole is kept, the first that wasn't fails, the rest goes back to
        `queue`.
        """
        started = time.perf_counter()
        copies = self._copies(pack)
        size = sum([append.encoded.size for append in group])
        self._ahead.expect(size)
        stored = self._on_all(copies, group, size)
        whole = min(count for count, _ in stored)
        if whole < len(group):
            end = pack.end + sum(append.encoded.size for append in group[:whole])
            for copy in copies:
                copy.reserved = 0
                self._disk.truncate(copy.fd, end)
            self._refused += 1
            fail([group[whole]], NoSpace("there is no space left on the disk"))
            queue.extendleft(reversed(group[whole + 1 :]))
            del group[whole:]
            if not group:
                return
            for copy in copies:
                self._sync_copy(copy)
        written = stored[0][1]
        offsets = []
        end = pack.end
        for append in group:
            offsets.append(end)
            end += append.encoded.size
        # From here on the group may be seen: should publishing fail, it is not acknowledged, but never cut off either.
        pack.end = end
        pack.offsets.extend(offsets)
        for copy in copies:
            copy.end = end
            publish_durable(self._disk, copy.fd, end)
        self._records += len(group)
        self._groups += 1
        self._failure = ""
        synced = self._told_at = time.perf_counter()
        if self._trailing is not None:
            self._trailing.follow(pack.pack)
        if self._handed is not None:
            for append, offset in zip(group, offsets, strict=True):
                self._handed.add(offset, append.encoded.size, append.encoded.record)
        succeed(group, pack.pack, offsets, (started, written, synced))

    def _copies(self, pack: OpenPack) -> list[OpenPack]:
        return [pack] if self._twin is None else [pack, self._twin]

    def _on_all(self, copies: list[OpenPack], group: list[Append], size: int) -> list[tuple[int, float]]:
        """Store the group of `size` bytes in all copies, at the same time. Raises OSError when both are done."""
        if len(copies) == 1 or self._hand is None:
            return [self._store(copies[0], group, size)]
        other = self._hand.submit(self._store, copies[1], group, size)
        try:
            return [self._store(copies[0], group, size), other.result()]
        finally:
            wait([other])

    def _store(self, copy: OpenPack, group: list[Append], size: int) -> tuple[int, float]:
        """Write the group and sync it if it is whole: how many records were written whole, and when. Raises OSError."""
        whole = len(group)
        self._ahead.prepare(copy, size, self._disk)
        try:
            self._write_records(copy, group)
        except PartlyWritten as error:
            if error.errno not in FULL:
                raise
            left = error.written
            whole = 0
            while whole < len(group) and group[whole].encoded.size <= left:
                left -= group[whole].encoded.size
                whole += 1
            return whole, time.perf_counter()
        written = time.perf_counter()
        self._sync_copy(copy)
        return whole, written

    def _sync_copy(self, copy: OpenPack) -> None:
        if self._sync:
            self._disk.sync(copy.fd)

    def _write_records(self, pack: OpenPack, group: list[Append]) -> None:
        """Write the group's bytes behind the pack's end. Raises PartlyWritten counting from there."""
        offset = pack.end
        buffers: list[Buffer] = []
        size = 0
        try:
            for append in group:
                encoded = append.encoded
                buffers.append(encoded.metadata)
                size += len(encoded.metadata)
                if encoded.spool is None:
                    buffers += encoded.buffers
                    size += encoded.size - len(encoded.metadata)
                    continue
                offset += self._disk.write(pack.fd, buffers, offset)
                buffers, size = [], 0
                offset += self._disk.copy(encoded.spool.fd, pack.fd, offset, encoded.spool.length)
            if buffers:
                self._disk.write(pack.fd, buffers, offset)
        except PartlyWritten as error:
            raise PartlyWritten(error.cause, offset - pack.end + error.written) from error

    def _seal(self) -> None:
        """Seal the open pack, if there is one."""
        pack, copies = self._let_go()
        if pack is None:
            return
        for copy in copies:
            finish(copy, pack.end, pack.offsets, self._disk)
        if self._trailing is not None and pack.offsets:
            self._trailing.follow(pack.pack)

    def _abandon(self) -> None:
        """Give the open pack up after an error."""
        pack, copies = self._let_go()
        if pack is None:
            return
        self._abandoned += 1
        self._orphans.append(pack.pack)
        for copy in copies:
            abandon(copy, pack.end, self._disk)

    def _let_go(self) -> tuple[OpenPack | None, list[OpenPack]]:
        """The open pack and all its copies; the log has none any more."""
        pack, copies = self._pack, self._copies(self._pack) if self._pack is not None else []
        if pack is not None:
            self._own.forget(pack.pack)
        self._pack = self._twin = self._handed = None
        return pack, copies

    def _settle_orphans(self) -> None:
        """Do for the packs given up what recovery would do after a restart; what fails is left to that."""
        orphans, self._orphans = self._orphans, []
        for pack in orphans:
            recover_pack(self._directory, pack, self._disk, mirror=self._mirror)
            if self._trailing is not None:
                self._trailing.follow(pack)
            elif self._mirror is not None:
                recover_pack(self._mirror, pack, self._disk)
