"""One pack file: its header page, its table of records, its creation and its seal.

Layout, order of operations and reasons: ``docs/format.md``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from fastarchive.store.disk import DISK, Disk
from fastarchive.store.record import RECORD_FRAME, RECORD_MAGIC, Extent, Record, TornRecord, decode_record, measure

PAGE: Final = 4096
"""Bytes of the header page; the first record's offset."""
FORMAT_VERSION: Final = 1
HEADER_FRAME: Final = 0x184D2A50
TABLE_FRAME: Final = 0x184D2A53
PACKS: Final = "packs"
SPOOL: Final = "spool"

_IDENTITY = struct.Struct("<II8sHHIQQ")
_SEAL = struct.Struct("<8sQQQB7x")
_DURABLE = struct.Struct("<QQ")
_CRC = struct.Struct("<I")
_TABLE = struct.Struct("<II4sIQ")
_SEAL_OFFSET = 512
_DURABLE_OFFSET = 1024
_PACK_MAGIC = b"FASTPACK"
_SEAL_MAGIC = b"SEALED\0\0"
_TABLE_MAGIC = b"FTAB"
_ALL_BITS = (1 << 64) - 1
_READ_AHEAD = 4096
_SEARCH_PIECE = 1 << 20
_RECORD_START = struct.pack("<I", RECORD_FRAME)


class PackError(Exception):
    """A file is not a pack this program can read."""


class Seal(NamedTuple):
    """What a sealed pack says about itself."""

    records_end: int
    length: int
    records: int
    recovered: bool


class State(NamedTuple):
    """How far a pack may be read."""

    durable: int
    """Bytes on stable storage; 4096 if the page doesn't say."""
    seal: Seal | None
    known: bool = True
    """Whether the page says how far it is durable."""

    @property
    def end(self) -> int:
        """Offset up to which there are records to read."""
        return self.durable if self.seal is None else self.seal.records_end


@dataclass(frozen=True, slots=True)
class Identity:
    """Who made a pack."""

    pack: int
    created: int
    creator: int


def pack_path(directory: Path, pack: int) -> Path:
    """The file of a pack in the data directory `directory`."""
    return directory / PACKS / f"{pack:020d}.pack"


def list_packs(directory: Path, after: int = -1) -> list[int]:
    """The ids of all packs in the data directory that are greater than `after`, ascending."""
    first = f"{after + 1:020d}"
    try:
        names = os.listdir(directory / PACKS)  # noqa: PTH208 - names only, and many of them
    except FileNotFoundError:
        return []
    return sorted(
        int(name[:20])
        for name in names
        if name >= first and len(name) == 25 and name.endswith(".pack") and name[:20].isdecimal()
    )


