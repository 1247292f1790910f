"""One data set on its way in: collected, digested, scanned, filtered and compressed in bounded memory."""

from __future__ import annotations

import re
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from blake3 import blake3

from fastarchive.dicom.attributes import SPECIFIC_CHARACTER_SET, STORED_TAGS
from fastarchive.dicom.elements import Element, Header, encode_element, scan_header
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE, encoding_of, is_deflated
from fastarchive.store.codec import AS_IT_IS, PLAIN, plan_encapsulated, plan_native
from fastarchive.store.disk import DISK, Disk
from fastarchive.store.encoding import BlockEncoder, EncodedRecord, Region, Spool
from fastarchive.store.filters import Buffer
from fastarchive.store.record import Record, RecordKind

__all__ = ["SPILL", "EncodedRecord", "Identity", "Intake", "IntakeError"]

SPILL: Final = 8 << 20
"""Bytes collected at which :meth:`Intake.drain` has to run before more is written."""
HEADER_LIMIT: Final = 16 << 20
"""Bytes in which the bulk element must begin for its pixels to be filtered and the header to be a block of its own."""
LONGEST_ATTRIBUTE: Final = 4096
"""Values longer than this stay out of a record's attributes."""

SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E

_FIRST_INFLATED = 64 << 10
_SHORT_HEADER = struct.Struct("<HH2sH")
_LONG_VRS = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"])
# What means itself in matching, in a path and in a log: printable ASCII without wildcards, backslash, slash and quote.
# More than PS3.5 9.1 allows, because letters and leading zeroes occur in the wild and do no harm.
_SAFE_UID = re.compile(r"[0-9A-Za-z][ !#-)+-.0->@-\[\]-~]{0,63}")


class IntakeError(Exception):
    """A data set that can't be taken in.

    `kind` is ``missing-uid``, ``bad-uid``, ``mismatch`` or ``malformed``; `comment` suits an Error Comment (at most 64
    characters, no patient data); `tag` is the offending element, if one is.
    """

    def __init__(self, kind: str, comment: str, tag: int | None = None) -> None:
        super().__init__(comment)
        self.kind = kind
        self.comment = comment[:64]
        self.tag = tag


class Identity(NamedTuple):
    """Which instance a data set is, and which data set of that instance."""

    sop_instance: str
    digest: bytes
    """BLAKE3 of the data set as received."""


