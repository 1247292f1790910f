"""A second open pack of this process, written by threads that need no interpreter (``native/line.c``).

Plain data sets go this way: their records are made, written and synced while the interpreter does something else. The
promise and the order of writes are those of the log; what is left to Python is what happens seldom: to create a pack in
good time, to seal one that is full, to give one up after an error.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from fastarchive.native.line import LeftPack, NativeLine, native_line
from fastarchive.store.appends import OwnPack, OwnPacks
from fastarchive.store.disk import DISK, Disk
from fastarchive.store.glimpse import glimpse_of_own
from fastarchive.store.pack import OpenPack, create_pack
from fastarchive.store.record import Location
from fastarchive.store.recovery import recover_pack
from fastarchive.store.writers import LogStatus, NoSpace, abandon, failure_of, finish, reservation

__all__ = ["Beginning", "Line", "Sender", "Stored", "open_line"]

_RETRY_SECONDS: Final = 1.0
"""Until a pack is tried again that could not be created; meanwhile everything goes through the log."""
_DIGEST: Final = slice(48, 80)
"""Where a record has the digest of its data set (docs/format.md, "Record")."""


class Sender:
    """What the records of instances have in common that come over one association in one presentation context."""

    def __init__(self, sop_class: str, transfer_syntax: str, calling_ae: str, called_ae: str) -> None:
        """Raises ValueError for a text no record can hold."""
        self.calling_ae = calling_ae
        self.name = sop_class
        self.sop_class = sop_class.encode()
        texts = [text.encode() for text in (transfer_syntax, calling_ae, called_ae)]
        self.titles = b"".join(texts)
        self.lengths = bytes(map(len, texts))


class Stored(NamedTuple):
    """What became of an instance. Times are seconds."""

    token: Any
    sop_instance: str
    location: Location | None
    """None: it was not stored, and ``error`` tells why."""
    error: Exception | None
    digest: float
    compress: float
    sync: float


class _UnderWay(NamedTuple):
    token: Any
    sop_instance: str
    sender: Sender | None
    """None: it may be dropped yet, and nobody waits for it."""
    pieces: Sequence[bytes]
    received: int


class Beginning:
    """A data set that is made into a record while it arrives. For the thread that offers."""

    def __init__(self, native: NativeLine, number: int, pieces: list[bytes]) -> None:
        """pieces: what has come."""
        self._native = native
        self.number = number
        self._pieces = pieces
        self._over = False

    @property
    def count(self) -> int:
        """The pieces that have come."""
        return len(self._pieces)

    def add(self, pieces: Sequence[bytes], received: int = 0) -> bool:
        """More has come; received: when, in nanoseconds since the epoch, if it was the last. False when nothing comes
        of it, and it has to be offered as any other."""
        if self._over:
            return False
        self._pieces += pieces  # which must stay from now on
        good = self._native.more(self.number, pieces, received)
        self._over = bool(received) or not good
        return good

    def drop(self) -> None:
        """Nothing comes of it, unless its last piece has come."""
        if not self._over:
            self._over = True
            self._native.drop(self.number)


class _Pack(NamedTuple):
    open: OpenPack
    own: OwnPack


class Line:
    """Makes plain data sets durable. :meth:`offer` and :meth:`landed` are for one thread."""

    def __init__(
        self, directory: Path, native: NativeLine, *, seal_size: int, reserve_bytes: int, own: OwnPacks, disk: Disk
    ) -> None:
        self._directory = directory
        self._native = native
        self._seal_size = seal_size
        self._reserve_bytes = reserve_bytes
        self._own = own
        self._disk = disk
        self._under_way: dict[int, _UnderWay] = {}
        self._last = 0
        self._packs: dict[int, _Pack] = {}
        """Those that are written to or will be, and those not sealed yet."""
        self._orphans: list[int] = []
        """Packs given up and not settled yet."""
        self._denied = False
        self._chores: queue.SimpleQueue[LeftPack | bool | None] = queue.SimpleQueue()
        self._keeper: threading.Thread | None = None
        self._closed = False
        self._threads = 1
        """Of the line, that have not ended: how many exactly matters in the end only."""
        self._refused = self._abandoned = 0
        self._failure = ""
        self._told_at = 0.0

    @property
    def bell(self) -> int:
        """A file descriptor that can be read when :meth:`landed` is to be called."""
        return self._native.bell

    @property
    def stalled(self) -> float:
        """Seconds since the writing of the group under way began; 0 when none is."""
        since = self._native.busy_since
        return time.perf_counter() - since if since else 0.0

    def status(self) -> LogStatus:
        """Counters since it was opened."""
        records, groups, serial, end = self._native.count
        return LogStatus(
            serial if end else None,
            end,
            records,
            groups,
            self._refused,
            self._abandoned,
            self.stalled,
            self._failure,
            self._told_at,
        )

    def offer(
        self,
        token: Any,
        sop_instance: str,
        sender: Sender,
        pieces: Sequence[bytes],
        beginning: Beginning | None = None,
    ) -> bool:
        """Take a data set on that has this affected SOP Instance UID; :meth:`landed` tells what becomes of it.

        False for one that isn't plain, and while there is nothing to write to. beginning: what :meth:`begin` gave when
        the first of its pieces had come.
        """
        if self._denied or self._closed:
            return False
        received = time.time_ns()
        if beginning is not None and beginning.add(pieces[beginning.count :], received):
            number = beginning.number
        else:
            number = self._last = self._last + 1
            if not self._native.offer(number, pieces, *_strings(sop_instance, sender), received):
                return False
        self._under_way[number] = _UnderWay(token, sop_instance, sender, pieces, received)
        return True

    def begin(self, sop_instance: str, sender: Sender, pieces: Sequence[bytes]) -> Beginning | None:
        """Begin the record of a data set that is still arriving, if there is nothing better to do; these pieces are
        here.

        It has to be offered when it has come to its end, or to be dropped."""
        if self._denied or self._closed:
            return None
        number = self._last = self._last + 1
        kept = list(pieces)
        if not self._native.begin(number, kept, *_strings(sop_instance, sender)):
            return None
        self._under_way[number] = _UnderWay(None, sop_instance, None, kept, 0)
        return Beginning(self._native, number, kept)

    def landed(self) -> list[Stored]:
        """What has become of some data sets; to be called when the bell rings."""
        stored: list[Stored] = []
        has_more = not self._native.is_closed
        while has_more:
            landed, news, has_more = self._native.landed()
            if landed:
                self._failure = ""
                self._told_at = time.perf_counter()
            for number, serial, offset, size, metadata, error, digest, compress, sync in landed:
                token, instance, sender, _, received = self._under_way.pop(number)
                if sender is None:  # dropped
                    continue
                if error:
                    failure = self._failed(error)
                    stored.append(Stored(token, instance, None, failure, digest / 1e9, compress / 1e9, sync / 1e9))
                    continue
                pack, own = self._packs[serial]
                record = glimpse_of_own(metadata, sender.name, instance, received, metadata[_DIGEST])
                pack.offsets.append(offset)
                own.add(offset, size, record)
                place = Location(serial, offset, size)
                stored.append(Stored(token, instance, place, None, digest / 1e9, compress / 1e9, sync / 1e9))
            if news is not None:
                self._threads = news.threads
                if news.left is not None:
                    self._do(news.left)
                if news.wants_pack:
                    self._do(True)
        return stored

    def close(self) -> list[Stored]:
        """Make durable what was taken on, then seal the packs. What has landed meanwhile."""
        if self._closed:
            return []
        self._closed = True
        stored = []
        self._native.stop()
        while True:
            stored += self.landed()
            if not self._threads:
                break
            self._native.wait(1.0)
        self._chores.put(None)
        if self._keeper is not None:
            self._keeper.join()
        for left in self._native.close():
            self._leave(left)
        for serial, (pack, _) in list(self._packs.items()):  # created too late to be used
            self._leave(LeftPack(serial, pack.end, 0))
        self._settle_orphans()
        return stored

    def _failed(self, error: int) -> Exception:
        text = os.strerror(error)
        failure = failure_of(OSError(error, text))
        if isinstance(failure, NoSpace):
            self._refused += 1
        else:
            self._failure = text
        return failure

    # ---------------------------------------------------------------- packs, in a thread of their own

    def _do(self, chore: LeftPack | bool) -> None:
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name="line-packs", daemon=True)
            self._keeper.start()
        self._chores.put(chore)

    def _keep(self) -> None:
        while True:
            try:
                chore = self._chores.get(timeout=_RETRY_SECONDS if self._denied else None)
            except queue.Empty:
                chore = True
            if chore is None:
                break
            if isinstance(chore, LeftPack):
                self._leave(chore)
            else:
                self._create()

    def _create(self) -> None:
        try:
            reserve = reservation(self._directory, self._seal_size, self._reserve_bytes)
            pack = create_pack(self._directory, reserve, self._disk)
        except Exception as error:  # whoever waits for it has to be told
            self._denied = True
            self._native.deny((isinstance(error, OSError) and error.errno) or 5)
            return
        self._packs[pack.pack] = _Pack(pack, self._own.begin(pack.pack, pack.end))
        self._native.give(pack.fd, pack.pack, pack.end, pack.reserved)
        self._denied = False
        self._settle_orphans()  # the disk works again

    def _leave(self, left: LeftPack) -> None:
        """Seal a pack that is full; give one up after an error: what was acknowledged in it stays."""
        pack, _ = self._packs.pop(left.serial)
        self._own.forget(left.serial)
        if left.error:
            self._abandoned += 1
            self._orphans.append(left.serial)
            abandon(pack, left.end, self._disk)
        else:
            finish(pack, left.end, pack.offsets, self._disk)

    def _settle_orphans(self) -> None:
        """Do for the packs given up what recovery would do after a restart; what fails is left to that."""
        orphans, self._orphans = self._orphans, []
        for pack in orphans:
            recover_pack(self._directory, pack, self._disk)


def _strings(sop_instance: str, sender: Sender) -> tuple[bytes, bytes]:
    """What a record needs to know of them, and how long each is."""
    instance = sop_instance.encode()
    lengths = bytes((len(sender.sop_class), len(instance)))
    return sender.sop_class + instance + sender.titles, lengths + sender.lengths


def open_line(
    directory: Path,
    stored: Collection[int],
    *,
    seal_size: int,
    reserve_bytes: int,
    own: OwnPacks,
    makers: int,
    disk: Disk | None = None,
) -> Line | None:
    """A line into new packs of the data directory `directory`; None where there is no library for it.

    stored: tags of the attributes a record has. makers: how many records are made at a time.
    """
    files = disk or DISK
    native = native_line(
        stored,
        makers=makers,
        seal_size=seal_size,
        reserve_bytes=reserve_bytes,
        files=None if type(files) is Disk else files,  # that of C is the same
    )
    if native is None:
        return None
    return Line(directory, native, seal_size=seal_size, reserve_bytes=reserve_bytes, own=own, disk=files)
