"""One pack, checked byte by byte: every byte of a sealed pack is covered by a checksum or has one value it may have.

What is covered by what: ``docs/format.md``. Nothing here writes.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from blake3 import blake3

from fastarchive.store.codec import CHECKSUM_SIZE, DamagedBlock, decode_block, verify_block
from fastarchive.store.pack import (
    PAGE,
    PackError,
    Seal,
    State,
    decode_identity,
    encode_page,
    encode_table,
    find_record,
    read_state,
    read_table,
    sealed_part_is_empty,
)
from fastarchive.store.record import (
    BLOCK_SIZE,
    FIXED_SIZE,
    RECORD_FRAME,
    RECORD_MAGIC,
    RECORD_VERSION,
    WITH_CONTENT,
    TornRecord,
    decode_blocks,
    decode_record,
    measure,
)

_WINDOW: Final = 512 << 10
"""Bytes read at a time: what was read is hashed while it is in the second-level cache."""
_METADATA: Final = 4096
_HEAD: Final = struct.Struct("<II4sIHxxIQ")
"""Of a record: frame, content length, magic, CRC, version, number of blocks, size."""
_CHECKED: Final = struct.Struct("<I12x8s")
"""Of an entry of the block table: length stored, checksum."""

Pace = Callable[[int], None]
"""Told how many bytes were read; may wait, and may raise to end the work."""


class Part(StrEnum):
    """What is damaged."""

    CONTENT = "content"
    """Stored bytes of an instance: its metadata is whole."""
    METADATA = "metadata"
    """A record that can't be read at all, or several."""
    HEADER = "header page"
    TABLE = "table of records"
    LENGTH = "length"
    COPY = "copy"
    """A whole pack is missing or can't be read, or two copies contradict each other."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Damage found in one copy of a pack."""

    pack: int
    part: Part
    offset: int
    size: int
    """Bytes from `offset` that are not what they should be, as far as that is known: the record, or the part."""
    reason: str
    sop_instance: str = ""
    """The instance it is about, if that can still be read."""
    mirror: bool = False
    """In the mirror's copy."""


@dataclass(slots=True)
class PackCheck:
    """What a pack holds and what is wrong with it."""

    pack: int
    state: State
    owned: bool
    """A process appends to it."""
    records: int = 0
    bytes: int = 0
    """Bytes read."""
    findings: list[Finding] = field(default_factory=list)
    good: dict[int, int] = field(default_factory=dict)
    """Offset and size of every whole record."""
    bad: list[int] = field(default_factory=list)
    """Offsets where a record should be and isn't whole, ascending."""


class Window:
    """Sequential reading of a file through one buffer. Views are valid until the next one is asked for."""

    def __init__(self, fd: int, limit: int, pace: Pace | None = None) -> None:
        """Nothing is read at or after the offset `limit`."""
        self.read = 0
        self._limit = limit
        self._fd = fd
        self._pace = pace
        self._buffer = bytearray(_WINDOW)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    def get(self, offset: int, size: int) -> memoryview:
        """Bytes of the file; fewer than `size` where it ends. Raises OSError."""
        if not (self._start <= offset and offset + size <= self._end):
            self._fill(offset, size)
        at = offset - self._start
        return self._view[at : min(at + size, self._end - self._start)]

    def _fill(self, offset: int, size: int) -> None:
        """Read on behind what is in memory already from `offset` on."""
        known, at = self.held(offset)
        kept = len(known) - at
        before = self._view
        if size > len(self._buffer):
            self._buffer = bytearray(size)
            self._view = memoryview(self._buffer)
        self._view[:kept] = before[at : at + kept]
        wanted = max(min(len(self._buffer), self._limit - offset), kept)
        count = os.preadv(self._fd, [self._view[kept:wanted]], offset + kept) if wanted > kept else 0
        self._start, self._end = offset, offset + kept + count
        self.read += count
        if self._pace is not None:
            self._pace(count)

    def held(self, offset: int) -> tuple[memoryview, int]:
        """What is in memory, and the place of an offset of the file in it; empty if it doesn't reach there."""
        if self._start <= offset < self._end:
            return self._view[: self._end - self._start], offset - self._start
        return self._view[:0], 0


def verify_quickly(window: Window, offset: int, end: int) -> int:
    """Check the record at `offset` in what the window has in memory: its size, or 0 if it isn't all there, isn't whole
    or doesn't end by `end`; then :func:`verify_record` tells. The same checks in half the time, for small records.
    """
    buffer, at = window.held(offset)
    if len(buffer) - at < FIXED_SIZE:
        return 0
    frame, content, magic, crc, version, count, total = _HEAD.unpack_from(buffer, at)
    metadata = at + content + 8
    table = metadata - count * BLOCK_SIZE
    whole = at + total
    if (
        frame != RECORD_FRAME
        or magic != RECORD_MAGIC
        or version != RECORD_VERSION
        or table < at + FIXED_SIZE
        or metadata > whole
        or whole > len(buffer)
        or offset + total > end
        or zlib.crc32(buffer[at + 16 : metadata], zlib.crc32(buffer[at : at + 12])) != crc
    ):
        return 0
    position = metadata
    for stored, checksum in _CHECKED.iter_unpack(buffer[table:metadata]):
        following = position + stored
        if following > whole or blake3(buffer[position:following]).digest(CHECKSUM_SIZE) != checksum:
            return 0
        position = following
    return total if position == whole else 0