class Intake:
    """Takes the bytes of one data set and makes a record of them.

    :meth:`write` is for the event loop; :meth:`drain`, :meth:`identify` and :meth:`finish` are for a thread, one at a
    time. Whatever the data set's size, it holds at most about twice :data:`HEADER_LIMIT`: larger objects go to the
    spool block by block.
    """

    def __init__(
        self,
        *,
        transfer_syntax: str,
        sop_class: str = "",
        sop_instance: str = "",
        calling_ae: str = "",
        called_ae: str = "",
        character_set: str = "",
        spool_directory: Path,
        reserve_bytes: int = 0,
        disk: Disk = DISK,
        is_known: Callable[[str], bool] | None = None,
    ) -> None:
        """`sop_class` and `sop_instance` are the affected ones of the request; empty ones are not compared.

        `character_set` is what the text is really in, whatever the data set declares; the record says so for queries,
        the data set is kept as it is. `reserve_bytes` stay free on the spool's disk. `is_known` tells of a SOP Instance
        UID whether it is stored: a large data set that most likely is there already is spooled as it is, since it will
        most likely be thrown away.
        """
        self.transfer_syntax = transfer_syntax
        self.calling_ae = calling_ae
        self.called_ae = called_ae
        self.character_set = character_set
        self.length = 0
        """Bytes written so far."""
        self.timings: dict[str, float] = {"digest": 0.0, "scan": 0.0, "compress": 0.0}
        """Seconds by stage."""
        self._affected = {SOP_CLASS_UID: _stripped(sop_class), SOP_INSTANCE_UID: _stripped(sop_instance)}
        self._encoding = encoding_of(transfer_syntax)
        self._spool_directory = spool_directory
        self._reserve_bytes = reserve_bytes
        self._is_known = is_known
        self._uids: dict[int, str] | None = None
        self._identity: Identity | None = None
        self._digested = False
        """Whether what is pending is in the digest already."""
        self._disk = disk
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._hasher = blake3()
        self._header: Header | None = None
        self._encoder: BlockEncoder | None = None
        self._spool: Spool | None = None

    @property
    def pending(self) -> int:
        """Bytes waiting in memory; from :data:`SPILL` on, :meth:`drain` has to run before more is written."""
        return self._pending_size

    @property
    def held(self) -> int:
        """Bytes it holds in memory between two calls: what is pending, and what the next block is to be made of."""
        return self.length if self._encoder is None else self._pending_size + self._encoder.waiting

    @property
    def spooled(self) -> bool:
        """Whether it has a spool file, which takes time to remove when it is large."""
        return self._spool is not None

    def write(self, chunk: Buffer) -> None:
        """The next bytes of the data set. Only collects; copies what isn't `bytes`."""
        self._pending.append(chunk if isinstance(chunk, bytes) else bytes(chunk))
        self._pending_size += len(chunk)
        self.length += len(chunk)

    def drain(self) -> None:
        """Digest and compress what is pending into the spool. Raises OSError (the spool's disk)."""
        if self._encoder is None:
            data = b"".join(self._pending)
            header = self._scan(data)
            if not header.complete and header.damage is None and len(data) < HEADER_LIMIT:
                # Not even the header is whole: it stays, and the next drain comes with as much again.
                self._pending, self._pending_size = [data], 0
                return
            self._pending = [data]
            del data
            self._spool = Spool(self._spool_directory, self._disk, reserve=self._reserve_bytes)
            self._begin(header, self._spool)
        self._consume()

    def identify(self) -> Identity:
        """The data set is complete: which one is it? Known before filter and compression, which the same one sent again
        does without.

        Raises IntakeError for one that is refused.
        """
        if self._identity is not None:
            return self._identity
        if self._encoder is None:
            data = b"".join(self._pending)
            self._pending = [data]
            self._header = self._scan(data)
            if not self._header.complete and self._header.damage is None:
                raise IntakeError("malformed", "the data set ends inside its header")
            del data
        assert self._header is not None
        self._uids = self._check(self._header)
        started = time.perf_counter()
        for chunk in self._pending:
            self._hasher.update(chunk)
        self._digested = True
        self.timings["digest"] += time.perf_counter() - started
        self._identity = Identity(self._uids[SOP_INSTANCE_UID], self._hasher.digest())
        return self._identity

    @property
    def whole(self) -> tuple[bytes, ...] | None:
        """The data set as received, while all of it is in memory; None afterwards."""
        return tuple(self._pending) if self._encoder is None else None

    def finish(self) -> EncodedRecord:
        """The record of the complete data set. Raises as :meth:`identify`, and OSError from the spool's disk."""
        if self._uids is None:
            self.identify()
        assert self._header is not None and self._uids is not None
        header, uids = self._header, self._uids
        if self._encoder is None:
            self._begin(header, None)
        assert self._encoder is not None
        encoder = self._encoder
        self._consume()
        started = time.perf_counter()
        encoder.finish()
        record = Record(
            kind=RecordKind.INSTANCE,
            received=time.time_ns(),
            digest=self._hasher.digest(),
            length=self.length,
            sop_class=uids[SOP_CLASS_UID],
            sop_instance=uids[SOP_INSTANCE_UID],
            study=uids[STUDY_INSTANCE_UID],
            series=uids[SERIES_INSTANCE_UID],
            transfer_syntax=self.transfer_syntax,
            calling_ae=self.calling_ae,
            called_ae=self.called_ae,
            attributes=_attributes(header, self.character_set),
            blocks=tuple(encoder.blocks),
        )
        encoded = EncodedRecord.of(record, encoder.buffers, self._spool)
        self.timings["compress"] += time.perf_counter() - started
        encoded.timings = self.timings
        return encoded

    def close(self) -> None:
        """Give memory and spool space back; after the record is in the log, or when it never will be."""
        self._pending = []
        self._encoder = None
        if self._spool is not None:
            self._spool.close()

    def _consume(self) -> None:
        """Digest and encode the pending chunks, letting go of each as it is done."""
        assert self._encoder is not None
        chunks, self._pending, self._pending_size = self._pending, [], 0
        chunks.reverse()
        while chunks:
            chunk = chunks.pop()
            started = time.perf_counter()
            if not self._digested:
                self._hasher.update(chunk)
            digested = time.perf_counter()
            self._encoder.feed(chunk)
            self.timings["digest"] += digested - started
            self.timings["compress"] += time.perf_counter() - digested

    def _scan(self, data: bytes) -> Header:
        started = time.perf_counter()
        if is_deflated(self.transfer_syntax):
            header = _scan_deflated(data)
        else:
            header = scan_header(data, self._encoding, STORED_TAGS, copy=LONGEST_ATTRIBUTE)
        self.timings["scan"] += time.perf_counter() - started
        return header

    def _begin(self, header: Header, spool: Spool | None) -> None:
        """Decide how the data set is cut, now that its header is known as far as it will ever be."""
        self._header = header
        pixel = header.pixel
        if is_deflated(self.transfer_syntax) or (spool is not None and self._seems_known(header)):
            regions = [Region(None, AS_IT_IS)]
        elif not header.complete:
            regions = [Region(None, PLAIN)]
        elif pixel is None:
            regions = [Region(header.bulk_offset, PLAIN, whole=True), Region(None, PLAIN)]
        elif pixel.length is None:
            regions = [
                Region(header.bulk_offset, PLAIN, whole=True),
                Region(None, plan_encapsulated(self.transfer_syntax)),
            ]
        else:
            regions = [
                Region(header.bulk_offset, PLAIN, whole=True),
                Region(pixel.length, plan_native(header)),
                Region(None, PLAIN),
            ]
        self._encoder = BlockEncoder(regions, spool)

    def _seems_known(self, header: Header) -> bool:
        uid = _uid(header.value(SOP_INSTANCE_UID))
        return self._is_known is not None and uid != "" and self._is_known(uid)

    def _check(self, header: Header) -> dict[int, str]:
        """The four UIDs of the data set, stripped. Raises IntakeError."""
        uids = {}
        for tag, name in (
            (SOP_CLASS_UID, "SOP Class UID"),
            (SOP_INSTANCE_UID, "SOP Instance UID"),
            (STUDY_INSTANCE_UID, "Study Instance UID"),
            (SERIES_INSTANCE_UID, "Series Instance UID"),
        ):
            uid = _uid(header.value(tag))
            if not uid:
                if header.damage is not None or not header.complete:
                    raise IntakeError("malformed", f"the data set can't be read up to its {name}", tag)
                raise IntakeError("missing-uid", f"{name} is missing or empty", tag)
            if not _SAFE_UID.fullmatch(uid):
                raise IntakeError("bad-uid", f"{name} is not a UID", tag)
            affected = self._affected.get(tag)
            if affected and affected != uid:
                raise IntakeError("mismatch", f"{name} differs from the request's", tag)
            uids[tag] = uid
        return uids


