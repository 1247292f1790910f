"""Encoding elements and sequences."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastarchive.dicom.elements import (
    MAXIMUM_NESTING,
    Element,
    ElementError,
    encode,
    encode_element,
    encode_sequence,
    parse_sequence,
    swap_bytes,
    walk,
)
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Encoding

ENCODINGS = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG)
SEQUENCE = 0x00081115


@pytest.mark.parametrize(
    "element, padded",
    [
        (Element(0x00100010, "PN", b"Doe"), b"Doe "),
        (Element(0x0020000D, "UI", b"1.2"), b"1.2\0"),
        (Element(0x00091001, "UN", b"\1"), b"\1\0"),
        (Element(0x00080060, "CS", b"CT"), b"CT"),
        (Element(0x00104000, "LT", b""), b""),
    ],
)
def test_values_are_padded_to_even_length(element: Element, padded: bytes) -> None:
    assert encode_element(element, EXPLICIT_LITTLE)[8 if element.vr != "UN" else 12 :] == padded


def test_headers_are_those_of_the_standard() -> None:
    short, long = Element(0x00280010, "US", b"\1\2"), Element(0x00400010, "OB", b"\1\2")
    assert encode_element(short, EXPLICIT_LITTLE) == b"\x28\0\x10\0US\2\0\1\2"
    assert encode_element(short, EXPLICIT_BIG) == b"\0\x28\0\x10US\0\2\2\1"
    assert encode_element(short, IMPLICIT_LITTLE) == b"\x28\0\x10\0\2\0\0\0\1\2"
    assert encode_element(long, EXPLICIT_LITTLE) == b"\x40\0\x10\0OB\0\0\2\0\0\0\1\2"
    assert encode_element(long, EXPLICIT_BIG) == b"\0\x40\0\x10OB\0\0\0\0\0\2\1\2"


def test_a_value_too_long_for_its_vr_becomes_unknown() -> None:
    element = Element(0x00081030, "LO", b"x" * 0x10000)
    (read,) = walk(encode_element(element, EXPLICIT_LITTLE), EXPLICIT_LITTLE)
    assert read == element._replace(vr="UN")
    (read,) = walk(encode_element(element, IMPLICIT_LITTLE), IMPLICIT_LITTLE)
    assert read == element


def test_elements_are_sorted_by_tag_with_commands_and_meta_information_first() -> None:
    tags = [0x00100010, 0x00020010, 0x00000000, 0x7FE00010, 0x00080018]
    data = encode([Element(tag, "UN", b"") for tag in tags], EXPLICIT_LITTLE)
    assert [element.tag for element in walk(data, EXPLICIT_LITTLE)] == sorted(tags)


@pytest.mark.parametrize(
    "vr, value, swapped",
    [
        ("US", b"\1\2\3\4", b"\2\1\4\3"),
        ("UL", b"\1\2\3\4", b"\4\3\2\1"),
        ("FD", bytes(range(8)), bytes(range(7, -1, -1))),
        ("AT", b"\1\2\3\4", b"\2\1\4\3"),
        ("US", b"\1\2\3", b"\2\1\3"),
        ("UL", b"\1\2", b"\1\2"),
        ("OB", b"\1\2", b"\1\2"),
        ("PN", b"AB", b"AB"),
    ],
)
def test_byte_order_is_that_of_the_vr(vr: str, value: bytes, swapped: bytes) -> None:
    assert swap_bytes(vr, value) == swapped


@st.composite
def items(draw: st.DrawFn, depth: int = 0) -> list[list[Element]]:
    made = []
    for _ in range(draw(st.integers(0, 2))):
        elements = [Element(0x00280010, "US", bytes(draw(st.lists(st.integers(0, 255), min_size=2, max_size=2))))]
        elements.append(Element(0x00081090, "LO", draw(st.sampled_from([b"ab", b"", b"\\ "]))))
        if depth < 3:
            elements.append(Element(SEQUENCE, "SQ", encode_sequence(draw(items(depth=depth + 1)))))
        made.append(sorted(elements))
    return made


@given(items(), st.sampled_from(ENCODINGS))
def test_sequences_survive_every_encoding(content: list[list[Element]], encoding: Encoding) -> None:
    element = Element(SEQUENCE, "SQ", encode_sequence(content))
    (read,) = walk(encode_element(element, encoding), encoding)
    if encoding.explicit:
        assert read == element
    assert parse_sequence(read.value) == parse_sequence(element.value)


def nested(depth: int, length: int | None) -> bytes:
    """Sequences in sequences, of undefined or defined length."""
    value = b""
    if length is None:
        start = struct.pack("<HH2sHLHHL", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
        return start * depth + struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0) * depth
    for _ in range(depth):
        value = encode_element(
            Element(SEQUENCE, "SQ", struct.pack("<HHL", 0xFFFE, 0xE000, len(value)) + value), EXPLICIT_LITTLE
        )
    return value


@pytest.mark.parametrize("length", [None, 0])
@pytest.mark.parametrize("depth", [MAXIMUM_NESTING + 2, 2_000])
def test_sequences_nested_too_deep_are_refused_where_they_are_rebuilt(depth: int, length: int | None) -> None:
    with pytest.raises(ElementError, match="too deep"):
        encode(walk(nested(depth, length), EXPLICIT_LITTLE), EXPLICIT_BIG)


def test_sequences_nested_as_deep_as_allowed_are_rebuilt() -> None:
    for length in (None, 0):
        (element,) = walk(nested(MAXIMUM_NESTING, length), EXPLICIT_LITTLE)
        (read,) = walk(encode_element(element, EXPLICIT_BIG), EXPLICIT_BIG)
        assert read.value


def test_extremely_deep_nesting_is_refused_at_once() -> None:
    with pytest.raises(ElementError, match="too deep"):
        list(walk(nested(100_000, None), EXPLICIT_LITTLE))


@pytest.mark.parametrize("size", [1, 7, 9, 11])
def test_incomplete_elements_are_errors_that_say_where(size: int) -> None:
    data = encode_element(Element(0x00080060, "CS", b"CT"), EXPLICIT_LITTLE)
    data += encode_element(Element(0x00091001, "UN", b"12"), EXPLICIT_LITTLE)[:size]
    with pytest.raises(ElementError) as caught:
        list(walk(data, EXPLICIT_LITTLE))
    assert caught.value.offset == 10


def test_an_encapsulated_value_is_no_element_of_an_identifier() -> None:
    data = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    with pytest.raises(ElementError, match="encapsulated"):
        list(walk(data, EXPLICIT_LITTLE))


@pytest.mark.parametrize(
    "value", [b"\1", b"\xfe\xff\0\xe0\5\0\0\0", b"\x08\0\x60\0CS\0\0", b"\xfe\xff\0\xe0\xff\xff\xff\xff"]
)
def test_bytes_that_are_no_items_are_errors(value: bytes) -> None:
    with pytest.raises(ElementError):
        parse_sequence(value)
