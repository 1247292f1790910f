"""Reading instances back: by location, in bounded memory, verified against checksum and digest."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
from blake3 import blake3

from fastarchive.store.codec import DamagedBlock, decode_block, decode_into, verify_block
from fastarchive.store.damage import DamageList, Mark
from fastarchive.store.filters import Buffer
from fastarchive.store.pack import pack_path
from fastarchive.store.record import (
    FIXED_SIZE,
    WITH_CONTENT,
    Block,
    Location,
    Record,
    TornRecord,
    decode_record,
    measure,
)

OPEN_PACKS: Final = 128
_READ_WHOLE: Final = 4 << 20
_METADATA_READ: Final = 4096
TOGETHER: Final = 1 << 20
"""Bytes of a data set that are read into one piece; copying what is stored as it is would cost more for larger ones."""


class DamagedInstance(Exception):
    """What lies at a location is not what was acknowledged there, or can't be read. `reason` names no patient data."""

    def __init__(self, location: Location, reason: str) -> None:
        super().__init__(f"pack {location.pack} offset {location.offset}: {reason}")
        self.location = location
        self.reason = reason


class PackMissing(DamagedInstance):
    """The pack isn't there, or not any more."""


class PackFile:
    """An open pack. Closed when the last reader lets go of it, not when it falls out of the cache."""

    __slots__ = ("fd", "used")

    def __init__(self, path: Path) -> None:
        self.used = True
        """Whether anybody has asked for it since the last look (:meth:`Blobs.let_go`)."""
        self.fd = -1
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def is_removed(self) -> bool:
        """Whether no name leads to the file any more: its space is free once nobody has it open."""
        return os.fstat(self.fd).st_nlink == 0

    def is_same(self, other: PackFile) -> bool:
        """Whether both are the same file. Raises OSError."""
        return os.path.samestat(os.fstat(self.fd), os.fstat(other.fd))

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class Reader:
    """One stored instance. Not thread-safe; needs no closing."""

    __slots__ = ("_blobs", "_file", "_head", "location", "record")

    def __init__(
        self,
        blobs: Blobs,
        file: PackFile,
        location: Location,
        record: Record | None,
        *,
        content: bool = True,
        head: Buffer | None = None,
    ) -> None:
        """`head`: what the pack holds from the record's beginning on, if that has been read already.

        Raises DamagedInstance when `record` isn't given and can't be read.
        """
        self.location = location
        self._blobs = blobs
        self._file = file
        # Small records are read at once: one system call for metadata and content.
        whole = content and location.size <= _READ_WHOLE
        size = location.size if whole else min(location.size, _METADATA_READ)
        if head is None:
            head = self._read(0, size) if whole or record is None else b""
        self._head: Buffer = head
        self.record = record if record is not None else self._decode()

    def chunks(self) -> Iterator[Buffer]:
        """The data set as received, block by block; at most a block is in memory.

        Each block's checksum is verified before the block is handed out, and the digest of the whole before the last
        one is. Raises DamagedInstance.
        """
        record = self.record
        if record.kind not in WITH_CONTENT:
            raise DamagedInstance(self.location, "the record has no content")
        hasher = blake3()
        position = self._content_start()
        last: Buffer = b""
        for number in range(len(record.blocks)):
            content = self._block(number, position)
            position += record.blocks[number].stored
            hasher.update(content)
            if number:
                yield last
            last = content
        if hasher.digest() != record.digest:
            raise DamagedInstance(self.location, "the content doesn't match its digest")
        if last:
            yield last

    def read(self) -> bytes:
        """The whole data set as received, verified. Raises DamagedInstance."""
        return b"".join(self.pieces())

    def pieces(self) -> list[Buffer]:
        """The data set as received in a few pieces, all of it verified. Raises DamagedInstance.

        Where nothing is handed out before everything is there, the digest alone says that it is right. Only if it isn't
        the checksums of the blocks have to tell which of them to look for elsewhere.
        """
        try:
            pieces = self.together() if self.record.length <= TOGETHER else self._apart()
        except (DamagedBlock, DamagedInstance):
            pieces = []
        return pieces or list(self.chunks())

    def together(self) -> list[Buffer]:
        """All of it in one piece, whose digest takes one pass; empty if it isn't right."""
        record = self.record
        whole = np.empty(record.length, np.uint8).data
        position, written = self._content_start(), 0
        for block in record.blocks:
            end = written + block.raw
            if end > len(whole):
                return []
            decode_into(block, self._stored(position, block.stored), whole[written:end])
            position += block.stored
            written = end
        right = written == len(whole) and record.kind in WITH_CONTENT and blake3(whole).digest() == record.digest
        return [whole] if right else []

    def _apart(self) -> list[Buffer]:
        """Block by block; empty if it isn't right."""
        pieces: list[Buffer] = []
        hasher = blake3()
        position = self._content_start()
        for block in self.record.blocks:
            pieces.append(decode_block(block, self._stored(position, block.stored)))
            hasher.update(pieces[-1])
            position += block.stored
        return pieces if self.record.kind in WITH_CONTENT and hasher.digest() == self.record.digest else []

    def verify(self) -> None:
        """Verify the checksum of every block as it is stored, which takes a fraction of the time of decoding it.

        Raises DamagedInstance for what no copy has whole.
        """
        position = self._content_start()
        for number, block in enumerate(self.record.blocks):
            try:
                verify_block(block, self._stored(position, block.stored))
            except (DamagedBlock, DamagedInstance):
                self._block(number, position)  # from another copy, if there is one
            position += block.stored

    def header(self) -> bytes:
        """Block 0: the data set up to the value of its bulk element, its checksum verified; no pixels are read.

        Of a deflated data set it is deflated bytes. Raises DamagedInstance.
        """
        return bytes(self._block(0, self._content_start())) if self.record.blocks else b""

    def _decode(self) -> Record:
        try:
            return self._decode_head()
        except DamagedInstance as error:
            for file in self._blobs.others(self.location, self._file):
                # What follows is read from where the metadata is whole, too.
                self._file, self._head = file, b""
                with suppress(DamagedInstance):
                    self._head = self._read(0, min(self.location.size, _READ_WHOLE))
                    return self._decode_head()
            self._blobs.mark(error, "")
            raise

    def _decode_head(self) -> Record:
        try:
            extent = measure(self._head)
            if extent.total != self.location.size:
                raise DamagedInstance(self.location, "the record has another size than was said")
            if extent.metadata > len(self._head):
                self._head = self._read(0, extent.metadata)
            return decode_record(self._head)
        except TornRecord as error:
            raise DamagedInstance(self.location, str(error)) from error

    def _content_start(self) -> int:
        return self.location.size - sum(block.stored for block in self.record.blocks)

    def _block(self, number: int, position: int) -> Buffer:
        block = self.record.blocks[number]
        try:
            return self._decode_block(block, self._stored(position, block.stored))
        except DamagedInstance as error:
            for file in self._blobs.others(self.location, self._file):
                with suppress(DamagedInstance):
                    return self._decode_block(block, self._read(position, block.stored, file))
            self._blobs.mark(error, self.record.sop_instance)
            raise

    def _stored(self, position: int, size: int) -> Buffer:
        end = position + size
        if position >= FIXED_SIZE and end <= len(self._head):
            return memoryview(self._head)[position:end]
        return self._read(position, size)

    def _decode_block(self, block: Block, stored: Buffer) -> Buffer:
        try:
            verify_block(block, stored)
            return decode_block(block, stored)
        except DamagedBlock as error:
            raise DamagedInstance(self.location, str(error)) from error

    def _read(self, position: int, size: int, file: PackFile | None = None) -> bytes:
        try:
            return os.pread((file or self._file).fd, size, self.location.offset + position)
        except OSError as error:
            raise DamagedInstance(self.location, f"the pack can't be read: {error.strerror}") from error


