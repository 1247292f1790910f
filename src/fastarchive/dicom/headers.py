"""Scanning the header of an instance: the wanted elements are sliced out, the pixels are not touched."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from fastarchive.dicom.data_sets import MAXIMUM_NESTING, element_at
from fastarchive.dicom.dictionary import vr_of
from fastarchive.dicom.layout import (
    DELIMITER_GROUP,
    EXPLICIT_HEADER,
    IMPLICIT_HEADER,
    LONG_LENGTH,
    LONG_VRS,
    SHORT_VRS,
    UNDEFINED_LENGTH,
    VR_NAMES,
    Buffer,
    Element,
    ElementError,
    IncompleteError,
    inner_encoding,
    skip_undefined,
    swap_bytes,
    vr_name,
)
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE, Encoding
from fastarchive.native import PLACE, PlainHeader, scan_plain_header

PIXEL_DATA_TAGS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Float Pixel Data, Double Float Pixel Data and Pixel Data: the bulk a header ends at."""

_EXPLICIT_TAG: Final = {True: Struct("<L2sH"), False: Struct(">L2sH")}
_IMPLICIT_TAG: Final = {True: Struct("<LL"), False: Struct(">LL")}
_NAMES_BY_NUMBER: Final = {int.from_bytes(vr, "little"): name for vr, name in VR_NAMES.items()}
_SHORT_VR_NAMES: Final = {vr: VR_NAMES[vr] for vr in SHORT_VRS}


class PixelElement(NamedTuple):
    """Where the pixel data element lies. `length` None means undefined length: encapsulated fragments (PS3.5 A.4)."""

    tag: int
    vr: str
    header_offset: int
    value_offset: int
    length: int | None


@dataclass(frozen=True, slots=True)
class Header:
    """What a scan found before the bulk."""

    elements: Mapping[int, Element]
    """The wanted elements of the top level, by tag."""
    bulk_offset: int
    """Where the value of the bulk element starts, which is the length of the header; all bytes if there is none."""
    pixel: PixelElement | None
    complete: bool
    """False if the data ended before the bulk element or inside an element: more bytes are needed, or are lost."""
    damage: str | None
    """What stopped the scan, if it was neither the bulk nor the end; `elements` holds what came before."""
    encoding: Encoding
    """The encoding found, which is the one given unless the very first element contradicts it."""
    copied: bytes | None = None
    """The wanted elements of at most `copy` bytes as an Explicit VR Little Endian data set, if the scan made it."""

    def value(self, tag: int) -> bytes | None:
        """The value of a wanted element, None if it has none."""
        elements = self.elements
        if type(elements) is _Sliced:
            return elements.value(tag)
        element = elements.get(tag)
        return None if element is None else element.value


def scan_header(data: Buffer, encoding: Encoding, wanted: Collection[int], *, copy: int = 0) -> Header:
    """Slice the wanted elements out of the header of a data set, and find where its pixel data starts.

    `data` is a data set, or the first part of one, without file meta information. Nothing but the wanted values is
    copied. Sequences are skipped at any depth; one that is wanted comes as explicit little endian items. Of an
    element given twice the last counts. Never raises: see `Header.complete` and `Header.damage`.
    """
    if scan_plain_header is not None and encoding == EXPLICIT_LITTLE and type(data) is bytes:
        plain = scan_plain_header(data, wanted if isinstance(wanted, frozenset) else frozenset(wanted), copy)
        if plain is not None:
            return _plain(data, plain, plain.attributes if copy else None)
    end = len(data)
    encoding = _found_encoding(data, end, encoding)
    elements: dict[int, Element] = {}
    scan = _scan_explicit if encoding.explicit else _scan_implicit
    try:
        pixel = scan(data, end, encoding, _as_read(wanted, encoding.little), elements)
    except IncompleteError:
        return Header(elements, end, None, complete=False, damage=None, encoding=encoding)
    except ElementError as error:
        return Header(elements, end, None, complete=False, damage=str(error), encoding=encoding)
    return Header(elements, pixel.value_offset if pixel else end, pixel, complete=True, damage=None, encoding=encoding)


