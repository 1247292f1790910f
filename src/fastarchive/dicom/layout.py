"""How data elements are laid out in bytes (PS3.5 section 7): lengths, delimiters, byte order, skipping."""

from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from fastarchive.dicom.transfer_syntaxes import IMPLICIT_LITTLE, Encoding

Buffer = bytes | bytearray | memoryview

UNDEFINED_LENGTH: Final = 0xFFFFFFFF
DELIMITER_GROUP: Final = 0xFFFE
ITEM: Final = 0xFFFEE000
ITEM_DELIMITATION: Final = 0xFFFEE00D
SEQUENCE_DELIMITATION: Final = 0xFFFEE0DD

_SHORT_NAMES: Final = (
    *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FL", "FD", "IS", "LO", "LT"),
    *("PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
)
_LONG_NAMES: Final = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
SHORT_VRS: Final = frozenset(name.encode() for name in _SHORT_NAMES)
"""VRs with a 16-bit length in explicit VR (PS3.5 Table 7.1-2)."""
LONG_VRS: Final = frozenset(name.encode() for name in _LONG_NAMES)
"""VRs with two reserved bytes and a 32-bit length in explicit VR (PS3.5 Table 7.1-1)."""
VR_NAMES: Final = {name.encode(): name for name in _SHORT_NAMES + _LONG_NAMES}

WORD_SIZE: Final = {
    **dict.fromkeys(("AT", "OW", "SS", "US"), 2),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}
"""Bytes per number of the VRs whose values depend on the byte order (PS3.5 7.3)."""

EXPLICIT_HEADER: Final = {True: Struct("<HH2sH"), False: Struct(">HH2sH")}
"""Group, element, VR and 16-bit length, by `Encoding.little`."""
IMPLICIT_HEADER: Final = {True: Struct("<HHL"), False: Struct(">HHL")}
"""Group, element and 32-bit length, by `Encoding.little`; items and delimiters always look like this."""
LONG_LENGTH: Final = {True: Struct("<L"), False: Struct(">L")}
"""The 32-bit length after two reserved bytes, by `Encoding.little`."""


class Element(NamedTuple):
    """One data element. `tag` is group << 16 | element; `value` is little endian, as stored, padding included."""

    tag: int
    vr: str
    value: bytes


class ElementError(ValueError):
    """Bytes that are not data elements. `offset` is where, counted from the start of what was walked."""

    def __init__(self, reason: str, offset: int = 0, tag: int | None = None) -> None:
        super().__init__(f"{reason} at byte {offset}" + ("" if tag is None else f" in {tag:08X}"))
        self.reason = reason
        self.offset = offset
        self.tag = tag


class IncompleteError(ElementError):
    """The data ended inside an element: there may be more to come."""


@lru_cache(maxsize=256)
def vr_name(vr: bytes) -> str:
    """A VR as text, "" if the bytes are none. Two capitals nobody knows are taken as a VR with a 16-bit length."""
    if vr in VR_NAMES:
        return VR_NAMES[vr]
    return vr.decode("ascii") if vr.isalpha() and vr.isupper() else ""


def inner_encoding(encoding: Encoding, vr: bytes) -> Encoding:
    """The encoding of the items in a value: a UN that is a sequence is implicit little endian (PS3.5 6.2.2)."""
    return IMPLICIT_LITTLE if vr == b"UN" else encoding


def item_encoding(data: Buffer, start: int, end: int, encoding: Encoding) -> Encoding:
    """The encoding of the item whose content starts at `start`: some writers put implicit items in explicit data."""
    if encoding.explicit and start + 8 <= end:
        group, _, vr, _ = EXPLICIT_HEADER[encoding.little].unpack_from(data, start)
        if group != DELIMITER_GROUP and not vr_name(vr):
            return Encoding(explicit=False, little=encoding.little)
    return encoding


def skip_undefined(
    data: Buffer, position: int, end: int, encoding: Encoding, *, item: bool = False, nesting: int | None = None
) -> int:
    """The offset just after the delimiter that ends the undefined-length value, or item, starting at `position`.

    Defined lengths are leapt over; undefined ones are followed with a list of what encloses them rather than by
    recursion, so that nesting costs nothing but its own bytes. Also skips the fragments of encapsulated pixel data.
    Raises IncompleteError if the delimiter isn't there, ElementError if the bytes make no sense, or if sequences of
    undefined length nest deeper than `nesting`.
    """
    enclosing: list[Encoding] = []
    deepest = end if nesting is None else 2 * nesting  # a sequence and an item at each depth
    in_item = item
    while True:
        if position + 8 > end:
            raise IncompleteError("no delimiter", position)
        explicit, little = encoding
        group, number, length = IMPLICIT_HEADER[little].unpack_from(data, position)
        if group == DELIMITER_GROUP:
            position += 8
            if number == 0xE000 and not in_item:
                if length == UNDEFINED_LENGTH:
                    enclosing.append(encoding)
                    in_item = True
                    encoding = item_encoding(data, position, end, encoding)
                else:
                    position += length
            elif (number == 0xE00D and in_item) or (number == 0xE0DD and not in_item):
                if not enclosing:
                    return position
                encoding = enclosing.pop()
                in_item = not in_item
            else:
                raise ElementError("misplaced delimiter", position - 8, group << 16 | number)
            continue
        if not in_item:
            raise ElementError("sequence without item", position, group << 16 | number)
        value = position + 8
        vr = b""
        if explicit:
            _, _, vr, length = EXPLICIT_HEADER[little].unpack_from(data, position)
            if vr in LONG_VRS:
                if position + 12 > end:
                    raise IncompleteError("no length", position)
                (length,) = LONG_LENGTH[little].unpack_from(data, value)
                value = position + 12
            elif vr not in SHORT_VRS and not vr_name(vr):
                raise ElementError("no value representation", position, group << 16 | number)
        position = value
        # A 16-bit length can't be undefined, so the comparison needs no look at the VR.
        if length == UNDEFINED_LENGTH:
            enclosing.append(encoding)
            if len(enclosing) > deepest:
                raise ElementError("sequences nested too deep", position)
            in_item = False
            encoding = inner_encoding(encoding, vr)
        else:
            position += length


def swap_bytes(vr: str, value: Buffer) -> bytes:
    """`value` in the other byte order, for VRs that have one (PS3.5 7.3); a ragged end is left as it is."""
    size = WORD_SIZE.get(vr)
    if size is None or len(value) < size:
        return bytes(value)
    whole = len(value) - len(value) % size
    swapped = bytearray(value)
    for byte in range(size):
        swapped[byte:whole:size] = value[size - 1 - byte : whole : size]
    return bytes(swapped)