Relocate = Callable[[Location, str], Location | None]
"""Where a record is now that was at a location in a pack that is gone; its SOP Instance UID is empty if not known."""


class Blobs:
    """The instances of a data directory. Thread-safe; keeps the packs used last open."""

    def __init__(
        self,
        directory: Path,
        open_packs: int = OPEN_PACKS,
        *,
        mirror: Path | None = None,
        damage: DamageList | None = None,
        relocate: Relocate | None = None,
    ) -> None:
        """What is damaged is read from `mirror` instead; what no copy has whole is marked in `damage`; `relocate` is
        asked for what was in packs compacted away meanwhile."""
        self._directory = directory
        self._mirror = mirror
        self._damage = damage
        self._relocate = relocate
        self._limit = open_packs
        self._lock = threading.Lock()
        self._files: OrderedDict[int, PackFile] = OrderedDict()

    def open(
        self, location: Location, record: Record | None = None, *, content: bool = True, instance: str = ""
    ) -> Reader:
        """A reader of the record at `location`; `record` saves reading the metadata where it is known.

        Without `content` nothing is read ahead for the content, for those who only want the header. `instance` is the
        SOP Instance UID: the surest way to find what was moved since its location was looked up.

        Raises DamagedInstance when the pack is missing or the metadata is damaged.
        """
        file, location = self._find(location, instance)
        return Reader(self, file, location, record, content=content)

    def read_at_once(self, location: Location) -> tuple[Record, Buffer] | None:
        """The record at `location` and its data set as received, verified, for who can't wait for a disk.

        None when that would take more than copying from memory, when the data set is longer than :data:`TOGETHER`, and
        whenever something is wrong: :meth:`open` then tells what.
        """
        file = self.opened(location.pack)
        if file is None or location.size > 2 * TOGETHER:
            return None
        head = np.empty(location.size, np.uint8).data
        try:
            if os.preadv(file.fd, (head,), location.offset, os.RWF_NOWAIT) != location.size:
                return None
            if measure(head).total != location.size:
                return None
            record = decode_record(head)
            if record.length > TOGETHER:
                return None
            pieces = Reader(self, file, location, record, head=head).together()
        except (OSError, TornRecord, DamagedBlock, DamagedInstance):  # of OSErrors, mostly that it isn't in memory
            return None
        return (record, pieces[0]) if pieces else None

    def opened(self, pack: int) -> PackFile | None:
        """A pack, if it is open already; it stays so for as long as it is held."""
        with self._lock:
            return self._opened(pack)

    def locate(self, pack: int, offset: int) -> Location:
        """The location of the record that begins at an offset of a pack, for those who don't know its size.

        Raises DamagedInstance when no copy tells.
        """
        file, place = self._find(Location(pack, offset, 0), "")
        if place.size:
            return place
        for each in chain((file,), self.others(place, file)):
            with suppress(OSError, TornRecord):
                return Location(pack, offset, measure(os.pread(each.fd, FIXED_SIZE, offset)).total)
        raise DamagedInstance(place, "the record doesn't say how long it is")

    def let_go(self) -> None:
        """Let go of packs nobody has asked for since the last call, and of those that were removed since they were
        opened, which keep their space for as long. To be called every few seconds."""
        with self._lock:
            for pack, file in list(self._files.items()):
                if not file.used or file.is_removed:
                    del self._files[pack]
                file.used = False

    def _find(self, location: Location, instance: str) -> tuple[PackFile, Location]:
        """The file of a record and where in it the record is now. Raises DamagedInstance."""
        try:
            return self._file(location), location
        except PackMissing:
            moved = None if self._relocate is None else self._relocate(location, instance)
            if moved is None or moved.pack == location.pack:
                raise
            return self._file(moved), moved

    def _file(self, location: Location) -> PackFile:
        with self._lock:
            file = self._opened(location.pack)
            if file is None:
                file = self._open(location)
                self._files[location.pack] = file
                if len(self._files) > self._limit:
                    self._files.popitem(last=False)
            return file

    def _opened(self, pack: int) -> PackFile | None:
        """An open pack, which somebody asks for now. With the lock."""
        file = self._files.get(pack)
        if file is not None:
            self._files.move_to_end(pack)
            file.used = True
        return file

    def others(self, location: Location, used: PackFile) -> Iterator[PackFile]:
        """Further files to read a record from: the pack as it is now, if it was healed meanwhile, and the mirror's."""
        for directory in (self._directory, self._mirror):
            if directory is not None:
                with suppress(OSError):
                    file = PackFile(pack_path(directory, location.pack))
                    if not file.is_same(used):
                        if directory == self._directory:
                            with self._lock:
                                self._files[location.pack] = file
                        yield file

    def mark(self, error: DamagedInstance, sop_instance: str) -> None:
        """Note that no copy of a record is whole."""
        if self._damage is not None:
            with suppress(OSError):  # nowhere to note it; the reader is told all the same
                self._damage.add(Mark(error.location.pack, error.location.offset, sop_instance, error.reason))

    def _open(self, location: Location) -> PackFile:
        try:
            return PackFile(pack_path(self._directory, location.pack))
        except OSError as error:
            if self._mirror is not None:
                with suppress(OSError):
                    return PackFile(pack_path(self._mirror, location.pack))
            kind = PackMissing if isinstance(error, FileNotFoundError) else DamagedInstance
            raise kind(location, f"the pack can't be opened: {error.strerror}") from error

    def close(self) -> None:
        """Let go of all packs; readers in use keep theirs."""
        with self._lock:
            self._files.clear()
