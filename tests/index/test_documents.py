"""Merging records into documents: the same result in any order, any grouping and any number of times."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastarchive.dicom.attributes import Level
from fastarchive.index.contributions import Template, contribution_of
from fastarchive.index.documents import (
    Contribution,
    Document,
    has_patient_id,
    merge,
    nameless_patient,
    patient_key,
    text_values,
)
from fastarchive.index.encoded import encode_elements, instance_elements
from fastarchive.index.rows import decode_row, encode_row
from fastarchive.store.record import Location, Record, RecordKind
from tests.index.archives import CT, MR, encoded, random_records, record_of
from tests.index.effort import effort


@st.composite
def _of_one_study(draw: st.DrawFn) -> list[Contribution]:
    records = draw(st.lists(random_records().filter(lambda one: one.kind is RecordKind.INSTANCE), max_size=6))
    contributions = [contribution_of(record, Location(1, number, 10)) for number, record in enumerate(records)]
    return [one._replace(study="1.1", series="2.1") for one in contributions]


def _of_one(level: Level, contributions: list[Contribution]) -> list[Contribution]:
    """Contributions to one entity: a study's records may disagree about the patient, a patient's don't."""
    return [one for one in contributions if level is Level.STUDY or one.patient == contributions[0].patient]


@settings(max_examples=effort(50, 1000), deadline=None)
@given(_of_one_study(), st.randoms(), st.sampled_from([Level.PATIENT, Level.STUDY, Level.SERIES]), st.data())
def test_merge_knows_no_order(
    contributions: list[Contribution], random: object, level: Level, data: st.DataObject
) -> None:
    contributions = _of_one(level, contributions)
    if not contributions:
        return
    expected = merge(level, None, contributions).state()
    shuffled = data.draw(st.permutations(contributions))
    cut = data.draw(st.integers(0, len(shuffled)))
    first = merge(level, None, shuffled[:cut]) if cut else None
    before = None if first is None else first.state()
    merged = merge(level, first, [*shuffled[cut:], *shuffled[: cut // 2]])
    assert merged.state() == expected
    assert first is None or first.state() == before  # merge changes nothing it was given


@settings(max_examples=effort(50, 1000), deadline=None)
@given(_of_one_study(), st.sampled_from([Level.PATIENT, Level.STUDY, Level.SERIES]))
def test_rows_hold_documents(contributions: list[Contribution], level: Level) -> None:
    contributions = _of_one(level, contributions)
    if not contributions:
        return
    document = merge(level, None, contributions)
    document.rowid, document.number_of_instances, document.number_of_studies = 2**40, 7, 3
    decoded = decode_row(encode_row(document))
    assert decoded.key == document.key
    assert decoded.rowid == 2**40
    assert decoded.state() == document.state()
    assert decoded.copy().state() == document.state()
    assert encode_row(decode_row(encode_row(document))) == encode_row(document)


def test_rows_hold_instances() -> None:
    document = Document(
        Level.IMAGE,
        patient="Ä王",
        study="1.1",
        series="2.1",
        instance="3.1",
        encoded=encode_elements({0x00200013: b"12"}),
    )
    document.received, document.location, document.digest = 2**62, Location(2**61, 2**40, 999), bytes(range(32))
    document.length, document.transfer_syntax, document.sop_class = 2**33, "1.2", CT
    assert decode_row(encode_row(document)).state() == document.state()
    assert decode_row(encode_row(document)).key == document.key


def test_earliest_value_wins_and_later_ones_fill_gaps() -> None:
    records = [
        record_of("3.1", received=3, t00100010="THIRD", t00100040="F"),
        record_of("3.2", received=1, t00100010=""),
        record_of("3.3", received=2, t00100010="SECOND"),
    ]
    contributions = [contribution_of(record, Location(1, 0, 10)) for record in records]
    for order in permutations(contributions):
        patient = merge(Level.PATIENT, None, order)
        assert patient.values(0x00100010) == ["SECOND"]
        assert patient.values(0x00100040) == ["F"]


def test_Q6_a_study_keeps_what_its_own_records_say_of_the_patient() -> None:
    records = [
        record_of("3.1", received=1, patient_id="", t00100010="SMITH^A"),
        record_of("3.2", received=2, patient_id=" P1", t00100010="SMITH^ANNA", t00100030="19700101"),
        record_of("3.3", received=3, patient_id="P2"),
    ]
    contributions = [contribution_of(record, Location(1, 0, 10)) for record in records]
    study = merge(Level.STUDY, None, contributions[:1])
    assert study.patient == nameless_patient("1.1")
    assert not has_patient_id(study.patient)
    assert study.values(0x00100020) == []
    for order in permutations(contributions):
        study = merge(Level.STUDY, None, order)
        assert study.patient == "P1"
        assert [study.values(tag) for tag in (0x00100010, 0x00100020, 0x00100030)] == [
            ["SMITH^A"],
            ["P1"],
            ["19700101"],
        ]


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_patient_id_is_taken_for_a_study_without_one(patient_id: str, study: str) -> None:
    assert patient_key(patient_id.encode("utf-8", "replace")) != nameless_patient(study)
    assert patient_key(nameless_patient(study).encode("utf-8", "replace")) != nameless_patient(study)


def test_template_gives_what_the_long_way_gives() -> None:
    more: dict[str, Any] = {
        "t00100010": "王^小东",
        "t00080201": "+0800",
        "t00080008": "ORIGINAL\\PRIMARY",
        "t00280010": b"\x20\x20",
    }
    first = record_of("3.1", t00200013="1", t00080023="20240101", **more)
    template = Template(first.attributes)
    for record in (first, record_of("3.22", t00200013="10", **more), record_of("3.3", t00200013="", **more)):
        long_way = contribution_of(record, Location(1, 0, 10))
        part = template.instance_part(record.attributes)
        assert part is not None
        assert instance_elements(part) == long_way.elements[Level.IMAGE]


def test_template_notices_every_difference_above_the_instance() -> None:
    template = Template(record_of("3.1", t00100010="A", t00081030="B").attributes)
    others = [
        record_of("3.1", t00100010="A"),
        record_of("3.1", t00100010="A", t00081030="C"),
        record_of("3.1", t00100010="A", t00081030="B", t00180015="HEAD"),
        record_of("3.1", t00100010="A", t00081030="B", t00200011="7"),
        record_of("3.1", t00100010="A", t00081030="B", t00080201="+0100"),
    ]
    for record in others:
        assert template.instance_part(record.attributes) is None


@given(st.binary(max_size=200))
@example(b"\x08\0\5\0CS")
def test_malformed_attributes_never_fail(attributes: bytes) -> None:
    record = Record(RecordKind.INSTANCE, 1, bytes(32), 1, CT, "3", "1", "2", "4", "A", "B", attributes, ())
    contribution_of(record, Location(1, 0, 10))
    Template(attributes).instance_part(attributes)
    Template(record_of("3.1").attributes).instance_part(attributes)


def test_X5_text_is_utf8_whatever_it_was() -> None:
    elements: dict[int, str | bytes] = {0x00080005: "GB18030", 0x00100010: "王^小东".encode("gb18030")}
    contribution = contribution_of(
        Record(RecordKind.INSTANCE, 1, bytes(32), 1, CT, "3", "1", "2", "4", "A", "B", encoded(elements), ()),
        Location(1, 0, 10),
    )
    assert contribution.elements[Level.PATIENT][0x00100010].decode().strip() == "王^小东"


def test_X2_seven_bit_escape_sequences_are_no_ascii() -> None:
    japanese = "山田^太郎".encode("iso2022_jp")
    elements: dict[int, str | bytes] = {0x00080005: "\\ISO 2022 IR 87", 0x00100010: japanese}
    assert encoded(elements).isascii()
    contribution = contribution_of(
        Record(RecordKind.INSTANCE, 1, bytes(32), 1, CT, "3", "1", "2", "4", "A", "B", encoded(elements), ()),
        Location(1, 0, 10),
    )
    assert contribution.elements[Level.PATIENT][0x00100010].decode().strip() == "山田^太郎"


def test_values_are_split_and_stripped_by_vr() -> None:
    assert text_values(b"1.2\0", "UI") == ["1.2"]
    assert text_values(b" CT \\MR ", "CS") == ["CT", "MR"]
    assert text_values(b" a\\b ", "LT") == [" a\\b"]
    assert text_values(b"  ", "LO") == []
    assert text_values(b"A\\\\B", "LO") == ["A", "", "B"]
    assert patient_key(b" P\x07 1 ") == "P 1"


def test_sop_classes_and_modalities_are_sets() -> None:
    records = [
        record_of("3.1", sop_class=MR, t00080060="MR"),
        record_of("3.2", sop_class=CT, t00080060="CT"),
        record_of("3.3", sop_class=CT, t00080060="CT"),
    ]
    study = merge(Level.STUDY, None, [contribution_of(record, Location(1, 0, 10)) for record in records])
    assert study.modalities == ("CT", "MR")
    assert study.sop_classes == tuple(sorted((CT, MR)))
