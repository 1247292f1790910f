"""A new pack made of records of sealed ones: written and read back unseen, then shown, then sealed.

Steps and reasons: ``docs/format.md``, "Compaction". Killed anywhere, it leaves a file that recovery removes, or a pack
that recovery seals and whose records are copies of others.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fastarchive.store.codec import DamagedBlock, verify_block
from fastarchive.store.disk import DISK, Disk
from fastarchive.store.pack import (
    PACKS,
    PAGE,
    creation_lock,
    encode_page,
    next_identity,
    pack_path,
    publish_durable,
    read_record,
    read_state,
    seal_pack,
)
from fastarchive.store.record import Block, Location, Record, TornRecord, encode_record
from fastarchive.store.recovery import recover_pack
from fastarchive.store.verify import DamagedContent, Pace, Window, verify_record

UNSEEN: Final = "compaction.new"
SHOWN_AT_ONCE: Final = 200
"""Records."""
_SYNC_BYTES: Final = 8 << 20
_PIECE: Final = 4 << 20


class DamagedSource(Exception):
    """A record to be moved is whole in no copy."""

    def __init__(self, location: Location, reason: str) -> None:
        super().__init__(f"offset {location.offset} is damaged: {reason}")
        self.location = location


class WrittenWrong(Exception):
    """What was written doesn't read back as it should; nothing of it is to be seen by anybody."""


class Unsealed(Exception):
    """A pack is appended to, or its seal is damaged."""


@dataclass(frozen=True, slots=True)
class Source:
    """A sealed pack to take records from: its files, in the data directory and in the mirror, the better one first."""

    pack: int
    fds: tuple[int, ...]

    def read_record(self, location: Location) -> Record:
        """The metadata of a record, from the first copy that has it whole. Raises DamagedSource."""
        reason = ""
        for fd in self.fds:
            try:
                record, extent = read_record(fd, location.offset, location.end)
            except TornRecord as error:
                reason = str(error)
            except OSError as error:
                reason = error.strerror or type(error).__name__
            else:
                if extent.total == location.size:
                    return record
                reason = "bytes that are no record follow"
        raise DamagedSource(location, reason)

    def read_block(self, location: Location, position: int, block: Block) -> bytes:
        """The stored bytes of a block, verified, from the first copy that has them whole. Raises DamagedSource."""
        reason = ""
        for fd in self.fds:
            try:
                stored = os.pread(fd, block.stored, position)
                verify_block(block, stored)
            except DamagedBlock as error:
                reason = str(error)
            except OSError as error:
                reason = error.strerror or type(error).__name__
            else:
                return stored
        raise DamagedSource(location, reason)


def open_source(pack: int, copies: Sequence[Path], stack: ExitStack, lock: Callable[[int], object] | None) -> Source:
    """Open the copies of a sealed pack in some data directories, of which the first has to have one.

    `lock` is called with each. `stack` closes them. Raises Unsealed, FileNotFoundError, OSError, and what `lock` does.
    """
    fds = []
    for copy in copies:
        try:
            fd = os.open(pack_path(copy, pack), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if copy == copies[0]:
                raise
            continue
        stack.callback(os.close, fd)
        if lock is not None:
            lock(fd)
        if not os.fstat(fd).st_nlink:
            raise FileNotFoundError
        if read_state(fd).seal is not None:
            fds.append(fd)
        elif copy == copies[0]:
            raise Unsealed("it has no seal")
    return Source(pack, tuple(fds))


class NewPack:
    """A pack in the making. For one thread; a context manager that throws away what was not shown.

    `pace` is told of the bytes written. Raises OSError, also when another compaction runs.
    """

    def __init__(self, directory: Path, *, pace: Pace = lambda _: None, disk: Disk = DISK) -> None:
        self.end = PAGE
        self._directory = directory
        self._pace = pace
        self._disk = disk
        self._path = directory / PACKS / UNSEEN
        self._offsets = array("Q")
        self._unsynced = 0
        self._shown = False
        self._pack = 0
        with creation_lock(directory, disk):
            self._fd = disk.create(self._path)
            try:
                disk.lock(self._fd)
            except OSError:
                os.close(self._fd)
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            if not self._shown:
                with suppress(OSError):
                    self._disk.remove(self._path)
            os.close(self._fd)
            self._fd = -1
            if self._pack and error is not None:
                recover_pack(self._directory, self._pack, self._disk)

    def add(self, source: Source, location: Location, record: Record) -> None:
        """Write the record at `location` of `source`, marked as moved. Raises DamagedSource, OSError."""
        moved = record.moved_from(location)
        pieces: list[bytes] = [encode_record(moved)]
        start = self.end
        waiting = len(pieces[0])
        position = location.end - sum(block.stored for block in record.blocks)
        for block in record.blocks:
            stored = source.read_block(location, position, block)
            position += block.stored
            pieces.append(stored)
            waiting += len(stored)
            if waiting >= _PIECE:
                self._write(pieces)
                pieces, waiting = [], 0
        if pieces:
            self._write(pieces)
        self._offsets.append(start)

    def _write(self, pieces: Sequence[bytes]) -> None:
        count = self._disk.write(self._fd, pieces, self.end)
        self.end += count
        self._unsynced += count
        if self._unsynced >= _SYNC_BYTES:
            # Little by little, so that the syncs of others never wait for much of ours.
            self._disk.sync(self._fd)
            self._unsynced = 0
        self._pace(count)

    def finish(self, mirror: Path | None, show: Callable[[int], object] = lambda _: None) -> int:
        """Read it back, let it appear, show its records little by little, seal it; the pack's id.

        `show` is told of the records shown; it may wait, and nothing else. Raises WrittenWrong, OSError.
        """
        self._disk.sync(self._fd)
        self._read_back()
        with creation_lock(self._directory, self._disk):
            identity = next_identity(self._directory, mirror)
            final = pack_path(self._directory, identity.pack)
            self._disk.write(self._fd, (encode_page(identity),), 0)
            self._disk.sync_all(self._fd)
            self._shown = True
            self._disk.rename(self._path, final)
            self._pack = identity.pack
            self._disk.sync_directory(final.parent)
        for first in range(SHOWN_AT_ONCE, len(self._offsets), SHOWN_AT_ONCE):
            publish_durable(self._disk, self._fd, self._offsets[first])
            show(SHOWN_AT_ONCE)
        seal_pack(self._fd, self.end, self._offsets, recovered=False, disk=self._disk)
        return identity.pack

    def _read_back(self) -> None:
        self._disk.forget(self._fd)
        window = Window(self._fd, self.end, self._pace)
        position = PAGE
        try:
            for offset in self._offsets:
                if offset != position:
                    raise WrittenWrong(f"a record begins at {offset}, not at {position}")
                position += verify_record(window, position, self.end, deep=False)
        except (TornRecord, DamagedContent) as error:
            raise WrittenWrong(f"offset {position}: {error}") from error
        if position != self.end:
            raise WrittenWrong(f"it ends at {position}, not at {self.end}")
