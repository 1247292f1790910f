"""Whatever the plan, its matches are those of brute force; it streams and stops (rules F10, F11, Q3, Q9, M17, M18)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.dicom.attributes import InformationModel, Level
from fastarchive.query.execute import matches
from fastarchive.query.options import FindOptions
from fastarchive.query.plan import plan
from tests.query.archives import Instance, MemoryView, documents_of
from tests.query.brute_force import brute_force, executed, found_by_plan
from tests.query.identifiers import query
from tests.query.random_archives import archives, questions

TWO_STUDIES = [
    Instance("P1", "1.1", "1.1.1", "9.1", {"PatientName": "SMITH^A", "StudyDate": "20240110", "StudyTime": "0900"}),
    Instance("P1", "1.1", "1.1.1", "9.2", {"InstanceNumber": "2"}),
    Instance("P2", "1.2", "1.2.1", "9.3", {"PatientName": "JONES^B", "StudyDate": "20240112", "StudyTime": "1900"}),
]


@settings(deadline=None)
@given(archives(), questions(), st.data())
def test_plans_find_what_brute_force_finds(
    instances: list[Instance], question: tuple[InformationModel, Level, dict[str, str]], data: st.DataObject
) -> None:
    documents = documents_of(instances)
    keys = sorted({key for level in documents.values() for key in level})
    tail = data.draw(st.one_of(st.just([]), st.just(keys), st.lists(st.sampled_from(keys)) if keys else st.just([])))
    model, level, values = question
    options = FindOptions(
        relational=True,
        combined_datetime=data.draw(st.booleans()),
        fuzzy=data.draw(st.booleans()),
        timezone=data.draw(st.booleans()),
        empty_value=data.draw(st.booleans()),
        multiple_value=data.draw(st.booleans()),
        match_unknown=data.draw(st.booleans()),
    )
    if level is Level.PATIENT and "\\" in values.get("PatientID", ""):
        return
    asked = query(level, values, model=model, options=options)
    found = found_by_plan(asked, MemoryView(documents, tail))
    assert len(found) == len(set(found))
    assert set(found) == brute_force(asked, instances)


def test_Q3_hierarchical_queries_stay_below_their_parents() -> None:
    view = MemoryView(documents_of(TWO_STUDIES))
    assert executed(query("SERIES", StudyInstanceUID="1.2"), view) == ["1.2\\1.2.1"]
    assert executed(query("IMAGE", StudyInstanceUID="1.2", SeriesInstanceUID="1.1.1"), view) == []
    in_patient = query("STUDY", model=InformationModel.PATIENT_ROOT, PatientID="P1")
    assert executed(in_patient, view) == ["1.1"]


def test_Q9_relational_queries_reach_over_levels() -> None:
    view = MemoryView(documents_of(TWO_STUDIES))
    asked = query("IMAGE", options=FindOptions(relational=True), PatientName="smith*", SOPInstanceUID="")
    assert executed(asked, view) == ["9.1", "9.2"]


def test_M17_combined_datetime() -> None:
    view = MemoryView(documents_of(TWO_STUDIES))
    keys = {"StudyDate": "20240110-20240112", "StudyTime": "1000-1800"}
    assert executed(query("STUDY", keys), view) == []
    combined = FindOptions(combined_datetime=True)
    assert executed(query("STUDY", keys, options=combined), view) == []
    wider = {"StudyDate": "20240110-20240112", "StudyTime": "0830-2000"}
    assert set(executed(query("STUDY", wider, options=combined), view)) == {"1.1", "1.2"}
    over_night = {"StudyDate": "20240110-20240112", "StudyTime": "2000-1900"}
    assert executed(query("STUDY", over_night, options=combined), view) == ["1.2"]
    assert executed(query("STUDY", over_night), view) == []


def test_M18_times_are_compared_in_the_zone_of_the_query() -> None:
    late = {"StudyDate": "20240131", "StudyTime": "2330", "TimezoneOffsetFromUTC": "+0000"}
    view = MemoryView(documents_of([Instance("P", "1", "2", "3", late)]))
    asked = {"StudyDate": "20240201", "TimezoneOffsetFromUTC": "+0100"}
    assert executed(query("STUDY", asked, options=FindOptions(timezone=True)), view) == ["1"]
    assert executed(query("STUDY", asked), view) == []


@pytest.mark.parametrize(
    ("zone", "key", "found"),
    [
        ("+0100", "20240201003000", ["9.1", "9.2", "9.3"]),
        ("+0100", "20240131233000", []),
        ("+0100", "20240201003000+0100", ["9.1", "9.2", "9.3"]),
        ("+0100", "20240201-20240202", ["9.1", "9.2", "9.3"]),
        ("+0100", "20240131", []),
        ("+0000", "20240131233000", ["9.1", "9.2"]),
        ("+0000", "2024020100", ["9.3"]),
    ],
)
def test_M18_date_times_are_read_in_the_zone_of_the_query(zone: str, key: str, found: list[str]) -> None:
    """By the offset of the value itself, else of the instance; one that tells none is as written in any zone."""
    told = [
        {"AcquisitionDateTime": "20240131233000", "TimezoneOffsetFromUTC": "+0000"},
        {"AcquisitionDateTime": "20240131183000-0500", "TimezoneOffsetFromUTC": "+0300"},
        {"AcquisitionDateTime": "20240201003000"},
    ]
    instances = [Instance("P", "1", "1.1", f"9.{number}", one) for number, one in enumerate(told, 1)]
    asked = {"AcquisitionDateTime": key, "TimezoneOffsetFromUTC": zone}
    options = FindOptions(timezone=True, relational=True)
    assert executed(query("IMAGE", asked, options=options), MemoryView(documents_of(instances))) == found


def test_F8_modalities_in_study_match_each_value() -> None:
    instances = [
        Instance("P", "1", "1.1", "9.1", {"Modality": "CT"}),
        Instance("P", "1", "1.2", "9.2", {"Modality": "MR"}),
        Instance("P", "2", "2.1", "9.3", {"Modality": "US"}),
    ]
    view = MemoryView(documents_of(instances))
    assert executed(query("STUDY", ModalitiesInStudy="MR"), view) == ["1"]
    assert executed(query("STUDY", ModalitiesInStudy="MR\\US"), view) == ["1", "2"]
    both = FindOptions(multiple_value=True)
    assert executed(query("STUDY", options=both, ModalitiesInStudy="MR\\CT"), view) == ["1"]
    assert executed(query("STUDY", options=both, ModalitiesInStudy="MR\\US"), view) == []


def test_F10_a_search_stops_when_its_pages_are_closed() -> None:
    view = MemoryView(documents_of(Instance("P", f"1.{n}", f"1.{n}.1", f"9.{n}") for n in range(50)))
    pages = matches(plan(query("STUDY"), view), view)
    next(pages)
    next(pages)
    pages.close()
    assert list(pages) == []


def test_F11_the_tail_comes_first_and_pages_may_be_empty() -> None:
    view = MemoryView(documents_of(TWO_STUDIES), tail=["1.2"])
    asked = query("STUDY", StudyDate="20240112")
    pages = [[match.study.key for match in page if match.study] for page in matches(plan(asked, view), view)]
    assert pages == [["1.2"], []]


def test_series_of_the_same_uid_in_two_studies_stay_apart() -> None:
    instances = [Instance("P", "1", "5", "9.1", {"Modality": "CT"}), Instance("P", "2", "5", "9.2", {"Modality": "MR"})]
    view = MemoryView(documents_of(instances))
    relational = FindOptions(relational=True)
    assert executed(query("IMAGE", options=relational, Modality="MR"), view) == ["9.2"]
    assert executed(query("IMAGE", StudyInstanceUID="1", SeriesInstanceUID="5"), view) == ["9.1"]
    assert set(executed(query("IMAGE", options=relational, SeriesInstanceUID="5"), view)) == {"9.1", "9.2"}


def test_M11_long_lists_of_uids_find_each_once() -> None:
    view = MemoryView(documents_of(Instance("P", f"1.{n}", f"1.{n}.1", f"9.{n}") for n in range(40)))
    uids = [f"1.{n}" for n in range(3_000)] * 2
    found = executed(query("STUDY", StudyInstanceUID="\\".join(uids)), view)
    assert sorted(found) == sorted(f"1.{n}" for n in range(40))


def test_X7_a_sender_that_declares_the_wrong_character_set() -> None:
    view = MemoryView(documents_of([Instance("P", "1", "2", "3", {"PatientName": "王^小东"})]))
    keys = {"PatientName": "王*".encode("gb18030")}
    assert executed(query("STUDY", keys, character_set="ISO_IR 100"), view) == []
    told = FindOptions(declared_character_set="GB18030")
    assert executed(query("STUDY", keys, options=told, character_set="ISO_IR 100"), view) == ["1"]


def test_X5_names_match_across_character_sets() -> None:
    view = MemoryView(documents_of([Instance("P", "1", "2", "3", {"PatientName": "Müller^Jörg=王^小东"})]))
    assert executed(query("STUDY", PatientName="Müller*".encode("latin-1"), character_set="ISO_IR 100"), view) == ["1"]
    assert executed(query("STUDY", PatientName="王*".encode("gb18030"), character_set="GB18030"), view) == ["1"]
