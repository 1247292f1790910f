"""Queries written with keywords, and their answers as text."""

from __future__ import annotations

import pytest

from fastarchive.dicom.attributes import InformationModel, Level
from fastarchive.query.keywords import KeywordError, find, parse_keywords
from tests.query.archives import Instance, MemoryView, documents_of

VIEW = MemoryView(
    documents_of(
        [
            Instance("P1", "1.1", "1.1.1", "9.1", {"PatientName": "SMITH^A", "Modality": "CT", "Rows": b"\0\2"}),
            Instance("P2", "1.2", "1.2.1", "9.2", {"PatientName": "王^小东", "Modality": "MR"}),
        ]
    )
)


def test_keys_of_levels_above_match() -> None:
    asked = parse_keywords("series", ["PatientName=smi*"], ["Modality", "PatientName"])
    assert list(find(asked, VIEW)) == [{"Modality": "CT", "PatientName": "SMITH^A"}]


def test_matching_keys_are_returned_too() -> None:
    asked = parse_keywords("STUDY", ["PatientName=王*"], ["StudyInstanceUID"])
    assert list(find(asked, VIEW)) == [{"PatientName": "王^小东", "StudyInstanceUID": "1.2"}]


def test_without_returns_the_usual_keys_are_returned() -> None:
    (answer, _) = find(parse_keywords("PATIENT"), VIEW)
    assert answer["PatientID"] == "P1"
    assert answer["PatientBirthDate"] == ""
    assert answer["NumberOfPatientRelatedStudies"] == "1"
    asked = parse_keywords("STUDY", ["StudyInstanceUID=1.2"])
    assert asked.model is InformationModel.STUDY_ROOT
    (answer,) = find(asked, VIEW)
    assert answer["ModalitiesInStudy"] == "MR"


def test_numbers_and_any_case_of_keywords() -> None:
    assert parse_keywords("image", ["rows=512"], ["rows"]).level is Level.IMAGE
    assert list(find(parse_keywords("image", ["rows=512"], ["SOPInstanceUID"]), VIEW)) == [
        {"SOPInstanceUID": "9.1", "Rows": "512"}
    ]


@pytest.mark.parametrize(
    ("level", "keys", "said"),
    [
        ("INSTANCE", [], "IMAGE"),
        ("planet", [], "PATIENT, STUDY, SERIES or IMAGE"),
        ("STUDY", ["PatientsName=A"], "did you mean PatientName"),
        ("STUDY", ["=A"], "no keyword"),
        ("STUDY", ["KVP=100"], "cannot be searched"),
        ("STUDY", ["Modality=CT"], "ask at level SERIES"),
        ("IMAGE", ["Rows=many"], "number"),
        ("STUDY", ["StudyDate=1-2-3"], "StudyDate"),
    ],
)
def test_what_cannot_be_asked_is_explained(level: str, keys: list[str], said: str) -> None:
    with pytest.raises(KeywordError, match=said):
        parse_keywords(level, keys)