def verify_record(window: Window, offset: int, end: int, *, deep: bool) -> int:
    """Check the record at `offset`, which must end by `end`; its size. `deep` decodes it and compares the digest too.

    Raises TornRecord for metadata, DamagedContent for blocks, OSError.
    """
    data = window.get(offset, min(_METADATA, end - offset))
    if len(data) >= FIXED_SIZE and measure(data).metadata > len(data):
        data = window.get(offset, measure(data).metadata)
    extent, blocks = decode_blocks(data)
    if offset + extent.total > end:
        raise TornRecord("the record goes beyond the end")
    # Bytes of its own: the view is gone when the window moves on.
    metadata = bytes(data[: extent.metadata]) if deep else None
    position = offset + extent.metadata
    hasher = blake3() if deep else None
    try:
        for block in blocks:
            stored = window.get(position, block.stored)
            verify_block(block, stored)
            if hasher is not None:
                hasher.update(decode_block(block, stored))
            position += block.stored
        if hasher is not None and metadata is not None:
            record = decode_record(metadata)
            if record.kind in WITH_CONTENT and hasher.digest() != record.digest:
                raise DamagedBlock("the content doesn't match its digest")
    except DamagedBlock as error:
        raise DamagedContent(str(error), extent.total) from error
    return extent.total


class DamagedContent(Exception):
    """The metadata of a record is whole and its content isn't. `size` is that of the record."""

    def __init__(self, reason: str, size: int) -> None:
        super().__init__(reason)
        self.size = size


def verify_pack(fd: int, pack: int, *, deep: bool = False, pace: Pace | None = None, locked: bool = False) -> PackCheck:
    """Check all of a sealed pack, or the durable part of an open one. Raises OSError when it can't be read.

    `locked` says that the caller holds the pack's lock by this descriptor.
    """
    check = PackCheck(pack, read_state(fd), not locked and _is_owned(fd))
    state = check.state
    length = os.fstat(fd).st_size
    window = Window(fd, length if state.seal is not None else min(state.end, length), pace)
    _verify_page(fd, check)
    if state.seal is not None and length != state.seal.length:
        check.findings.append(
            Finding(pack, Part.LENGTH, min(length, state.seal.length), abs(length - state.seal.length), "wrong length")
        )
    table = read_table(fd, state.seal) if state.seal is not None else []
    _verify_records(fd, check, window, table, min(state.end, length), deep=deep)
    if state.seal is not None:
        _verify_table(check, window, state.seal, table)
    check.records = len(check.good)
    check.bytes = window.read
    return check


def _is_owned(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _verify_page(fd: int, check: PackCheck) -> None:
    """The header page has no byte that isn't known: what it says is encoded again and compared."""
    page = os.pread(fd, PAGE, 0)
    reason = ""
    try:
        identity = decode_identity(page)
        if identity.pack != check.pack:
            reason = "the pack's id is not that of its name"
        elif check.state.seal is None and not sealed_part_is_empty(page):
            reason = "the seal is damaged"
        elif page != encode_page(identity, check.state.seal, check.state.durable) and not _is_written(check):
            reason = "the header page is damaged"
    except PackError as error:
        reason = str(error)
    if reason:
        check.findings.append(Finding(check.pack, Part.HEADER, 0, PAGE, reason))


def _is_written(check: PackCheck) -> bool:
    """Whether the durable length may change between two looks."""
    return check.owned and check.state.seal is None


def _verify_records(fd: int, check: PackCheck, window: Window, table: list[int], end: int, *, deep: bool) -> None:
    position = PAGE
    while position < end:
        size = 0 if deep else verify_quickly(window, position, end)
        if size:
            check.good[position] = size
            position += size
            continue
        try:
            size = verify_record(window, position, end, deep=deep)
        except DamagedContent as error:
            size, part, reason = error.size, Part.CONTENT, str(error)
        except TornRecord as error:
            size, part, reason = _following(fd, table, position, end) - position, Part.METADATA, str(error)
        else:
            check.good[position] = size
            position += size
            continue
        check.bad.append(position)
        name = salvage_name(fd, position)
        check.findings.append(Finding(check.pack, part, position, size, reason, sop_instance=name))
        position += size


def _verify_table(check: PackCheck, window: Window, seal: Seal, table: list[int]) -> None:
    size = max(seal.length - seal.records_end, 0)
    stored = window.get(seal.records_end, size)
    # Where a record is damaged, the walk may have found others than there are: the table's checksum has to do then.
    walked = check.bad or table == list(check.good)
    if stored != encode_table(table) or seal.records != len(table) or not walked:
        check.findings.append(Finding(check.pack, Part.TABLE, seal.records_end, size, "the table is damaged"))


def _following(fd: int, table: list[int], position: int, end: int) -> int:
    """Where the next record begins after one that can't be measured."""
    if table:
        index = bisect_right(table, position)
        return min(table[index], end) if index < len(table) else end
    following = find_record(fd, position + 1, end)
    return end if following is None else following


def salvage_name(fd: int, offset: int) -> str:
    """The SOP Instance UID of a damaged record, if the damage seems to lie elsewhere; or nothing. Raises OSError."""
    data = os.pread(fd, _METADATA, offset)
    try:
        length = measure(data).metadata
        if length > len(data):
            data = os.pread(fd, min(length, 1 << 20), offset)
        mended = bytearray(data[:length])
        mended[12:16] = zlib.crc32(mended[16:], zlib.crc32(mended[:12])).to_bytes(4, "little")
        name = decode_record(mended).sop_instance
    except TornRecord:
        return ""
    return name if name.isascii() and name.isprintable() else ""