def _stripped(uid: str) -> str:
    return uid.strip(" \0")


def _uid(value: bytes | None) -> str:
    # Latin-1 can decode anything; what isn't ASCII is no safe UID.
    return "" if value is None else _stripped(value.decode("latin-1"))


def _attributes(header: Header, character_set: str) -> bytes:
    """The stored attributes as an Explicit VR Little Endian data set (PS3.5 7.1.2), values untouched."""
    if header.copied is not None and not character_set:
        return header.copied
    parts: list[bytes] = []
    elements = header.elements
    if character_set:
        real = Element(SPECIFIC_CHARACTER_SET, "CS", character_set.encode("ascii"))
        elements = {**elements, SPECIFIC_CHARACTER_SET: real}
    for tag, element in sorted(elements.items()):
        value = element.value
        length = len(value)
        if length > LONGEST_ATTRIBUTE:
            continue
        if length & 1 or element.vr in _LONG_VRS:
            parts.append(encode_element(element, EXPLICIT_LITTLE))
        else:
            parts += (_SHORT_HEADER.pack(tag >> 16, tag & 0xFFFF, element.vr.encode(), length), value)
    return b"".join(parts)


def _scan_deflated(data: bytes) -> Header:
    """The header of a deflated data set (PS3.5 A.5), inflating only as much as needed."""
    size = _FIRST_INFLATED
    while True:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            plain = inflater.decompress(data, size)
        except zlib.error:
            return Header({}, 0, None, complete=False, damage="not deflated", encoding=EXPLICIT_LITTLE)
        header = scan_header(plain, EXPLICIT_LITTLE, STORED_TAGS)
        if header.complete or header.damage is not None or len(plain) < size:
            return header
        if size >= HEADER_LIMIT:  # what more of it came would change nothing
            return replace(header, damage="the header is too long")
        size *= 4