class _Sliced(Mapping[int, Element]):
    """Elements by tag, each looked for and sliced when it is asked for: an ingest asks for a few of many."""

    __slots__ = ("_data", "_places")

    def __init__(self, data: bytes, places: bytes) -> None:
        self._data = data
        self._places = places

    def _find(self, tag: int) -> int:
        """Where its entry begins, -1 if it has none."""
        places, key = self._places, tag.to_bytes(4, "little")
        at = places.find(key)
        while at % PLACE.size and at >= 0:  # part of another entry looks like it
            at = places.find(key, at + 1)
        return at

    def value(self, tag: int) -> bytes | None:
        """The value alone, if there is one."""
        at = self._find(tag)
        if at < 0:
            return None
        _, _, offset, length = PLACE.unpack_from(self._places, at)
        return self._data[offset : offset + length]

    def __getitem__(self, tag: int) -> Element:
        at = self._find(tag)
        if at < 0:
            raise KeyError(tag)
        _, vr, offset, length = PLACE.unpack_from(self._places, at)
        return Element(tag, _NAMES_BY_NUMBER[vr], self._data[offset : offset + length])

    def __iter__(self) -> Iterator[int]:
        return (place[0] for place in PLACE.iter_unpack(self._places))

    def __len__(self) -> int:
        return len(self._places) // PLACE.size


def _plain(data: bytes, plain: PlainHeader, copied: bytes | None) -> Header:
    """What the scan in machine code found; the walks below find the same."""
    pixel = None
    if plain.pixel is not None:
        tag, vr, length, header_offset, value_offset = plain.pixel
        defined = None if length == UNDEFINED_LENGTH else length
        pixel = PixelElement(tag, _NAMES_BY_NUMBER[vr], header_offset, value_offset, defined)
    elements = _Sliced(data, plain.places)
    return Header(elements, plain.bulk_offset, pixel, True, None, EXPLICIT_LITTLE, copied)


def _scan_explicit(
    data: Buffer, end: int, encoding: Encoding, wanted: Mapping[int, int], elements: dict[int, Element]
) -> PixelElement | None:
    """The scan of explicit VR. Every instance passes through this loop once: it does as little as it can.

    The tag is read as one 32-bit number, which little endian turns around, and looked up as such in `wanted`.
    """
    little = encoding.little
    header, long_length = _EXPLICIT_TAG[little].unpack_from, LONG_LENGTH[little].unpack_from
    short_names, new, element_class, copy = _SHORT_VR_NAMES, tuple.__new__, Element, not isinstance(data, bytes)
    last = end - 8
    position = 0
    read = 0
    while position <= last:
        read, vr, length = header(data, position)
        position += 8
        if vr in short_names:
            if read in wanted:
                tag = wanted[read]
                value = data[position : position + length]
                if copy:
                    value = bytes(value)
                vr = short_names[vr]
                elements[tag] = new(element_class, (tag, vr, value if little else swap_bytes(vr, value)))
            position += length
            continue
        tag = _turned(read) if little else read
        if vr in LONG_VRS:
            if position + 4 > end:
                raise IncompleteError("no length", position - 8, tag)
            (length,) = long_length(data, position)
            position += 4
        elif tag >> 16 == DELIMITER_GROUP:  # left over from a sequence: some writers do
            continue
        elif not vr_name(vr):
            raise ElementError("no value representation", position - 8, tag)
        if tag in PIXEL_DATA_TAGS:
            header_length = 12 if vr in LONG_VRS else 8
            defined = None if length == UNDEFINED_LENGTH else length
            return PixelElement(tag, vr_name(vr), position - header_length, position, defined)
        position, element = _take(data, end, encoding, tag, vr, position=position, length=length, wanted=read in wanted)
        if element is not None:
            elements[tag] = element
    if position != end:
        if position > end and read in wanted:
            elements.pop(wanted[read], None)  # sliced, but its value is cut off
        raise IncompleteError("incomplete element", position)
    return None


