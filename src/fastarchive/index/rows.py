"""Documents as bytes: the stored ``row`` of the index. Private to one schema version; never read by anything else."""

from __future__ import annotations

import struct
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from fastarchive.dicom.attributes import Level
from fastarchive.index.documents import KEY_SEPARATOR, Document
from fastarchive.index.encoded import instance_values
from fastarchive.index.table import encode_table, table_values
from fastarchive.store.record import Location

_LEVELS: Final = tuple(Level)
_IMAGE: Final = Level.IMAGE.depth
# level, rowid, received, pack, offset, size of the record, pack and offset it was moved from (0: it wasn't), length of
# the data set, digest, lengths of six strings
_INSTANCE: Final = struct.Struct("<BQQQQQQQQ32s6H")
# level, rowid, studies, series, instances, lengths of five strings
_ENTITY: Final = struct.Struct("<BQIII5H")
# Where the lengths of patient, study and series are, the first of the strings.
_THREE: Final = struct.Struct("<3H")
_FIVE, _SIX = struct.Struct("<5H"), struct.Struct("<6H")
_INSTANCE_LENGTHS, _INSTANCE_STRINGS = _INSTANCE.size - 12, _INSTANCE.size - 6
_ENTITY_LENGTHS, _ENTITY_STRINGS = _ENTITY.size - 10, _ENTITY.size - 4
_lengths_of: Final = itemgetter(slice(_INSTANCE_LENGTHS, _INSTANCE_STRINGS))


def encode_row(document: Document) -> bytes:
    """`document` as bytes."""
    if document.level is Level.IMAGE:
        texts = (
            document.patient,
            document.study,
            document.series,
            document.instance,
            document.transfer_syntax,
            document.sop_class,
        )
        joined = "".join(texts)
        if joined.isascii():
            strings, lengths = joined.encode(), [len(text) for text in texts]
        else:
            encoded = [text.encode() for text in texts]
            strings, lengths = b"".join(encoded), [len(text) for text in encoded]
        location = document.location
        fixed = _INSTANCE.pack(
            _IMAGE,
            document.rowid,
            document.received,
            location.pack,
            location.offset,
            location.size,
            *(document.origin or _NOT_MOVED),
            document.length,
            document.digest,
            *lengths,
        )
        return b"".join((fixed, strings, document.encoded_elements()))
    return encode_entity(document)[0]


def encode_entity(document: Document) -> tuple[bytes, int]:
    """A patient, study or series as bytes, and where the table of its elements begins in them."""
    encoded = [
        text.encode()
        for text in (
            document.patient,
            document.study,
            document.series,
            KEY_SEPARATOR.join(document.modalities),
            KEY_SEPARATOR.join(document.sop_classes),
        )
    ]
    strings = b"".join(encoded)
    fixed = _ENTITY.pack(
        document.level.depth,
        document.rowid,
        document.number_of_studies,
        document.number_of_series,
        document.number_of_instances,
        *map(len, encoded),
    )
    return b"".join((fixed, strings, encode_table(document.elements, document.origins))), len(fixed) + len(strings)


def decode_row(row: bytes) -> Document:
    """The document of a row; it is taken apart when something of it is first asked for, its elements later still."""
    document = StoredDocument.__new__(StoredDocument)
    document.row = row
    document.level = _LEVELS[row[0]]
    document._elements = None
    return document


