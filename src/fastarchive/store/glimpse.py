"""Records of which only what an ingest asks for is decoded at once.

A worker reads every record that any worker writes, to know which instances there are; all it mostly needs of one is
its UID.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final

from fastarchive.store.record import (
    BLOCK_SIZE,
    DIGEST_BLAKE3,
    FIXED_SIZE,
    RECORD_FRAME,
    RECORD_MAGIC,
    RECORD_VERSION,
    Record,
    RecordKind,
    TornRecord,
    decode_record,
    fixed_fields,
)

__all__ = ["glimpse", "glimpse_of_own"]

_CRC_OFFSET: Final = 12
_AFTER_CRC: Final = 16
_PLAIN: Final = (RECORD_FRAME, RECORD_MAGIC, RECORD_VERSION, RecordKind.INSTANCE, 0, DIGEST_BLAKE3)
"""What nearly all records begin with: an instance, without flags."""
_MOST_BLOCKS: Final = 8
_STORED: Final = struct.Struct("<I").unpack_from


class _Glimpsed(Record):
    """An instance's record; the fields that were not set are decoded when one of them is asked for."""

    __slots__ = ("_data",)
    _data: bytes

    def __getattr__(self, name: str) -> Any:
        if name not in Record.__slots__:
            raise AttributeError(name)
        data = self._data
        if data:  # else another thread has just set them all
            record = decode_record(data)
            for field in Record.__slots__:
                setattr(self, field, getattr(record, field))
            self._data = b""
        return object.__getattribute__(self, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return all(getattr(self, field) == getattr(other, field) for field in Record.__slots__)

    __hash__ = Record.__hash__


def glimpse_of_own(data: bytes, sop_class: str, sop_instance: str, received: int, digest: bytes) -> Record:
    """The record of an instance that begins `data`, which this process has just made: known to be good."""
    record = _Glimpsed.__new__(_Glimpsed)
    record._data = data
    record.kind = RecordKind.INSTANCE
    record.received = received
    record.digest = digest
    record.sop_class = sop_class
    record.sop_instance = sop_instance
    record.origin = None
    return record


def glimpse(data: bytes) -> Record:
    """As :func:`decode_record`; raises TornRecord for the same bytes."""
    if len(data) < FIXED_SIZE:
        raise TornRecord("record shorter than its fixed part")
    fields = fixed_fields(data)
    count = fields[7]
    metadata = fields[1] + 8
    strings = FIXED_SIZE + sum(fields[13:20])
    blocks = strings + fields[20]
    if (
        (fields[0], fields[2], *fields[4:7], fields[12]) != _PLAIN
        or count > _MOST_BLOCKS
        or metadata != blocks + count * BLOCK_SIZE
        or len(data) < metadata
        or zlib.crc32(data[_AFTER_CRC:metadata], zlib.crc32(data[:_CRC_OFFSET])) != fields[3]
        or not data[FIXED_SIZE:strings].isascii()
        or fields[8] != metadata + sum([_STORED(data, blocks + BLOCK_SIZE * block)[0] for block in range(count)])
    ):
        return decode_record(data)  # it has something, or something is wrong with it
    first, second = fields[13], fields[14]
    record = _Glimpsed.__new__(_Glimpsed)
    record._data = data if len(data) == metadata else data[:metadata]
    record.kind = RecordKind.INSTANCE
    record.received = fields[9]
    record.digest = fields[11]
    record.sop_class = data[FIXED_SIZE : FIXED_SIZE + first].decode()
    record.sop_instance = data[FIXED_SIZE + first : FIXED_SIZE + first + second].decode()
    record.origin = None
    return record
