"""The attributes of a record as they are encoded, Explicit VR Little Endian without sequences (PS3.5 7.1.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from fastarchive.dicom.attributes import EVERY_LEVEL_TAGS, LEVEL_OF, PIXEL_TAGS, SPECIFIC_CHARACTER_SET, Level

_Place = tuple[int, int, int, bool]
"""Tag, start and end of a value from the start of the elements, and whether it is binary."""

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
KEPT: Final = INSTANCE_TAGS | COMMON_TAGS
"""What is read of the elements of an instance."""
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


class Layout:
    """Where the elements of an instance are, for all instances whose tags, VRs and lengths are the same."""

    __slots__ = ("expected", "mask", "picked", "values")

    def __init__(self, mask: int, expected: int, values: tuple[_Place, ...]) -> None:
        self.mask = mask
        self.expected = expected
        self.values = values
        self.picked: dict[tuple[int, ...], tuple[_Place, ...]] = {}
        """The places of some tags, in their order."""

    def pick(self, wanted: tuple[int, ...]) -> tuple[_Place, ...]:
        """Where these tags are; where there is none, a place of no length."""
        places = self.picked.get(wanted)
        if places is None:
            if len(self.picked) >= _MOST_PICKED:
                self.picked.clear()
            by_tag = {place[0]: place for place in self.values}
            places = self.picked[wanted] = tuple([by_tag.get(tag, (tag, 0, 0, True)) for tag in wanted])
        return places


_layouts: Final[dict[int, Layout]] = {}
"""The last one seen, by length: instances of a series differ in values, seldom in lengths."""
_MOST_LAYOUTS: Final = 4096
_MOST_PICKED: Final = 16


def layout_of(data: bytes) -> Layout:
    """Where the elements of an instance are: what :func:`instance_elements` reads, told by one comparison."""
    known = _layouts.get(len(data))
    if known is None or int.from_bytes(data, "little") & known.mask != known.expected:
        known = _learnt(data)
        if len(_layouts) >= _MOST_LAYOUTS:
            _layouts.clear()
        _layouts[len(data)] = known
    return known


def _learnt(data: bytes) -> Layout:
    mask = bytearray(b"\xff" * len(data))
    values = []
    for tag, vr, value, end in walk(data):
        start = end - len(value)
        mask[start:end] = bytes(len(value))
        if tag in KEPT:
            values.append((tag, start, end, vr in BINARY_VRS))
    number = int.from_bytes(mask, "little")
    return Layout(number, int.from_bytes(data, "little") & number, tuple(values))


def instance_elements(data: bytes, position: int = 0) -> dict[int, bytes]:
    """What describes an instance among the elements from `position` on, empty values left out."""
    if position:
        data = data[position:]
    return {
        tag: value
        for tag, start, end, binary in layout_of(data).values
        if (value := data[start:end]) and (binary or value.strip(PADDING))
    }


def instance_values(data: bytes, position: int, wanted: tuple[int, ...]) -> list[bytes]:
    """The values of some tags among the elements from `position` on, empty where nothing is said."""
    data = data[position:]
    return [
        value if (value := data[start:end]) and (binary or value.strip(PADDING)) else b""
        for _, start, end, binary in layout_of(data).pick(wanted)
    ]


def encode_elements(elements: dict[int, bytes]) -> bytes:
    """Elements of an instance, for :func:`instance_elements` to read: as UN, since values are as they should be."""
    return b"".join([_LONG.pack(tag >> 16, tag & 0xFFFF, b"UN", len(value)) + value for tag, value in elements.items()])