def _scan_implicit(
    data: Buffer, end: int, encoding: Encoding, wanted: Mapping[int, int], elements: dict[int, Element]
) -> PixelElement | None:
    """The scan of implicit VR: the dictionary says what each wanted element is."""
    little = encoding.little
    header = _IMPLICIT_TAG[little].unpack_from
    pixels = _as_read(PIXEL_DATA_TAGS, little)
    last = end - 8
    position = 0
    while position <= last:
        read, length = header(data, position)
        position += 8
        if read not in wanted and length != UNDEFINED_LENGTH and read not in pixels:
            position += length
            continue
        tag = _turned(read) if little else read
        if tag in PIXEL_DATA_TAGS:
            defined = None if length == UNDEFINED_LENGTH else length
            return PixelElement(tag, vr_of(tag), position - 8, position, defined)
        if tag >> 16 == DELIMITER_GROUP:
            continue
        if length != UNDEFINED_LENGTH and (name := vr_of(tag)) != "SQ":
            after = position + length
            if after > end:
                raise IncompleteError("incomplete value", position, tag)
            value = bytes(data[position:after])
            elements[tag] = Element(tag, name, value if little else swap_bytes(name, value))
            position = after
            continue
        position, element = _take(
            data, end, encoding, tag, b"", position=position, length=length, wanted=read in wanted
        )
        if element is not None:
            elements[tag] = element
    if position != end:
        raise IncompleteError("incomplete element", position)
    return None


def _take(
    data: Buffer, end: int, encoding: Encoding, tag: int, vr: bytes, *, position: int, length: int, wanted: bool
) -> tuple[int, Element | None]:
    """Where the element after the one with its value at `position` starts, and that one if it is wanted."""
    undefined = length == UNDEFINED_LENGTH
    if undefined:
        after = skip_undefined(data, position, end, inner_encoding(encoding, vr))
        stop = after - 8
    else:
        after = stop = position + length
        if after > end:
            raise IncompleteError("incomplete value", position, tag)
    if not wanted:
        return after, None
    return after, element_at(
        data, encoding, tag, vr, start=position, stop=stop, undefined=undefined, nesting=MAXIMUM_NESTING
    )


def _turned(tag: int) -> int:
    """A tag read as one little endian number has its group in the low half; this turns it either way."""
    return (tag & 0xFFFF) << 16 | tag >> 16


def _as_read(wanted: Collection[int], little: bool) -> Mapping[int, int]:
    return _turned_tags(wanted if isinstance(wanted, frozenset) else frozenset(wanted), little)


@lru_cache(maxsize=64)
def _turned_tags(wanted: frozenset[int], little: bool) -> Mapping[int, int]:
    """The wanted tags by the number a scan reads for them."""
    return {_turned(tag) if little else tag: tag for tag in wanted}


def _found_encoding(data: Buffer, end: int, encoding: Encoding) -> Encoding:
    """`encoding`, or the other choice of explicit and implicit VR if the first element can only be read so.

    Data sets whose transfer syntax says one and whose bytes the other exist in number; readers in the field cope.
    """
    if end < 8:
        return encoding
    little = encoding.little
    group, number, vr, _ = EXPLICIT_HEADER[little].unpack_from(data, 0)
    known = vr_of(group << 16 | number)
    if encoding.explicit:
        if vr not in VR_NAMES and known != "UN" and IMPLICIT_HEADER[little].unpack_from(data, 0)[2] <= end:
            return Encoding(explicit=False, little=little)
    elif VR_NAMES.get(vr) == known:
        return Encoding(explicit=True, little=little)
    return encoding
