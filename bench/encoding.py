"""A minimal Explicit VR Little Endian writer (PS3.5 7.1.2), independent of the archive that is measured.

The harness must not share code with what it judges, and pydicom's writer is a hundred times too slow to feed a fast
archive; what is needed here fits on one page.
"""

from __future__ import annotations

import struct
from pathlib import Path

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
IMPLEMENTATION_CLASS_UID = "2.25.184319022171044517329823310476318906741"

_LONG_FORM = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_NUL_PADDED = frozenset({"OB", "OW", "UI", "UN"})
_NUMBERS = {"US": "<H", "SS": "<h", "UL": "<L", "SL": "<l", "FL": "<f", "FD": "<d"}


def encode_value(vr: str, value: str | int | float | bytes | tuple[int | float, ...]) -> bytes:
    """The value field of one element, unpadded. Text becomes ASCII; other repertoires are handed in as bytes."""
    if isinstance(value, bytes):
        return value
    if vr in _NUMBERS:
        numbers = value if isinstance(value, tuple) else (value,)
        return b"".join(struct.pack(_NUMBERS[vr], number) for number in numbers)
    return str(value).encode("ascii")


def element(tag: int, vr: str, value: str | int | float | bytes | tuple[int | float, ...]) -> bytes:
    """One encoded data element: tag, VR, length and value, padded to an even length (PS3.5 6.2, 7.1)."""
    field = encode_value(vr, value)
    if len(field) % 2:
        field += b"\0" if vr in _NUL_PADDED else b" "
    start = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode("ascii")
    if vr in _LONG_FORM:
        return start + struct.pack("<HL", 0, len(field)) + field
    return start + struct.pack("<H", len(field)) + field


def short_element(head: bytes, text: str, pad: bytes = b" ") -> bytes:
    """An element of ASCII text whose tag and VR are encoded already, with a 2-byte length: for the hottest loops."""
    field = text.encode("ascii")
    if len(field) & 1:
        field += pad
    return head + len(field).to_bytes(2, "little") + field


def sequence(tag: int, *items: bytes) -> bytes:
    """A sequence of explicit length whose items hold the encoded elements given (PS3.5 7.5)."""
    return element(tag, "SQ", b"".join(struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item for item in items))


def file_meta(sop_class: str, sop_instance: str, transfer_syntax: str) -> bytes:
    """The preamble, prefix and File Meta Information of a file (PS3.10 7.1)."""
    body = (
        element(0x00020001, "OB", b"\x00\x01")
        + element(0x00020002, "UI", sop_class)
        + element(0x00020003, "UI", sop_instance)
        + element(0x00020010, "UI", transfer_syntax)
        + element(0x00020012, "UI", IMPLEMENTATION_CLASS_UID)
    )
    return b"\0" * 128 + b"DICM" + element(0x00020000, "UL", len(body)) + body


def data_set_offset(file: bytes) -> int:
    """Where the data set starts in the bytes of a file: 0 when there is no preamble.

    Trusts no group length: some writers leave it out or wrong. File Meta Information is always Explicit VR
    Little Endian (PS3.10 7.1).
    """
    if file[128:132] != b"DICM":
        return 0
    offset = 132
    while file[offset : offset + 2] == b"\x02\x00":
        vr = file[offset + 4 : offset + 6].decode("ascii", "replace")
        if vr in _LONG_FORM:
            offset += 12 + int(struct.unpack_from("<L", file, offset + 8)[0])
        else:
            offset += 8 + int(struct.unpack_from("<H", file, offset + 6)[0])
    return offset


def data_set_of(path: Path) -> bytes:
    """The data set of a file, without its File Meta Information."""
    file = path.read_bytes()
    return file[data_set_offset(file) :]


def sop_instance_of(path: Path) -> str:
    """The Media Storage SOP Instance UID (0002,0003) of a file; empty without one."""
    with path.open("rb") as file:
        meta = file.read(2048)
    start = meta.find(b"\x02\x00\x03\x00UI", 128)
    if start < 0:
        return ""
    length = int.from_bytes(meta[start + 6 : start + 8], "little")
    return meta[start + 8 : start + 8 + length].decode("ascii", "replace").rstrip("\0 ")