class StoredDocument(Document):
    """A document as it is stored."""

    __slots__ = ("row",)

    row: bytes

    @property
    def key(self) -> str:
        row, level = self.row, self.level
        if level is Level.IMAGE:
            patient, study, series, instance, _, _ = _SIX.unpack_from(row, _INSTANCE_LENGTHS)
            start = _INSTANCE.size + patient + study + series
            return row[start : start + instance].decode()
        patient, study, series, _, _ = _FIVE.unpack_from(row, _ENTITY_LENGTHS)
        start = _ENTITY.size
        if level is Level.PATIENT:
            return row[start : start + patient].decode()
        start += patient
        if level is Level.STUDY:
            return row[start : start + study].decode()
        middle = start + study
        return f"{row[start:middle].decode()}{KEY_SEPARATOR}{row[middle : middle + series].decode()}"

    @property
    def ancestry(self) -> Hashable:
        row = self.row
        if self.level is Level.IMAGE:
            lengths = row[_INSTANCE_LENGTHS:_INSTANCE_STRINGS]
            start = _INSTANCE.size
        else:
            lengths = row[_ENTITY_LENGTHS:_ENTITY_STRINGS]
            start = _ENTITY.size
        patient, study, series = _THREE.unpack(lengths)
        return lengths + row[start : start + patient + study + series]

    def pick(self, tags: tuple[int, ...]) -> list[bytes]:
        if self._elements is not None:
            return super().pick(tags)
        row = self.row
        if self.level is Level.IMAGE:
            return instance_values(row, _INSTANCE.size + sum(_SIX.unpack_from(row, _INSTANCE_LENGTHS)), tags)
        return table_values(row, _ENTITY.size + sum(_FIVE.unpack_from(row, _ENTITY_LENGTHS)), tags)

    def __getattr__(self, name: str) -> Any:
        if name == "row" or name not in Document.__slots__:
            raise AttributeError(name)
        _take_apart(self, self.row)
        return getattr(self, name)


def are_one_family(documents: Sequence[Document]) -> bool:
    """Whether all of several instances are stored and have the same patient, study and series: quicker to say than what
    the ancestry of each is."""
    rows = [document.row for document in documents if type(document) is StoredDocument]
    if len(rows) < len(documents) or rows[0][0] != _IMAGE:
        return False
    lengths = rows[0][_INSTANCE_LENGTHS:_INSTANCE_STRINGS]
    names = itemgetter(slice(_INSTANCE.size, _INSTANCE.size + sum(_THREE.unpack(lengths))))
    return _all_alike(map(_lengths_of, rows), len(rows)) and _all_alike(map(names, rows), len(rows))


def _all_alike(values: Iterable[bytes], number: int) -> bool:
    listed = list(values)
    return listed.count(listed[0]) == number


def _take_apart(document: Document, row: bytes) -> None:
    document._origins = None
    if document.level is Level.IMAGE:
        (
            _,
            document.rowid,
            received,
            pack,
            offset,
            size,
            first_pack,
            first_offset,
            document.length,
            document.digest,
            a,
            b,
            c,
            d,
            e,
            f,
        ) = _INSTANCE.unpack_from(row)
        document.received = received
        document.location = Location(pack, offset, size)
        document.origin = (first_pack, first_offset) if first_pack else None
        start = _INSTANCE.size
        document.patient = row[start : (start := start + a)].decode()
        document.study = row[start : (start := start + b)].decode()
        document.series = row[start : (start := start + c)].decode()
        document.instance = row[start : (start := start + d)].decode()
        document.transfer_syntax = row[start : (start := start + e)].decode()
        document.sop_class = row[start : (start := start + f)].decode()
        document.number_of_studies = document.number_of_series = document.number_of_instances = 0
        document.modalities = document.sop_classes = ()
        document._packed = (row, start)
        return
    (
        _,
        document.rowid,
        document.number_of_studies,
        document.number_of_series,
        document.number_of_instances,
        a,
        b,
        c,
        d,
        e,
    ) = _ENTITY.unpack_from(row)
    start = _ENTITY.size
    document.patient = row[start : (start := start + a)].decode()
    document.study = row[start : (start := start + b)].decode()
    document.series = row[start : (start := start + c)].decode()
    document.modalities = _several(row[start : (start := start + d)])
    document.sop_classes = _several(row[start : (start := start + e)])
    document.instance = document.transfer_syntax = document.sop_class = ""
    document.received = document.length = 0
    document.location, document.origin, document.digest = _NOWHERE, None, _NO_DIGEST
    document._packed = (row, start)


@lru_cache(maxsize=4096)
def _several(joined: bytes) -> tuple[str, ...]:
    """Values in one string; the same few come again and again."""
    return tuple(joined.decode().split(KEY_SEPARATOR)) if joined else ()


_NOT_MOVED: Final = (0, 0)
_NOWHERE: Final = Location(0, 0, 0)
_NO_DIGEST: Final = bytes(32)
