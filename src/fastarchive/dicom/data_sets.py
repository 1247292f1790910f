"""Small data sets, element by element: identifiers, commands, the attributes a record keeps (PS3.5 section 7)."""

from collections.abc import Iterable, Iterator
from typing import Final

from fastarchive.dicom.dictionary import vr_of
from fastarchive.dicom.layout import (
    DELIMITER_GROUP,
    EXPLICIT_HEADER,
    IMPLICIT_HEADER,
    ITEM,
    LONG_LENGTH,
    LONG_VRS,
    SEQUENCE_DELIMITATION,
    SHORT_VRS,
    UNDEFINED_LENGTH,
    VR_NAMES,
    Buffer,
    Element,
    ElementError,
    inner_encoding,
    item_encoding,
    skip_undefined,
    swap_bytes,
    vr_name,
)
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE, Encoding

MAXIMUM_NESTING: Final = 64
"""How deep sequences may nest where they are re-encoded; skipping them has no limit."""

# PS3.5 6.2: text is padded with a space; UIDs, bytes and numbers with NUL.
_PADDED_WITH_SPACE: Final = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT")
)
_LONGEST_SHORT: Final = 0xFFFE
_LONG_NAMES: Final = frozenset(name.decode() for name in LONG_VRS)
_SHORT_VR_NAMES: Final = {vr: VR_NAMES[vr] for vr in SHORT_VRS}


def walk(data: Buffer, encoding: Encoding) -> Iterator[Element]:
    """Every top-level element of a data set small enough to hold twice (an identifier, a record's attributes).

    Sequences come as explicit little endian items in `value`, whatever the encoding of `data`; a UN of undefined
    length is the sequence that PS3.5 6.2.2 says it is. Raises ElementError if the bytes are malformed or incomplete,
    if sequences nest deeper than MAXIMUM_NESTING, or at an encapsulated value.
    """
    data = bytes(data)
    return _walk(data, encoding, 0, len(data), MAXIMUM_NESTING)


def parse_sequence(value: Buffer) -> list[dict[int, Element]]:
    """The items of a sequence value (explicit little endian, as `walk` hands it out), each by tag.

    Raises ElementError as `walk` does.
    """
    value = bytes(value)
    return [
        {element.tag: element for element in _walk(value, item, start, stop, MAXIMUM_NESTING)}
        for start, stop, item in _items(value, 0, len(value), EXPLICIT_LITTLE)
    ]


def encode_sequence(items: Iterable[Iterable[Element]]) -> bytes:
    """A sequence value, as `parse_sequence` takes it, of items with defined lengths."""
    return b"".join(_item(encode(item, EXPLICIT_LITTLE), EXPLICIT_LITTLE) for item in items)


def encode_element(element: Element, encoding: Encoding) -> bytes:
    """The bytes of one element: value padded to even length, brought to the byte order, sequences to the encoding.

    In explicit VR a value too long for its VR's 16-bit length is written as UN (PS3.5 6.2.2). Raises ElementError if
    a sequence value isn't one, or nests deeper than MAXIMUM_NESTING.
    """
    return _encode_element(element, encoding, MAXIMUM_NESTING)


def _encode_element(element: Element, encoding: Encoding, nesting: int) -> bytes:
    tag, vr, value = element
    explicit, little = encoding
    if vr == "SQ":
        if encoding != EXPLICIT_LITTLE:
            value = _translate_items(value, 0, len(value), source=EXPLICIT_LITTLE, target=encoding, nesting=nesting)
    else:
        if len(value) & 1:
            value += b" " if vr in _PADDED_WITH_SPACE else b"\0"
        if not little:
            value = swap_bytes(vr, value)
    if not explicit:
        return IMPLICIT_HEADER[little].pack(tag >> 16, tag & 0xFFFF, len(value)) + value
    code = vr.encode("ascii")
    if vr not in _LONG_NAMES:
        if len(value) <= _LONGEST_SHORT:
            return EXPLICIT_HEADER[little].pack(tag >> 16, tag & 0xFFFF, code, len(value)) + value
        code = b"UN"
    return EXPLICIT_HEADER[little].pack(tag >> 16, tag & 0xFFFF, code, 0) + LONG_LENGTH[little].pack(len(value)) + value


def encode(elements: Iterable[Element], encoding: Encoding) -> bytes:
    """A data set of these elements, in the order of their tags (PS3.5 7.1)."""
    return b"".join([encode_element(element, encoding) for element in sorted(elements)])


