"""The metadata of one record: what a pack says about an instance before the instance's own bytes follow.

A record is a zstd *skippable* frame with this metadata, then one frame for each block of content. Layout and reasons:
``docs/format.md``, "Record". Everything here is pure: bytes in, values out.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

RECORD_FRAME = 0x184D2A51
"""Magic number of the skippable frame that carries a record's metadata."""
RECORD_MAGIC = b"FREC"
RECORD_VERSION = 1
DIGEST_BLAKE3 = 1
"""Digest algorithm: BLAKE3, 256 bits."""
NO_DIGEST = bytes(32)

# frame magic, frame content size, magic, crc, version, kind, flags, blocks, record size, received, length, digest,
# digest algorithm, lengths of the seven strings, length of the attributes
_FIXED = struct.Struct("<II4sIHBBIQqQ32sB7BI")
_START, _REST = struct.Struct("<II4s"), struct.Struct("<HBBIQqQ32sB7BI")  # before and after the CRC
_EXTENT = struct.Struct("<II4sIHBBIQ")
_BLOCK = struct.Struct("<IIBBBxI8s")
_ORIGIN = struct.Struct("<QQ")
_MOVED = 1
"""Flag: the record was moved, and says from where."""
_CRC_OFFSET = 12
_AFTER_CRC = 16
BLOCK_SIZE = _BLOCK.size
"""Bytes of an entry of the block table (24)."""
FIXED_SIZE = _FIXED.size
"""Bytes needed from the start of a record before :func:`measure` can speak (92)."""


class TornRecord(ValueError):
    """The bytes are not a whole, undamaged record: torn by a crash, zeroes never written, or damaged since."""


class RecordKind(IntEnum):
    """What a record says."""

    INSTANCE = 1
    """An instance was received; its data set follows in blocks."""
    DELETION = 2
    """What the record names (a study, a series or an instance) was deleted; no blocks."""
    QUARANTINED = 3
    """As :attr:`INSTANCE`, but in quarantine: it is no instance of the archive."""
    QUARANTINE_END = 4
    """The data set with this digest, of this instance, is not in quarantine any more; no blocks."""


WITH_CONTENT = frozenset({RecordKind.INSTANCE, RecordKind.QUARANTINED})
"""Kinds of records that a data set follows in blocks."""
_KINDS = {int(kind): kind for kind in RecordKind}


class Codec(IntEnum):
    """How a block's bytes are stored."""

    RAW = 0
    """As they are, inside a skippable frame."""
    ZSTD = 1
    """One zstd frame."""


class Block(NamedTuple):
    """One block of content. ``filter``, ``width`` and ``distance`` are those of :mod:`fastarchive.store.filters`."""

    stored: int
    """Bytes in the pack, frame header included."""
    raw: int
    """Bytes of the data set the block stands for."""
    codec: int
    filter: int
    width: int
    """Bytes of a sample, for the filter."""
    distance: int
    """8-byte words from a row to the next, for the filter."""
    checksum: bytes
    """First 8 bytes of the BLAKE3 of the stored bytes."""


