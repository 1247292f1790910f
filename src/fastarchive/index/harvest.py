"""The records of all packs read front to back, for an index that is built anew: in large pieces, each reader its share.

Records are dealt out to several readers by whose they are, so that whatever is merged into one document nearly always
comes to one reader. Records without a Patient ID are dealt by their study, and what only decoding would tell apart all
goes to the first. Deletions come to every reader.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from fastarchive.native import harvest as native
from fastarchive.store.pack import PAGE, PackError, decode_identity, list_packs, pack_path, read_state
from fastarchive.store.record import FIXED_SIZE, Location, Record, RecordKind, TornRecord, decode_record, measure

_LARGE_PIECE: Final = 1 << 20
_SMALL_PIECE: Final = 4096
_SPARSE: Final = 32 << 10
"""Records this far apart are read one by one."""
_PATIENT_ID: Final = b"\x10\x00\x20\x00LO"
_LONGEST_DEALT: Final = 128
_KIND_OFFSET: Final = 18
_STRINGS_OFFSET: Final = 81


class Share(NamedTuple):
    """Which reader of how many, from 0."""

    number: int
    of: int


def ends_of(directory: Path) -> dict[int, int]:
    """How far each pack of the data folder can be read now; packs that can't be read at all are left out.

    Raises OSError.
    """
    ends: dict[int, int] = {}
    for pack in list_packs(directory):
        fd = os.open(pack_path(directory, pack), os.O_RDONLY | os.O_CLOEXEC)
        try:
            decode_identity(os.pread(fd, PAGE, 0))
            ends[pack] = read_state(fd).end
        except PackError:
            continue
        finally:
            os.close(fd)
    return ends


class Harvest:
    """Reads the records before `ends` of the packs of a data folder that fall to `share`.

    Raises OSError.
    """

    def __init__(self, directory: Path, ends: Mapping[int, int], share: Share) -> None:
        self._directory = directory
        self._ends = ends
        self._share = share
        self.positions: dict[int, int] = {}
        """How far each pack was read: to its end, or to the first thing that is no record."""
        self.passed = 0
        """Records read or left to others."""

    def records(self) -> Iterator[tuple[Location, Record]]:
        """Pack by pack, in the order they were appended."""
        for pack, end in sorted(self._ends.items()):
            fd = os.open(pack_path(self._directory, pack), os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield from self._of_pack(pack, fd, end)
            finally:
                os.close(fd)

    def _of_pack(self, pack: int, fd: int, end: int) -> Iterator[tuple[Location, Record]]:
        number, of = self._share
        deal = deal_by_python if native.deal is None else native.deal
        position = self.positions[pack] = PAGE
        size = _LARGE_PIECE
        while position < end:
            piece = os.pread(fd, min(size, end - position), position)
            share = deal(piece, end - position, number, of)
            for at, metadata, total, before in share.found:
                try:
                    record = decode_record(piece[at : at + metadata])
                except TornRecord:
                    self.passed += before
                    self.positions[pack] = position + at
                    return
                yield Location(pack, position + at, total), record
            self.passed += share.passed
            position += share.following
            self.positions[pack] = position
            if share.ended or (not share.following and size >= share.needed):  # the file ends before
                return
            size = max(_SMALL_PIECE if share.last > _SPARSE else _LARGE_PIECE, share.needed)


def deal_by_python(piece: bytes, left: int, reader: int, of: int) -> native.Dealt:
    """As :data:`fastarchive.native.harvest.deal`."""
    found: list[native.Found] = []
    at, needed, last, passed, ended = 0, 0, 0, 0, False
    while at < left and len(found) < native.MOST:
        needed = FIXED_SIZE
        if at + FIXED_SIZE > len(piece):
            ended = left - at < FIXED_SIZE
            break
        try:
            extent = measure(piece[at : at + FIXED_SIZE])
        except TornRecord:
            ended = True
            break
        if extent.total > left - at:
            ended = True
            break
        needed = extent.metadata
        if at + needed > len(piece):
            break
        metadata = piece[at : at + needed]
        if of == 1 or metadata[_KIND_OFFSET] != RecordKind.INSTANCE or dealt(metadata, of) == reader:
            found.append((at, needed, extent.total, passed))
        elif not is_whole(metadata):
            ended = True
            break
        passed += 1
        last = extent.total
        at += last
    return native.Dealt(found, at, needed, last, passed, ended)


def is_whole(metadata: bytes) -> bool:
    """Whether the checksum of a record's metadata is right."""
    return zlib.crc32(metadata[16:], zlib.crc32(metadata[:12])) == int.from_bytes(metadata[12:16], "little")


def dealt(metadata: bytes, of: int) -> int:
    """Which of `of` readers an instance's record falls to."""
    lengths = metadata[_STRINGS_OFFSET : _STRINGS_OFFSET + 7]
    attributes = FIXED_SIZE + sum(lengths)
    found = metadata.find(_PATIENT_ID, attributes)
    whose = b""
    if found >= 0:
        length = int.from_bytes(metadata[found + 6 : found + 8], "little")
        whose = metadata[found + 8 : found + 8 + length].strip(b" \0")
        if len(whose) > _LONGEST_DEALT or not whose.isascii() or b"\x1b" in whose:
            return 0
    if not whose:
        start = FIXED_SIZE + lengths[0] + lengths[1]
        whose = metadata[start : start + lengths[2]]
    return zlib.crc32(whose) % of
