"""A study is answered with what its own records say of the patient, never with what another study says (rule Q6).

Studies without a Patient ID have nobody in common; and where two hospitals gave out the same Patient ID, each study
keeps its name. All of it in the tail of the log, in the index, and half in each.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastarchive.dicom.attributes import InformationModel, Level
from fastarchive.dicom.dictionary import tag_of
from fastarchive.dicom.elements import walk
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE
from fastarchive.index.view import View
from fastarchive.query.execute import matches
from fastarchive.query.identifier import IdentifierError
from fastarchive.query.options import FindOptions
from fastarchive.query.plan import plan
from fastarchive.query.respond import Responder
from fastarchive.query.retrieve import instances, parse_retrieve
from tests.query.archives import Instance
from tests.query.identifiers import identifier, query
from tests.query.test_on_the_index import stored

PATIENT_ROOT, STUDY_ROOT = InformationModel.PATIENT_ROOT, InformationModel.STUDY_ROOT
NOBODY = [
    Instance("", "1.1", "1.1.1", "9.1", {"PatientName": "SMITH^A", "PatientBirthDate": "19700101"}),
    Instance("", "1.2", "1.2.1", "9.2", {"PatientName": "JONES^B"}),
    Instance("", "1.2", "1.2.2", "9.3", {"PatientName": "JONES^B"}),
]
TWO_HOSPITALS = [
    Instance("7", "1.1", "1.1.1", "9.1", {"PatientName": "SMITH^A", "IssuerOfPatientID": "NORTH"}),
    Instance("7", "1.2", "1.2.1", "9.2", {"PatientName": "JONES^B", "IssuerOfPatientID": "SOUTH"}),
    Instance("7", "1.2", "1.2.1", "9.3", {"PatientName": "JONES^B", "IssuerOfPatientID": "SOUTH"}),
]
HOW_MUCH = [pytest.param(0, id="tail"), pytest.param(3, id="index"), *[pytest.param(n, id=f"mixed{n}") for n in (1, 2)]]

Answer = dict[str, str]


def answers(view: View, level: str, model: InformationModel = STUDY_ROOT, **keys: str) -> list[Answer]:
    """What a peer is told, by keyword, in an order of its own."""
    asked = query(level, keys, model=model, options=FindOptions(relational=True))
    responder = Responder(asked, EXPLICIT_LITTLE, "ARCHIVE")
    found = []
    for page in matches(plan(asked, view), view):
        for match in page:
            by_tag = {one.tag: one.value for one in walk(responder.identifier(match), EXPLICIT_LITTLE)}
            found.append({keyword: by_tag[tag_of(keyword)].decode().strip(" \0") for keyword in keys})
    return sorted(found, key=str)


@pytest.fixture(params=HOW_MUCH)
def nobody(request: pytest.FixtureRequest) -> Iterator[View]:
    with stored(NOBODY, request.param) as view:
        yield view


@pytest.fixture(params=HOW_MUCH)
def two_hospitals(request: pytest.FixtureRequest) -> Iterator[View]:
    with stored(TWO_HOSPITALS, request.param) as view:
        yield view


def test_Q6_studies_without_patient_id_keep_their_names(nobody: View) -> None:
    for model in (STUDY_ROOT, PATIENT_ROOT):
        told = answers(nobody, "STUDY", model, StudyInstanceUID="", PatientName="", PatientID="", PatientBirthDate="")
        assert told == [
            {"StudyInstanceUID": "1.1", "PatientName": "SMITH^A", "PatientID": "", "PatientBirthDate": "19700101"},
            {"StudyInstanceUID": "1.2", "PatientName": "JONES^B", "PatientID": "", "PatientBirthDate": ""},
        ]


def test_Q6_studies_without_patient_id_are_found_by_their_own_names(nobody: View) -> None:
    for level, found in (("STUDY", 1), ("SERIES", 2), ("IMAGE", 2)):
        told = answers(nobody, level, PatientName="JONES*", StudyInstanceUID="")
        assert told == [{"PatientName": "JONES^B", "StudyInstanceUID": "1.2"}] * found
    assert answers(nobody, "STUDY", PatientName="JONES*", PatientBirthDate="19700101") == []


def test_studies_without_patient_id_have_a_patient_each(nobody: View) -> None:
    told = answers(
        nobody,
        "PATIENT",
        PATIENT_ROOT,
        PatientName="",
        PatientID="",
        NumberOfPatientRelatedStudies="",
        NumberOfPatientRelatedSeries="",
        NumberOfPatientRelatedInstances="",
    )
    assert [list(answer.values()) for answer in told] == [
        ["JONES^B", "", "1", "2", "2"],
        ["SMITH^A", "", "1", "1", "1"],
    ]
    assert len(answers(nobody, "PATIENT", PATIENT_ROOT, PatientName="JONES*")) == 1
    assert nobody.counts()[Level.PATIENT] == 2
    by_count = answers(nobody, "STUDY", StudyInstanceUID="", NumberOfPatientRelatedInstances="2")
    assert [answer["StudyInstanceUID"] for answer in by_count] == ["1.2"]


def test_R2_patients_without_patient_id_are_not_retrieved_by_it(nobody: View) -> None:
    with pytest.raises(IdentifierError) as caught:
        parse_retrieve(identifier("PATIENT", PatientID=""), EXPLICIT_LITTLE, PATIENT_ROOT)
    assert caught.value.status == 0xA900
    for patient in nobody.tail_documents(Level.PATIENT):
        request = parse_retrieve(identifier("PATIENT", PatientID=patient.key), EXPLICIT_LITTLE, PATIENT_ROOT)
        assert [page for page in instances(request, nobody) if page] == []
    request = parse_retrieve(identifier("STUDY", StudyInstanceUID="1.2"), EXPLICIT_LITTLE, PATIENT_ROOT)
    assert {one.key for page in instances(request, nobody) for one in page} == {"9.2", "9.3"}


def test_Q6_studies_of_one_patient_id_keep_their_names(two_hospitals: View) -> None:
    keys = {"StudyInstanceUID": "", "PatientName": "", "IssuerOfPatientID": "", "PatientID": "7"}
    for model in (STUDY_ROOT, PATIENT_ROOT):
        told = answers(two_hospitals, "STUDY", model, **keys)
        assert [list(answer.values()) for answer in told] == [
            ["1.1", "SMITH^A", "NORTH", "7"],
            ["1.2", "JONES^B", "SOUTH", "7"],
        ]
    told = answers(two_hospitals, "STUDY", PATIENT_ROOT, **{**keys, "PatientName": "JONES*"})
    assert [answer["StudyInstanceUID"] for answer in told] == ["1.2"]


def test_a_patient_id_is_one_patient_whoever_gave_it_out(two_hospitals: View) -> None:
    told = answers(
        two_hospitals, "PATIENT", PATIENT_ROOT, PatientID="7", PatientName="", NumberOfPatientRelatedStudies=""
    )
    assert [list(answer.values()) for answer in told] == [["7", "SMITH^A", "2"]]
    request = parse_retrieve(identifier("PATIENT", PatientID="7"), EXPLICIT_LITTLE, PATIENT_ROOT)
    assert {one.key for page in instances(request, two_hospitals) for one in page} == {"9.1", "9.2", "9.3"}


@pytest.mark.parametrize("indexed", HOW_MUCH)
def test_a_later_record_that_tells_the_patient_id_moves_the_study_to_that_patient(indexed: int) -> None:
    archive = [
        Instance("", "1.1", "1.1.1", "9.1", {"PatientName": "SMITH^A"}),
        Instance("7", "1.2", "1.2.1", "9.2", {"PatientName": "SMITH^ANNA"}),
        Instance("7", "1.1", "1.1.1", "9.3", {"PatientName": "SMITH^ANNA", "PatientSex": "F"}),
    ]
    with stored(archive, indexed) as view:
        told = answers(view, "PATIENT", PATIENT_ROOT, PatientID="", PatientName="", NumberOfPatientRelatedStudies="")
        assert [list(answer.values()) for answer in told] == [["7", "SMITH^ANNA", "2"]]
        told = answers(view, "STUDY", StudyInstanceUID="", PatientName="", PatientID="7", PatientSex="")
        assert [list(answer.values()) for answer in told] == [
            ["1.1", "SMITH^A", "7", "F"],
            ["1.2", "SMITH^ANNA", "7", ""],
        ]
        assert view.counts()[Level.PATIENT] == 1