class Location(NamedTuple):  # made for every record that is read: a frozen dataclass takes four times as long
    """Where a record lies: the pack's id, and in bytes the record's offset and its whole size."""

    pack: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Offset of the first byte after the record."""
        return self.offset + self.size


@dataclass(slots=True, unsafe_hash=True)  # read by the million: a frozen one takes four times as long to make
class Record:
    """The metadata of one record, never changed once it is made.

    A :attr:`RecordKind.DELETION` names what it deletes by ``study``, ``series`` and ``sop_instance``, the lower ones
    empty when the whole study or series is meant; ``digest`` is zero and ``length`` 0.
    """

    kind: RecordKind
    received: int
    """Nanoseconds since the epoch, UTC."""
    digest: bytes
    """BLAKE3 (32 bytes) of the data set as received, without file meta information."""
    length: int
    """Bytes of the data set as received."""
    sop_class: str
    sop_instance: str
    study: str
    series: str
    transfer_syntax: str
    calling_ae: str
    called_ae: str
    attributes: bytes
    """The stored attributes as an Explicit VR Little Endian data set, value bytes untouched."""
    blocks: tuple[Block, ...]
    """Block 0 is the data set up to the value of its bulk element (all of it when there is none)."""
    origin: tuple[int, int] | None = None
    """Pack and offset where the record was first written, if compaction has moved it since."""

    def order(self, location: Location) -> tuple[int, int, int]:
        """The one order in which records of the same instance are settled: the earliest wins, everywhere alike.

        It is also what a record is told by: moved, it keeps its order, and two records of one order are copies.
        """
        return (self.received, *(self.origin or (location.pack, location.offset)))

    def moved_from(self, location: Location) -> Record:
        """This record, read at `location`, as it is written elsewhere."""
        return self if self.origin is not None else replace(self, origin=(location.pack, location.offset))


class Extent(NamedTuple):
    """How far a record reaches, in bytes from its start."""

    metadata: int
    """Bytes of the metadata frame; block frames follow."""
    total: int
    """Bytes of the whole record."""


def deletion(received: int, study: str, series: str = "", sop_instance: str = "", *, calling_ae: str = "") -> Record:
    """A deletion record naming a study, a series of it, or an instance of that."""
    return Record(
        RecordKind.DELETION, received, NO_DIGEST, 0, "", sop_instance, study, series, "", calling_ae, "", b"", ()
    )


def quarantine_end(received: int, quarantined: Record) -> Record:
    """A record that lets out of quarantine what was put there before it."""
    return replace(quarantined, kind=RecordKind.QUARANTINE_END, received=received, length=0, blocks=(), origin=None)


def encode_record(record: Record) -> bytes:
    """The metadata frame of `record`; the stored blocks must follow it in the pack, in order.

    Raises ValueError when a string is longer than 255 bytes or the digest isn't 32 bytes.
    """
    strings = [
        text.encode("utf-8")
        for text in (
            record.sop_class,
            record.sop_instance,
            record.study,
            record.series,
            record.transfer_syntax,
            record.calling_ae,
            record.called_ae,
        )
    ]
    lengths = [len(text) for text in strings]
    if max(lengths) > 255:
        raise ValueError("a UID or AE title of a record is longer than 255 bytes")
    if len(record.digest) != 32:
        raise ValueError(f"a digest has 32 bytes, not {len(record.digest)}")
    blocks = record.blocks
    origin = b"" if record.origin is None else _ORIGIN.pack(*record.origin)
    size = FIXED_SIZE + sum(lengths) + len(record.attributes) + len(origin) + _BLOCK.size * len(blocks)
    start = _START.pack(RECORD_FRAME, size - 8, RECORD_MAGIC)
    fixed = _REST.pack(
        RECORD_VERSION,
        record.kind,
        _MOVED if origin else 0,
        len(blocks),
        size + sum([block.stored for block in blocks]),
        record.received,
        record.length,
        record.digest,
        DIGEST_BLAKE3,
        *lengths,
        len(record.attributes),
    )
    rest = b"".join((fixed, *strings, record.attributes, origin, *[_BLOCK.pack(*block) for block in blocks]))
    return b"".join((start, zlib.crc32(rest, zlib.crc32(start)).to_bytes(4, "little"), rest))


def measure(data: bytes | bytearray | memoryview) -> Extent:
    """How far the record starting at ``data[0]`` reaches, from its first :data:`FIXED_SIZE` bytes; nothing is verified.

    Raises TornRecord when no record of a known version starts here.
    """
    if len(data) < FIXED_SIZE:
        raise TornRecord("record shorter than its fixed part")
    frame, content, magic, _, version, _, _, blocks, total = _EXTENT.unpack_from(data)
    if frame != RECORD_FRAME or magic != RECORD_MAGIC:
        raise TornRecord("no record starts here")
    if version != RECORD_VERSION:
        raise TornRecord(f"record version {version} is not known")
    metadata = content + 8
    if metadata < FIXED_SIZE + blocks * _BLOCK.size or total < metadata:
        raise TornRecord("record lengths contradict each other")
    return Extent(metadata, total)


def decode_blocks(data: bytes | bytearray | memoryview) -> tuple[Extent, list[Block]]:
    """How far the record at ``data[0]`` reaches and the blocks it lists, its checksum verified: all that a check needs.

    Raises TornRecord as :func:`decode_record`.
    """
    extent = measure(data)
    metadata = extent.metadata
    if len(data) < metadata:
        raise TornRecord("record metadata ends early")
    if zlib.crc32(data[_AFTER_CRC:metadata], zlib.crc32(data[:_CRC_OFFSET])) != int.from_bytes(data[12:16], "little"):
        raise TornRecord("record metadata checksum is wrong")
    count = int.from_bytes(data[20:24], "little")
    blocks = list(map(Block._make, _BLOCK.iter_unpack(data[metadata - count * _BLOCK.size : metadata])))
    if metadata + sum([block[0] for block in blocks]) != extent.total:
        raise TornRecord("record lengths contradict each other")
    return extent, blocks


def fixed_fields(data: bytes) -> tuple[Any, ...]:
    """The fields at the start of a record, in the order of ``docs/format.md``; nothing is verified."""
    return _FIXED.unpack_from(data)


def decode_record(data: bytes | bytearray | memoryview) -> Record:
    """The record whose metadata frame starts at ``data[0]``; bytes after the frame are ignored.

    Raises TornRecord when the frame is incomplete, its checksum is wrong or its version is unknown.
    """
    metadata, total = measure(data)
    if len(data) < metadata:
        raise TornRecord("record metadata ends early")
    fields = _FIXED.unpack_from(data)
    if zlib.crc32(data[_AFTER_CRC:metadata], zlib.crc32(data[:_CRC_OFFSET])) != fields[3]:
        raise TornRecord("record metadata checksum is wrong")
    kind = _KINDS.get(fields[5])
    if kind is None:
        raise TornRecord(f"record kind {fields[5]} is not known")
    if fields[6] & ~_MOVED or fields[12] != DIGEST_BLAKE3:
        raise TornRecord("the record uses flags or a digest that are not known")
    count, received, length, digest = fields[7], fields[9], fields[10], fields[11]
    ends = list(accumulate(fields[13:20], initial=0))
    attributes = FIXED_SIZE + ends[-1]
    blocks = origin_at = attributes + fields[20]
    if fields[6]:
        blocks += _ORIGIN.size
    if blocks + count * _BLOCK.size != metadata:
        raise TornRecord("record lengths contradict each other")
    joined = bytes(data[FIXED_SIZE:attributes])
    try:
        text = joined.decode("utf-8")
        if len(text) == len(joined):  # ASCII
            texts = [text[start:end] for start, end in pairwise(ends)]
        else:
            texts = [joined[start:end].decode("utf-8") for start, end in pairwise(ends)]
    except UnicodeDecodeError:
        raise TornRecord("a string of the record is not UTF-8") from None
    table = tuple(map(Block._make, _BLOCK.iter_unpack(data[blocks:metadata])))
    stored = metadata
    for block in table:
        stored += block[0]
    if stored != total:
        raise TornRecord("record lengths contradict each other")
    sop_class, sop_instance, study, series, transfer_syntax, calling_ae, called_ae = texts
    return Record(
        kind,
        received,
        digest,
        length,
        sop_class,
        sop_instance,
        study,
        series,
        transfer_syntax,
        calling_ae,
        called_ae,
        bytes(data[attributes:origin_at]),
        table,
        _ORIGIN.unpack_from(data, origin_at) if fields[6] else None,
    )
