"""What an identifier may ask (rules Q1–Q9, M2, M19)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastarchive.dicom.attributes import InformationModel, Kind, Level
from fastarchive.dicom.dictionary import tag_of
from fastarchive.dicom.elements import Element, encode, encode_sequence
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Encoding
from fastarchive.query.identifier import IdentifierError, Use, parse_find
from fastarchive.query.options import FindOptions, answer_negotiation
from tests.query.identifiers import identifier, query

PATIENT_ROOT, STUDY_ROOT = InformationModel.PATIENT_ROOT, InformationModel.STUDY_ROOT
ENCODINGS = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG)


def refused(data: bytes, model: InformationModel = STUDY_ROOT, options: FindOptions | None = None) -> IdentifierError:
    with pytest.raises(IdentifierError) as caught:
        parse_find(data, EXPLICIT_LITTLE, model, options)
    assert caught.value.status == 0xA900
    assert 0 < len(caught.value.comment) <= 64
    return caught.value


@pytest.mark.parametrize("level", [None, "", " ", "INSTANCE", "study", "STUDY\\SERIES", "\0", "WORKLIST"])
def test_Q1_level_missing_or_unknown(level: str | None) -> None:
    assert refused(identifier(level, PatientName="")).offending == (0x0008_0052,)


@pytest.mark.parametrize(
    ("model", "level"),
    [
        (STUDY_ROOT, "PATIENT"),
        (InformationModel.PATIENT_STUDY_ONLY, "SERIES"),
        (InformationModel.PATIENT_STUDY_ONLY, "IMAGE"),
    ],
)
def test_Q2_level_not_in_the_model(model: InformationModel, level: str) -> None:
    assert refused(identifier(level), model).offending == (0x0008_0052,)


@pytest.mark.parametrize("value", [None, "", "1.2\\1.3", "1.*", "1.?"])
def test_Q3_unique_keys_above_are_single_values(value: str | None) -> None:
    keys = {} if value is None else {"StudyInstanceUID": value}
    data = identifier("SERIES", keys, SeriesInstanceUID="")
    assert refused(data).offending == (tag_of("StudyInstanceUID"),)
    assert parse_find(data, EXPLICIT_LITTLE, STUDY_ROOT, FindOptions(relational=True)).level is Level.SERIES


def test_Q3_every_level_above_counts() -> None:
    assert refused(identifier("STUDY"), PATIENT_ROOT).offending == (tag_of("PatientID"),)
    assert refused(identifier("IMAGE", StudyInstanceUID="1")).offending == (tag_of("SeriesInstanceUID"),)
    assert query("IMAGE", StudyInstanceUID="1", SeriesInstanceUID="2").level is Level.IMAGE


def test_Q4_unique_key_at_the_level() -> None:
    for value in ("", "1.2", "1.2\\1.3"):
        assert query("STUDY", StudyInstanceUID=value).level is Level.STUDY
    assert refused(identifier("PATIENT", PatientID="A\\B"), PATIENT_ROOT).offending == (tag_of("PatientID"),)


def test_Q5_keys_below_the_level_are_ignored() -> None:
    found = query("STUDY", StudyInstanceUID="", Modality="CT", SOPInstanceUID="1", ModalitiesInStudy="CT")
    assert {key.name for key in found.keys if key.use is Use.BELOW} == {"Modality", "SOPInstanceUID"}
    assert [key.name for key in found.returns] == ["ModalitiesInStudy", "StudyInstanceUID"]
    assert found.unsupported == (tag_of("SOPInstanceUID"), tag_of("Modality"))


def test_Q6_patient_attributes_are_keys_of_the_study_in_study_root() -> None:
    (key,) = query("STUDY", PatientName="A*").returns
    assert (key.level, key.kind, key.use) == (Level.STUDY, Kind.REQUIRED, Use.MATCH)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_Q7_group_lengths_and_low_groups_are_ignored(encoding: Encoding) -> None:
    data = encode(
        [
            Element(0x0002_0010, "UI", b"1.2\0"),
            Element(0x0008_0000, "UL", bytes(4)),
            Element(0x0008_0052, "CS", b"STUDY "),
            Element(0x0010_0000, "UL", bytes(4)),
            Element(0x0010_0010, "PN", b""),
        ],
        encoding,
    )
    found = parse_find(data, encoding, STUDY_ROOT)
    assert [key.name for key in found.keys] == ["PatientName"]
    assert found.unsupported == ()


def test_Q8_private_keys_are_not_supported() -> None:
    data = encode(
        [
            Element(0x0008_0052, "CS", b"STUDY "),
            Element(0x0009_0010, "LO", b"ACME"),
            Element(0x0009_1001, "LO", b"X "),
        ],
        EXPLICIT_LITTLE,
    )
    found = parse_find(data, EXPLICIT_LITTLE, STUDY_ROOT)
    assert found.returns == ()
    assert found.unsupported == (0x0009_0010, 0x0009_1001)


def test_Q9_relational_only_when_agreed() -> None:
    data = identifier("IMAGE", PatientName="A*")
    refused(data, options=FindOptions.agreed(b"\0\1\1"))
    refused(data, options=FindOptions.agreed(None))
    assert parse_find(data, EXPLICIT_LITTLE, STUDY_ROOT, FindOptions.agreed(b"\1")).options.relational


def test_N1_to_N6_negotiation_answers_what_is_done_and_no_more() -> None:
    assert answer_negotiation(b"\1\1\1\1\1\1\1") == b"\1\1\1\1\0\1\1"
    assert answer_negotiation(b"\0\1") == b"\0\1"
    assert answer_negotiation(b"") == b""
    assert answer_negotiation(b"\1" * 9) == b"\1\1\1\1\0\1\1"
    assert answer_negotiation(b"\2") == b"\0"
    assert FindOptions.agreed(b"\0\0\1") == FindOptions(fuzzy=True)


def test_M1_zero_length_returns_and_matches_everything() -> None:
    found = query("STUDY", PatientName="", StudyDate="")
    assert {key.use for key in found.keys} == {Use.RETURN}
    assert found.matchers == ()


def test_M2_empty_character_set_is_none() -> None:
    found = parse_find(
        encode(
            [Element(0x0008_0005, "CS", b""), Element(0x0008_0052, "CS", b"STUDY "), Element(0x0010_0010, "PN", b"A*")],
            EXPLICIT_LITTLE,
        ),
        EXPLICIT_LITTLE,
        STUDY_ROOT,
    )
    assert found.character_set.is_default
    assert [key.name for key in found.keys] == ["PatientName"]


def test_M18_zone_is_read_only_when_agreed() -> None:
    assert query("STUDY", TimezoneOffsetFromUTC="+0100").zone is None
    agreed = FindOptions(timezone=True)
    assert query("STUDY", options=agreed, TimezoneOffsetFromUTC="-0530").zone == -330
    assert query("STUDY", options=agreed).zone is None
    error = refused(identifier("STUDY", TimezoneOffsetFromUTC="CET"), options=agreed)
    assert error.offending == (0x0008_0201,)


def test_M19_sequence_keys_have_one_item_at_most() -> None:
    def with_items(count: int) -> bytes:
        items = encode_sequence([[Element(0x0008_0100, "SH", b"")]] * count)
        elements = [Element(0x0008_0052, "CS", b"STUDY "), Element(0x0008_1032, "SQ", items)]
        return encode(elements, EXPLICIT_LITTLE)

    for count in (0, 1):
        assert parse_find(with_items(count), EXPLICIT_LITTLE, STUDY_ROOT).unsupported == (0x0008_1032,)
    assert refused(with_items(2)).offending == (0x0008_1032,)


def test_binary_keys_are_read_as_numbers() -> None:
    found = query("IMAGE", StudyInstanceUID="1", SeriesInstanceUID="2", Rows=512)
    assert found.matchers[-1].matches(["512"])
    assert not found.matchers[-1].matches(["128"])
    spaces = query("IMAGE", StudyInstanceUID="1", SeriesInstanceUID="2", Rows=b"  ")  # 0x2020
    assert spaces.matchers[-1].matches(["8224"])
    three_bytes = b"\x28\0\x10\0US\3\0\1\2\3"
    data = identifier("IMAGE", StudyInstanceUID="1", SeriesInstanceUID="2") + three_bytes
    assert refused(data).offending == (tag_of("Rows"),)


@given(st.binary(max_size=200), st.sampled_from(ENCODINGS), st.sampled_from(InformationModel))
def test_any_bytes_are_a_query_or_refused(data: bytes, encoding: Encoding, model: InformationModel) -> None:
    try:
        parse_find(data, encoding, model)
    except IdentifierError as error:
        assert error.status == 0xA900
        assert len(error.comment) <= 64


@given(st.data())
def test_a_damaged_identifier_is_a_query_or_refused(data: st.DataObject) -> None:
    encoding = data.draw(st.sampled_from(ENCODINGS))
    whole = bytearray(
        identifier("STUDY", encoding=encoding, PatientName="A*", StudyDate="20240101-", StudyInstanceUID="1.2")
    )
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)):
        whole[place] = data.draw(st.integers(0, 255))
    try:
        parse_find(bytes(whole[: data.draw(st.integers(0, len(whole)))]), encoding, STUDY_ROOT)
    except IdentifierError as error:
        assert error.status == 0xA900


def test_deep_nesting_is_refused() -> None:
    depth = 5_000
    item = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    refused(identifier("STUDY") + item * depth)


def test_empty_identifier_is_refused() -> None:
    assert refused(b"").offending == (0x0008_0052,)
