"""The attributes of a record as they are encoded, Explicit VR Little Endian without sequences (PS3.5 7.1.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from fastarchive.dicom.attributes import EVERY_LEVEL_TAGS, LEVEL_OF, PIXEL_TAGS, SPECIFIC_CHARACTER_SET, Level

SHORT: Final = struct.Struct("<HH2sH")
_LONG: Final = struct.Struct("<HH2s2xI")
LONG_VRS: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
TEXT_VRS: Final = frozenset({b"LO", b"LT", b"PN", b"SH", b"ST", b"UC", b"UT"})
BINARY_VRS: Final = frozenset({b"AT", b"FD", b"FL", b"SL", b"SS", b"UL", b"US", *LONG_VRS}) - {b"UC", b"UR", b"UT"}
PADDING: Final = b" \0\\^="
"""What says nothing in a value of a VR that isn't binary."""

COMMON_TAGS: Final = EVERY_LEVEL_TAGS - {SPECIFIC_CHARACTER_SET}
"""What every document of every level has from its records."""
INSTANCE_TAGS: Final = frozenset(tag for tag, level in LEVEL_OF.items() if level is Level.IMAGE)
"""What describes an instance."""
_KEPT: Final = INSTANCE_TAGS | COMMON_TAGS
BELOW_SERIES: Final = INSTANCE_TAGS | PIXEL_TAGS
"""What may differ from instance to instance of a series."""


def walk(data: bytes, position: int = 0) -> Iterator[tuple[int, bytes, bytes, int]]:
    """(tag, VR, value, end) of each element from `position` on; stops at anything malformed."""
    end = len(data)
    while position + 8 <= end:
        group, element, vr, size = SHORT.unpack_from(data, position)
        start = position + 8
        if vr in LONG_VRS:
            if position + 12 > end:
                return
            size = _LONG.unpack_from(data, position)[3]
            start = position + 12
        position = start + size
        if position > end:
            return
        yield group << 16 | element, vr, data[start:position], position


def instance_elements(data: bytes, position: int = 0) -> dict[int, bytes]:
    """What describes an instance among the elements from `position` on, empty values left out."""
    # A walk written out: this runs for every instance that a query looks at.
    found: dict[int, bytes] = {}
    unpack, end = SHORT.unpack_from, len(data)
    while position + 8 <= end:
        group, element, vr, size = unpack(data, position)
        position += 8
        if vr in LONG_VRS:
            if position + 4 > end:
                break
            size = int.from_bytes(data[position : position + 4], "little")
            position += 4
        tag = group << 16 | element
        value = data[position : position + size]
        position += size
        if position > end:
            break
        if tag in _KEPT and (value.strip(PADDING) or (value and vr in BINARY_VRS)):
            found[tag] = value
    return found


def encode_elements(elements: dict[int, bytes]) -> bytes:
    """Elements of an instance, for :func:`instance_elements` to read: as UN, since values are as they should be."""
    return b"".join([_LONG.pack(tag >> 16, tag & 0xFFFF, b"UN", len(value)) + value for tag, value in elements.items()])
