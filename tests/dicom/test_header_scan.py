"""Scanning headers: every layout, whatever the damage."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.dicom.attributes import STORED_TAGS
from fastarchive.dicom.elements import Element, encode, encode_element, encode_sequence, scan_header, walk
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Encoding

ENCODINGS = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG)
NAME = Element(0x00100010, "PN", b"Doe^Jane")
ROWS = Element(0x00280010, "US", b"\x00\x02")
PIXELS = Element(0x7FE00010, "OW", bytes(64))
UNDEFINED = 0xFFFFFFFF
WANTED = frozenset({0x00080005, NAME.tag, ROWS.tag})


def explicit(tag: int, vr: bytes, length: int) -> bytes:
    """The header of an explicit little endian element of a VR with a 32-bit length."""
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, length)


def bare(tag: int, length: int) -> bytes:
    """An implicit little endian header, or an item or delimiter."""
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length)


ITEM = bare(0xFFFEE000, UNDEFINED)
ITEM_END = bare(0xFFFEE00D, 0)
SEQUENCE_END = bare(0xFFFEE0DD, 0)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_wanted_elements_come_little_endian_and_the_pixels_are_located(encoding: Encoding) -> None:
    data = encode([NAME, ROWS, Element(0x00081030, "LO", b"unwanted"), PIXELS], encoding)
    header = scan_header(data, encoding, WANTED)
    assert header.elements == {NAME.tag: NAME, ROWS.tag: ROWS}
    assert header.complete
    assert header.damage is None
    assert header.pixel is not None
    assert data[header.bulk_offset :] == PIXELS.value
    assert header.pixel.value_offset == header.bulk_offset
    assert header.pixel[2:] == (
        len(data) - len(PIXELS.value) - (12 if encoding.explicit else 8),
        header.bulk_offset,
        64,
    )


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_gives_bytes(kind: type) -> None:
    header = scan_header(kind(encode([NAME], EXPLICIT_LITTLE)), EXPLICIT_LITTLE, WANTED)
    assert type(header.elements[NAME.tag].value) is bytes
    assert header.bulk_offset == 16


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_prefix_is_incomplete_and_never_holds_half_a_value(encoding: Encoding) -> None:
    elements = [Element(0x00080005, "CS", b"ISO_IR 192"), NAME, ROWS, PIXELS]
    data = encode(elements, encoding)
    bulk = scan_header(data, encoding, WANTED).bulk_offset
    boundaries = {len(encode(elements[:count], encoding)) for count in range(4)}
    for length in range(len(data)):
        header = scan_header(data[:length], encoding, WANTED)
        assert header.damage is None
        assert header.complete == (length >= bulk or length in boundaries)
        assert all(element in elements for element in header.elements.values())


def test_S9_nested_sequences_of_undefined_length_are_skipped() -> None:
    inner = (
        explicit(0x00081199, b"SQ", UNDEFINED) + ITEM + encode_element(NAME, EXPLICIT_LITTLE) + ITEM_END + SEQUENCE_END
    )
    data = explicit(0x00081115, b"SQ", UNDEFINED) + ITEM + inner + ITEM_END + ITEM + ITEM_END + SEQUENCE_END
    header = scan_header(data + encode_element(ROWS, EXPLICIT_LITTLE), EXPLICIT_LITTLE, WANTED)
    assert header.elements == {ROWS.tag: ROWS}
    assert header.complete


def test_unknown_vr_of_undefined_length_is_an_implicit_sequence() -> None:
    inside = bare(0x00081199, UNDEFINED) + SEQUENCE_END + bare(0x00100010, 8) + b"Roe^Jean"
    data = explicit(0x00091010, b"UN", UNDEFINED) + ITEM + inside + ITEM_END + SEQUENCE_END
    header = scan_header(data + encode_element(NAME, EXPLICIT_LITTLE), EXPLICIT_LITTLE, WANTED | {0x00091010})
    assert header.elements[NAME.tag] == NAME
    sequence = header.elements[0x00091010]
    assert sequence.vr == "SQ"
    assert sequence.value == encode_sequence([[Element(0x00081199, "SQ", b""), Element(0x00100010, "PN", b"Roe^Jean")]])


def test_implicit_items_in_explicit_data_are_skipped() -> None:
    data = explicit(0x00081115, b"SQ", UNDEFINED) + ITEM + bare(0x00080060, 2) + b"CT" + ITEM_END + SEQUENCE_END
    header = scan_header(data + encode_element(NAME, EXPLICIT_LITTLE), EXPLICIT_LITTLE, WANTED)
    assert header.elements == {NAME.tag: NAME}


def test_encapsulated_pixel_data_in_an_icon_is_skipped_and_at_the_end_found() -> None:
    fragments = (
        explicit(0x7FE00010, b"OB", UNDEFINED) + bare(0xFFFEE000, 0) + bare(0xFFFEE000, 4) + b"jpeg" + SEQUENCE_END
    )
    icon = explicit(0x00880200, b"SQ", UNDEFINED) + ITEM + fragments + ITEM_END + SEQUENCE_END
    data = icon + encode_element(NAME, EXPLICIT_LITTLE) + fragments
    header = scan_header(data, EXPLICIT_LITTLE, WANTED)
    assert header.elements == {NAME.tag: NAME}
    assert header.pixel is not None
    assert header.pixel.length is None
    assert header.bulk_offset == len(data) - len(fragments) + 12


@pytest.mark.parametrize("tag", [0x7FE00008, 0x7FE00009, 0x7FE00010])
def test_float_pixel_data_is_bulk_too(tag: int) -> None:
    header = scan_header(encode([NAME, Element(tag, "OF", bytes(8))], EXPLICIT_LITTLE), EXPLICIT_LITTLE, WANTED)
    assert header.pixel is not None
    assert header.pixel.tag == tag


def test_S9_odd_lengths_are_read_as_they_are() -> None:
    data = struct.pack("<HH2sH", 0x0010, 0x0010, b"PN", 3) + b"Doe" + encode_element(ROWS, EXPLICIT_LITTLE)
    header = scan_header(data, EXPLICIT_LITTLE, WANTED)
    assert header.elements[NAME.tag].value == b"Doe"
    assert header.elements[ROWS.tag] == ROWS


def test_an_unknown_vr_of_two_letters_has_a_short_length() -> None:
    data = struct.pack("<HH2sH", 0x0009, 0x1001, b"ZZ", 4) + b"what" + encode_element(NAME, EXPLICIT_LITTLE)
    assert scan_header(data, EXPLICIT_LITTLE, WANTED | {0x00091001}).elements == {
        0x00091001: Element(0x00091001, "ZZ", b"what"),
        NAME.tag: NAME,
    }


def test_bytes_that_are_no_vr_are_damage_and_keep_what_came_before() -> None:
    data = encode_element(NAME, EXPLICIT_LITTLE) + b"\x28\x00\x10\x00\x01\x02\x02\x00\x00\x02"
    header = scan_header(data, EXPLICIT_LITTLE, WANTED)
    assert header.elements == {NAME.tag: NAME}
    assert not header.complete
    assert header.damage == "no value representation at byte 16 in 00280010"


def test_file_meta_information_group_lengths_and_private_elements_are_passed_over() -> None:
    data = encode(
        [
            Element(0x00020010, "UI", b"1.2.840.10008.1.2.1"),
            Element(0x00080000, "UL", bytes(4)),
            Element(0x00090010, "LO", b"ACME"),
            Element(0x00091001, "UN", bytes(70000)),
            NAME,
        ],
        EXPLICIT_LITTLE,
    )
    assert scan_header(data, EXPLICIT_LITTLE, WANTED).elements == {NAME.tag: NAME}


def test_a_delimiter_left_over_is_passed_over() -> None:
    data = SEQUENCE_END + encode_element(NAME, EXPLICIT_LITTLE)
    assert scan_header(data, EXPLICIT_LITTLE, WANTED).elements == {NAME.tag: NAME}
    data = SEQUENCE_END + encode_element(NAME, IMPLICIT_LITTLE)
    assert scan_header(data, IMPLICIT_LITTLE, WANTED).elements == {NAME.tag: NAME}


@pytest.mark.parametrize("said, found", [(EXPLICIT_LITTLE, IMPLICIT_LITTLE), (IMPLICIT_LITTLE, EXPLICIT_LITTLE)])
def test_the_first_element_may_contradict_the_transfer_syntax(said: Encoding, found: Encoding) -> None:
    header = scan_header(encode([Element(0x00080005, "CS", b"ISO_IR 100"), NAME, PIXELS], found), said, WANTED)
    assert header.encoding == found
    assert header.elements[NAME.tag] == NAME
    assert header.pixel is not None


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("closed", [True, False])
def test_deep_nesting_neither_crashes_nor_hangs(encoding: Encoding, closed: bool) -> None:
    order = "<" if encoding.little else ">"
    sequence = struct.pack(order + "HH2sHL", 0x0008, 0x1115, b"SQ", 0, UNDEFINED)
    if not encoding.explicit:
        sequence = struct.pack(order + "HHL", 0x0008, 0x1115, UNDEFINED)
    item = struct.pack(order + "HHL", 0xFFFE, 0xE000, UNDEFINED)
    ends = struct.pack(order + "HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    data = (sequence + item) * 10_000
    if closed:
        data += ends * 10_000 + encode_element(NAME, encoding)
    header = scan_header(data, encoding, WANTED)
    assert header.complete is closed
    assert header.elements == ({NAME.tag: NAME} if closed else {})


def test_a_wanted_sequence_nested_too_deep_is_damage() -> None:
    data = (bare(0x00081115, UNDEFINED) + ITEM) * 100 + (ITEM_END + SEQUENCE_END) * 100
    header = scan_header(data, IMPLICIT_LITTLE, frozenset({0x00081115}))
    assert header.damage is not None


@pytest.mark.parametrize(
    "misplaced", [ITEM_END, ITEM + ITEM, ITEM + SEQUENCE_END, ITEM + b"\x08\0\x60\0\1\2\2\0" + b"CT"]
)
def test_misplaced_delimiters_are_damage(misplaced: bytes) -> None:
    data = explicit(0x00081115, b"SQ", UNDEFINED) + misplaced + bytes(16)
    header = scan_header(encode_element(NAME, EXPLICIT_LITTLE) + data, EXPLICIT_LITTLE, WANTED)
    assert header.elements == {NAME.tag: NAME} or misplaced[8:12] == b"\x08\0\x60\0"
    assert not header.complete


@given(st.binary(max_size=300), st.sampled_from(ENCODINGS))
def test_any_bytes_are_survived(data: bytes, encoding: Encoding) -> None:
    header = scan_header(data, encoding, STORED_TAGS)
    assert 0 <= header.bulk_offset <= len(data)


def _elements() -> st.SearchStrategy[list[Element]]:
    tags = st.sampled_from(sorted(STORED_TAGS | {0x00091001, 0x00080000, 0x00200032}))
    short = st.tuples(st.sampled_from(["LO", "PN", "UI", "IS", "SH", "DA"]), st.binary(max_size=40))
    numbers = st.sampled_from([("US", 2), ("SS", 2), ("UL", 4), ("FL", 4), ("FD", 8), ("AT", 2), ("OW", 2), ("UV", 8)])
    words = numbers.flatmap(
        lambda of: st.tuples(st.just(of[0]), st.integers(0, 5).map(lambda count: bytes(range(count * of[1]))))
    )
    element = st.builds(lambda tag, pair: Element(tag, *pair), tags, st.one_of(short, words))
    return st.lists(element, max_size=12, unique_by=lambda element: element.tag)


@given(_elements(), st.sampled_from([EXPLICIT_LITTLE, EXPLICIT_BIG]))
def test_scan_and_walk_agree_with_what_was_encoded(elements: list[Element], encoding: Encoding) -> None:
    data = encode(elements, encoding)
    padded = sorted(
        element._replace(value=element.value + (b"\0" if element.vr == "UI" else b" ") * (len(element.value) & 1))
        for element in elements
    )
    assert list(walk(data, encoding)) == padded
    header = scan_header(data, encoding, STORED_TAGS)
    assert header.elements == {element.tag: element for element in padded if element.tag in STORED_TAGS}
    assert header.complete


@settings(max_examples=50)
@given(_elements(), st.data())
def test_a_flipped_byte_is_survived(elements: list[Element], draw: st.DataObject) -> None:
    data = bytearray(encode([*elements, NAME._replace(tag=0x00100011), PIXELS], EXPLICIT_LITTLE))
    data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    scan_header(data, EXPLICIT_LITTLE, STORED_TAGS)