def element_at(
    data: Buffer, encoding: Encoding, tag: int, vr: bytes, *, start: int, stop: int, undefined: bool, nesting: int
) -> Element:
    """The element whose value is data[start:stop] in `encoding`, brought to little endian and explicit items.

    Raises ElementError for an encapsulated value, and as `walk` does for sequences.
    """
    name = vr_name(vr) if encoding.explicit else vr_of(tag)
    if undefined:
        if name not in {"SQ", "UN"}:
            raise ElementError("encapsulated value", start, tag)
        name = "SQ"
    if name == "SQ":
        inner = inner_encoding(encoding, vr)
        if inner == EXPLICIT_LITTLE:
            return Element(tag, name, bytes(data[start:stop]))
        return Element(
            tag, name, _translate_items(data, start, stop, source=inner, target=EXPLICIT_LITTLE, nesting=nesting)
        )
    value = bytes(data[start:stop])
    return Element(tag, name, value if encoding.little else swap_bytes(name, value))


def _walk(data: Buffer, encoding: Encoding, position: int, end: int, nesting: int) -> Iterator[Element]:
    explicit, little = encoding
    header = (EXPLICIT_HEADER if explicit else IMPLICIT_HEADER)[little].unpack_from
    # Only the usual case is short cut: explicit little endian elements with 16-bit lengths, out of bytes.
    quick = _SHORT_VR_NAMES if encoding == EXPLICIT_LITTLE and isinstance(data, bytes) else {}
    new, element_class = tuple.__new__, Element
    vr = b""
    while position < end:
        if position + 8 > end:
            raise ElementError("incomplete element", position)
        if explicit:
            group, number, vr, length = header(data, position)
        else:
            group, number, length = header(data, position)
        tag = group << 16 | number
        value = position + 8
        if vr in quick:
            after = value + length
            if after > end:
                raise ElementError("incomplete value", position, tag)
            yield new(element_class, (tag, quick[vr], data[value:after]))
            position = after
            continue
        if group == DELIMITER_GROUP:  # left over from a sequence: some writers do
            position = value
            continue
        if vr in LONG_VRS:
            if position + 12 > end:
                raise ElementError("incomplete element", position, tag)
            (length,) = LONG_LENGTH[little].unpack_from(data, value)
            value = position + 12
        elif explicit and not vr_name(vr):
            raise ElementError("no value representation", position, tag)
        undefined = length == UNDEFINED_LENGTH
        if undefined:
            after = skip_undefined(data, value, end, inner_encoding(encoding, vr), nesting=nesting)
            stop = after - 8
        else:
            after = stop = value + length
        if after > end:
            raise ElementError("incomplete value", position, tag)
        yield element_at(data, encoding, tag, vr, start=value, stop=stop, undefined=undefined, nesting=nesting)
        position = after


def _items(data: Buffer, position: int, end: int, encoding: Encoding) -> Iterator[tuple[int, int, Encoding]]:
    """Where the content of each item of a sequence value starts and stops, and its encoding."""
    header = IMPLICIT_HEADER[encoding.little].unpack_from
    while position < end:
        if position + 8 > end:
            raise ElementError("incomplete item", position)
        group, number, length = header(data, position)
        tag = group << 16 | number
        position += 8
        if tag == SEQUENCE_DELIMITATION:
            return
        if tag != ITEM:
            raise ElementError("sequence without item", position - 8, tag)
        item = item_encoding(data, position, end, encoding)
        if length == UNDEFINED_LENGTH:
            after = skip_undefined(data, position, end, item, item=True, nesting=MAXIMUM_NESTING)
            stop = after - 8
        else:
            after = stop = position + length
        if after > end:
            raise ElementError("incomplete item", position, tag)
        yield position, stop, item
        position = after


def _item(content: bytes, encoding: Encoding) -> bytes:
    return IMPLICIT_HEADER[encoding.little].pack(ITEM >> 16, ITEM & 0xFFFF, len(content)) + content


def _translate_items(data: Buffer, start: int, stop: int, *, source: Encoding, target: Encoding, nesting: int) -> bytes:
    """The items of a sequence value in another encoding, with defined lengths."""
    if nesting == 0:
        raise ElementError("sequences nested too deep", start)
    return b"".join(
        _item(
            b"".join(
                [
                    _encode_element(element, target, nesting - 1)
                    for element in _walk(data, item, item_start, item_stop, nesting - 1)
                ]
            ),
            target,
        )
        for item_start, item_stop, item in _items(data, start, stop, source)
    )
