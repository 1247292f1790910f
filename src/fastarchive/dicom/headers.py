"""Scanning the header of an instance: the wanted elements are sliced out, the pixels are not touched."""

from collections.abc import Container
from dataclasses import dataclass
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
    vr_name,
)
from fastarchive.dicom.transfer_syntaxes import Encoding

PIXEL_DATA_TAGS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Float Pixel Data, Double Float Pixel Data and Pixel Data: the bulk a header ends at."""


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

    elements: dict[int, Element]
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


def scan_header(data: Buffer, encoding: Encoding, wanted: Container[int]) -> Header:
    """Slice the wanted elements out of the header of a data set, and find where its pixel data starts.

    `data` is a data set, or the first part of one, without file meta information. Nothing but the wanted values is
    copied. Sequences are skipped at any depth; one that is wanted comes as explicit little endian items. Of an
    element given twice the first counts. Never raises: see `Header.complete` and `Header.damage`.
    """
    elements: dict[int, Element] = {}
    end = len(data)
    encoding = _found_encoding(data, end, encoding)
    explicit, little = encoding
    explicit_header = EXPLICIT_HEADER[little].unpack_from
    implicit_header = IMPLICIT_HEADER[little].unpack_from
    plain = explicit and little
    short_vrs, names, new = SHORT_VRS, VR_NAMES, tuple.__new__
    position = 0
    try:
        while position + 8 <= end:
            if explicit:
                group, number, vr, length = explicit_header(data, position)
                value = position + 8
                if vr in short_vrs:
                    tag = group << 16 | number
                    after = value + length
                    if tag in wanted:
                        if after > end:
                            break
                        if plain and tag not in elements:
                            elements[tag] = new(Element, (tag, names[vr], bytes(data[value:after])))
                        elif tag not in elements:
                            elements[tag] = element_at(
                                data, encoding, tag, vr, start=value, stop=after, undefined=False, nesting=0
                            )
                    position = after
                    continue
                if vr in LONG_VRS:
                    if position + 12 > end:
                        break
                    (length,) = LONG_LENGTH[little].unpack_from(data, value)
                    value = position + 12
                elif group == DELIMITER_GROUP:  # left over from a sequence: some writers do
                    position = value
                    continue
                elif not vr_name(vr):
                    raise ElementError("no value representation", position, group << 16 | number)
            else:
                group, number, length = implicit_header(data, position)
                value = position + 8
                vr = b""
                if group == DELIMITER_GROUP:
                    position = value
                    continue
            tag = group << 16 | number
            if tag in PIXEL_DATA_TAGS:
                name = vr_name(vr) if explicit else vr_of(tag)
                pixel = PixelElement(tag, name, position, value, None if length == UNDEFINED_LENGTH else length)
                return Header(elements, value, pixel, complete=True, damage=None, encoding=encoding)
            undefined = length == UNDEFINED_LENGTH
            if undefined:
                after = skip_undefined(data, value, end, inner_encoding(encoding, vr))
                stop = after - 8
            else:
                after = stop = value + length
                if after > end:
                    break
            if tag in wanted and tag not in elements:
                elements[tag] = element_at(
                    data, encoding, tag, vr, start=value, stop=stop, undefined=undefined, nesting=MAXIMUM_NESTING
                )
            position = after
    except IncompleteError:
        pass
    except ElementError as error:
        return Header(elements, end, None, complete=False, damage=str(error), encoding=encoding)
    return Header(elements, end, None, complete=position == end, damage=None, encoding=encoding)


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