def used_bytes(directory: Path, pack: int) -> int:
    """Bytes of a pack's file, without what an open one has reserved; 0 if it can't be read."""
    try:
        fd = os.open(pack_path(directory, pack), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        state = read_state(fd)
        length = os.fstat(fd).st_size
        return length if state.seal is not None or not state.known else min(state.durable, length)
    except OSError:
        return 0
    finally:
        os.close(fd)


def encode_page(identity: Identity, seal: Seal | None = None, durable: int = PAGE) -> bytes:
    """A header page; without `seal` that of an open pack."""
    fields = _IDENTITY.pack(
        HEADER_FRAME, PAGE - 8, _PACK_MAGIC, FORMAT_VERSION, 0, identity.creator, identity.pack, identity.created
    )
    page = bytearray(PAGE)
    page[: len(fields)] = fields
    _CRC.pack_into(page, len(fields), zlib.crc32(fields))
    page[_DURABLE_OFFSET : _DURABLE_OFFSET + _DURABLE.size] = encode_durable(durable)
    if seal is not None:
        part = encode_seal(seal)
        page[_SEAL_OFFSET : _SEAL_OFFSET + len(part)] = part
    return bytes(page)


def encode_seal(seal: Seal) -> bytes:
    """The seal as it is written."""
    fields = _SEAL.pack(_SEAL_MAGIC, *seal)
    return fields + _CRC.pack(zlib.crc32(fields))


def sealed_part_is_empty(page: bytes) -> bool:
    """Whether the header page shows no trace of a seal, not even of a damaged one."""
    return not any(page[_SEAL_OFFSET:_DURABLE_OFFSET])


def decode_identity(page: bytes) -> Identity:
    """Who made the pack with this header page. Raises PackError, also for versions to come."""
    if len(page) < PAGE:
        raise PackError("the header page is cut short")
    frame, length, magic, version, flags, creator, pack, created = _IDENTITY.unpack_from(page)
    if frame != HEADER_FRAME or length != PAGE - 8 or magic != _PACK_MAGIC:
        raise PackError("the file is not a pack")
    if version != FORMAT_VERSION or flags:
        raise PackError(f"pack format {version} with flags {flags} is not known")
    if _CRC.unpack_from(page, _IDENTITY.size)[0] != zlib.crc32(page[: _IDENTITY.size]):
        raise PackError("the header page is damaged")
    return Identity(pack, created, creator)


def encode_durable(length: int) -> bytes:
    """The durable length as it is published."""
    return _DURABLE.pack(length, length ^ _ALL_BITS)


def publish_durable(disk: Disk, fd: int, length: int) -> None:
    """Tell readers that the first `length` bytes are durable. Raises OSError."""
    disk.write(fd, (encode_durable(length),), _DURABLE_OFFSET)


def read_state(fd: int) -> State:
    """How far the pack may be read now. One system call; raises OSError."""
    for _ in range(8):
        page = os.pread(fd, _DURABLE_OFFSET + _DURABLE.size - _SEAL_OFFSET, _SEAL_OFFSET)
        if len(page) < _DURABLE_OFFSET + _DURABLE.size - _SEAL_OFFSET:
            break
        durable, inverted = _DURABLE.unpack_from(page, _DURABLE_OFFSET - _SEAL_OFFSET)
        if durable ^ inverted == _ALL_BITS and durable >= PAGE:
            return State(durable, _decode_seal(page))
    return State(PAGE, _decode_seal(page), known=False)


def _decode_seal(part: bytes) -> Seal | None:
    if not part.startswith(_SEAL_MAGIC) or len(part) < _SEAL.size + _CRC.size:
        return None
    if _CRC.unpack_from(part, _SEAL.size)[0] != zlib.crc32(part[: _SEAL.size]):
        return None
    _, records_end, length, records, recovered = _SEAL.unpack_from(part)
    return Seal(records_end, length, records, bool(recovered))


@dataclass(slots=True)
class OpenPack:
    """A pack its owner may append to."""

    pack: int
    fd: int
    path: Path
    offsets: array[int]
    """Offsets of its records."""
    end: int = PAGE
    """Where the next record goes; everything before is durable between groups."""
    reserved: int = 0
    """Up to where there is space set aside."""
    zeroed: int = 0
    """Up to where zeroes were written into it, ahead of the records."""


@contextmanager
def creation_lock(directory: Path, disk: Disk = DISK) -> Iterator[None]:
    """Hold the lock under which packs come into being: no `.new` file of a living process is without its own lock then.

    Raises OSError.
    """
    packs = directory / PACKS
    packs.mkdir(parents=True, exist_ok=True)
    gate = os.open(packs / "creation.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        disk.lock(gate, wait=True)
        yield
    finally:
        os.close(gate)


@contextmanager
def removal_lock(directory: Path, disk: Disk = DISK, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock under which packs whose records are elsewhere go away; `shared`: none goes meanwhile.

    Raises OSError.
    """
    gate = os.open(directory / PACKS / "removal.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        if shared:
            fcntl.flock(gate, fcntl.LOCK_SH)
        else:
            disk.lock(gate, wait=True)
        yield
    finally:
        os.close(gate)


def create_pack(directory: Path, reserve: int, disk: Disk = DISK, mirror: Path | None = None) -> OpenPack:
    """A new pack in the data directory, locked and visible, with `reserve` bytes set aside if the disk has them.

    Its id is greater than all in `mirror`, too. Raises OSError; nothing visible is left behind then.
    """
    with creation_lock(directory, disk):
        identity = next_identity(directory, mirror)
        return _create(directory, identity.pack, encode_page(identity), reserve, disk)


def next_identity(directory: Path, mirror: Path | None) -> Identity:
    """Who the next pack is; for whoever holds the creation lock. Raises OSError."""
    now = time.time_ns()
    known = [*list_packs(directory), *([] if mirror is None else list_packs(mirror))]
    return Identity(max(now, max(known, default=0) + 1), now, os.getpid())


def create_copy(mirror: Path, pack: int, page: bytes, reserve: int, disk: Disk = DISK) -> OpenPack:
    """An empty copy of a pack in the data directory `mirror`, with the same owner. As :func:`create_pack`."""
    if not mirror.is_dir():
        # Not mounted, maybe: nothing must be written to where it should be.
        raise FileNotFoundError(errno.ENOENT, "there is no folder for the mirror")
    with creation_lock(mirror, disk):
        if pack_path(mirror, pack).exists():
            raise FileExistsError(errno.EEXIST, "the mirror has its copy already")
        return _create(mirror, pack, page, reserve, disk)


def settle_folders(directory: Path, disk: Disk = DISK) -> None:
    """Make the folders of a data directory durable, which may be as new as its first pack. Raises OSError."""
    for folder in (directory, directory.resolve().parent):
        with suppress(PermissionError):  # somebody else's, and so not as new
            disk.sync_directory(folder)


def _create(directory: Path, pack: int, page: bytes, reserve: int, disk: Disk) -> OpenPack:
    final = pack_path(directory, pack)
    if not list_packs(directory):
        settle_folders(directory, disk)
    temporary = final.with_suffix(".new")
    fd = disk.create(temporary)
    try:
        disk.lock(fd)
        disk.write(fd, (page,), 0)
        if reserve > PAGE:
            try:
                disk.reserve(fd, reserve)
            except OSError:  # a saving only: without it, each sync also records the new length
                disk.truncate(fd, PAGE)
                reserve = 0
        disk.sync_all(fd)
        disk.rename(temporary, final)
        disk.sync_directory(final.parent)
    except BaseException:
        os.close(fd)
        # What can't be removed holds no record; recovery removes it.
        for path in (temporary, final):
            with suppress(OSError):
                disk.remove(path)
        raise
    return OpenPack(pack, fd, final, array("Q"), reserved=reserve)


def seal_pack(fd: int, records_end: int, offsets: Sequence[int], *, recovered: bool, disk: Disk = DISK) -> None:
    """Write the table of records and the seal; the pack never changes after. Raises OSError."""
    table = encode_table(offsets)
    length = records_end + len(table)
    disk.write(fd, (table,), records_end)
    disk.truncate(fd, length)
    publish_durable(disk, fd, records_end)
    disk.sync_all(fd)
    disk.write(fd, (encode_seal(Seal(records_end, length, len(offsets), recovered)),), _SEAL_OFFSET)
    disk.sync(fd)


def encode_table(offsets: Sequence[int]) -> bytes:
    """The table of records at the end of a sealed pack."""
    content = struct.pack(f"<Q{len(offsets)}Q", len(offsets), *offsets)
    return _TABLE.pack(TABLE_FRAME, 8 + len(content), _TABLE_MAGIC, zlib.crc32(content), len(offsets)) + content[8:]


def read_table(fd: int, seal: Seal) -> list[int]:
    """The offsets of all records of a sealed pack; empty when the table is damaged. Raises OSError."""
    data = os.pread(fd, seal.length - seal.records_end, seal.records_end)
    if len(data) < _TABLE.size:
        return []
    frame, length, magic, crc, count = _TABLE.unpack_from(data)
    if frame != TABLE_FRAME or magic != _TABLE_MAGIC or length + 8 != len(data) or crc != zlib.crc32(data[16:]):
        return []
    return list(struct.unpack_from(f"<{count}Q", data, _TABLE.size))


def read_record(
    fd: int, offset: int, end: int, decode: Callable[[bytes], Record] = decode_record
) -> tuple[Record, Extent]:
    """The metadata of the record at `offset`, which must lie before `end` with all of its blocks.

    Raises TornRecord, OSError.
    """
    data = os.pread(fd, min(_READ_AHEAD, end - offset), offset)
    extent = measure(data)
    if offset + extent.total > end:
        raise TornRecord("the record goes beyond the end")
    if extent.metadata > len(data):
        data = os.pread(fd, extent.metadata, offset)
    return decode(data), extent


def records(fd: int, start: int, end: int) -> Iterator[tuple[int, Extent, Record]]:
    """The records from `start` up to `end`. Raises TornRecord at the first thing that isn't one, and OSError."""
    while start < end:
        record, extent = read_record(fd, start, end)
        yield start, extent, record
        start += extent.total


def find_record(fd: int, start: int, end: int) -> int | None:
    """The offset of the first whole record at or after `start` that ends by `end`: the way past damage.

    Content may hold bytes that look like a record (a pack within a data set); use the table of a sealed pack first.
    """
    while start < end:
        piece = os.pread(fd, min(_SEARCH_PIECE, end - start), start)
        if len(piece) < len(_RECORD_START):
            return None
        at = piece.find(_RECORD_START)
        while at >= 0:
            if at + 12 > len(piece) or piece[at + 8 : at + 12] == RECORD_MAGIC:
                try:
                    read_record(fd, start + at, end)
                except TornRecord:
                    pass
                else:
                    return start + at
            at = piece.find(_RECORD_START, at + 1)
        start += len(piece) - len(_RECORD_START) + 1
        if len(piece) == len(_RECORD_START):
            return None
    return None
