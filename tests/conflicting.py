"""Data sets that contend for one SOP Instance UID, for the tests of what becomes of them."""

from __future__ import annotations

import zlib

from fastarchive.archive import Archive, Receipt
from fastarchive.dicom.elements import Element, encode, walk
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE, encoding_of
from fastarchive.store.follow import Follower
from fastarchive.store.record import Location, Record
from tests.server.instances import small_instance, sop_instance_uid

IMPLICIT, EXPLICIT, DEFLATED, BIG = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
)
UID = sop_instance_uid(1)


def in_syntax(data: bytes, transfer_syntax: str) -> bytes:
    """A data set given in explicit VR little endian in another transfer syntax."""
    if transfer_syntax == DEFLATED:
        deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        return deflater.compress(data) + deflater.flush()
    return encode(walk(data, EXPLICIT_LITTLE), encoding_of(transfer_syntax))


def named(name: str, *, number: int = 1, pixels: int = 64, **more: tuple[str, bytes]) -> bytes:
    """A small instance, or one of many pixels, with a name and perhaps more elements: ``t00100020=("LO", b"4711")``."""
    elements = {element.tag: element for element in walk(small_instance(number), EXPLICIT_LITTLE)}
    if pixels > 64:
        elements[0x7FE00010] = Element(0x7FE00010, "OW", (bytes(range(256)) * (pixels // 256 + 1))[:pixels])
    elements[0x00100010] = Element(0x00100010, "PN", name.encode())
    for key, (vr, value) in more.items():
        elements[int(key[1:], 16)] = Element(int(key[1:], 16), vr, value)
    return encode(elements.values(), EXPLICIT_LITTLE)


def store(archive: Archive, data: bytes, *, transfer_syntax: str = EXPLICIT, calling_ae: str = "CT1") -> Receipt:
    """Store a data set."""
    return archive.store(data, transfer_syntax=transfer_syntax, calling_ae=calling_ae)


def records(archive: Archive) -> list[tuple[Location, Record]]:
    """Everything the log holds."""
    with Follower(archive.directory) as follower:
        return list(follower.poll(10_000))


def names(archive: Archive, number: int = 1) -> list[str]:
    """Patient's Name as queries tell it of a small instance, in each place where it is told."""
    uid = sop_instance_uid(number)
    return [row["PatientName"] for row in archive.find("IMAGE", {"SOPInstanceUID": uid}, ["PatientName"])]
