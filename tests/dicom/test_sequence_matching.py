"""Sequence matching."""

import struct

import pytest

from fastarchive.dicom.charsets import DEFAULT, UTF8, CharacterSet
from fastarchive.dicom.elements import Element, encode_sequence, parse_sequence
from fastarchive.dicom.matching import MatchingError, MatchingOptions
from fastarchive.dicom.sequences import compile_sequence_matcher, values_of

STEPS = 0x00400100
MODALITY, STATION, NAME = 0x00080060, 0x00400001, 0x00400006
CODES, CODE = 0x00400008, 0x00080100


def text(tag: int, vr: str, value: str) -> Element:
    return Element(tag, vr, value.encode())


def sequence(*items: list[Element]) -> bytes:
    return encode_sequence(items)


STORED = parse_sequence(
    sequence(
        [text(MODALITY, "CS", "CT"), text(STATION, "AE", "ONE"), Element(0x00280010, "US", b"\0\2")],
        [text(MODALITY, "CS", "MR"), text(STATION, "AE", "TWO")],
    )
)


def matches(key: bytes, options: MatchingOptions | None = None) -> bool:
    matcher = compile_sequence_matcher(STEPS, key, DEFAULT, options or MatchingOptions())
    return matcher.matches(STORED, DEFAULT)


def test_M19_all_keys_match_in_the_same_item() -> None:
    assert matches(sequence([text(MODALITY, "CS", "CT"), text(STATION, "AE", "ONE")]))
    assert not matches(sequence([text(MODALITY, "CS", "CT"), text(STATION, "AE", "TWO")]))


def test_M19_a_zero_length_key_or_item_is_universal() -> None:
    for key in (b"", sequence([]), sequence([text(MODALITY, "CS", "")])):
        matcher = compile_sequence_matcher(STEPS, key, DEFAULT)
        assert matcher.is_universal
        assert matcher.matches([], DEFAULT)


def test_M19_more_than_one_item_is_an_error() -> None:
    with pytest.raises(MatchingError) as caught:
        compile_sequence_matcher(STEPS, sequence([text(MODALITY, "CS", "CT")], []), DEFAULT)
    assert caught.value.tag == STEPS


def test_M19_what_was_requested_is_known() -> None:
    key = sequence([text(MODALITY, "CS", "CT"), text(STATION, "AE", ""), text(0x00080005, "CS", "ISO_IR 100")])
    assert compile_sequence_matcher(STEPS, key, DEFAULT).requested == (MODALITY, STATION)


def test_M19_keys_that_make_no_sense_name_the_element_in_the_item() -> None:
    with pytest.raises(MatchingError) as caught:
        compile_sequence_matcher(STEPS, sequence([text(0x00400002, "DA", "soon")]), DEFAULT)
    assert caught.value.tag == 0x00400002


def test_M19_wild_cards_numbers_and_nested_sequences() -> None:
    assert matches(sequence([text(STATION, "AE", "T*")]))
    assert matches(sequence([Element(0x00280010, "US", b"\0\2")]))
    assert not matches(sequence([Element(0x00280010, "US", b"\1\2")]))
    stored = parse_sequence(
        sequence([Element(CODES, "SQ", sequence([text(CODE, "SH", "A")], [text(CODE, "SH", "B")]))])
    )
    for code, expected in (("B", True), ("C", False)):  # W7: every item of a code sequence counts
        key = sequence([Element(CODES, "SQ", sequence([text(CODE, "SH", code)]))])
        assert compile_sequence_matcher(STEPS, key, DEFAULT).matches(stored, DEFAULT) is expected
    key = sequence([Element(CODES, "SQ", b"")])
    assert compile_sequence_matcher(STEPS, key, DEFAULT).is_universal


def test_M21_absent_attributes_of_items() -> None:
    key = sequence([text(NAME, "PN", "A*")])
    assert not matches(key)
    assert matches(key, MatchingOptions(match_unknown=True))


def test_X5_X8_each_item_has_its_character_set() -> None:
    stored = parse_sequence(
        sequence([text(0x00080005, "CS", "ISO_IR 100"), Element(NAME, "PN", "Müller".encode("latin-1"))])
    )
    key = sequence([text(NAME, "PN", "Müller")])
    assert compile_sequence_matcher(STEPS, key, UTF8).matches(stored, CharacterSet.parse(b"GB18030"))


def test_Q7_Q8_group_lengths_and_private_creators_are_no_keys() -> None:
    key = sequence([Element(0x00090000, "UL", bytes(4)), text(0x00090010, "LO", "ACME"), text(0x00091001, "LO", "x")])
    assert compile_sequence_matcher(STEPS, key, DEFAULT).requested == (0x00091001,)


@pytest.mark.parametrize("value", [b"\1\2", bytes(20)])
def test_bytes_that_are_no_sequence_are_an_error(value: bytes) -> None:
    with pytest.raises(MatchingError):
        compile_sequence_matcher(STEPS, value, DEFAULT)


def test_sequences_nested_too_deep_are_an_error() -> None:
    start = struct.pack("<HH2sHLHHL", 0x0040, 0x0100, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    key = start[12:] + start * 10_000 + struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0) * 10_000
    with pytest.raises(MatchingError, match="too deep"):
        compile_sequence_matcher(STEPS, key + struct.pack("<HHL", 0xFFFE, 0xE00D, 0), DEFAULT)


def test_values_of_numbers_and_text() -> None:
    assert values_of(Element(0x00280010, "US", b"\1\0\2\0\3"), DEFAULT) == ["1", "2"]
    assert values_of(Element(0x00080060, "UN", b"CT\\MR"), DEFAULT) == ["CT", "MR"]
