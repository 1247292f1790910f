"""What a retrieval means (rules R2, F8)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.dicom.attributes import InformationModel, Level
from fastarchive.dicom.dictionary import tag_of
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Encoding
from fastarchive.index.documents import has_patient_id
from fastarchive.query.identifier import IdentifierError
from fastarchive.query.retrieve import RetrieveRequest, instances, parse_retrieve
from tests.query.archives import Instance, MemoryView, documents_of
from tests.query.identifiers import identifier
from tests.query.random_archives import archives

PATIENT_ROOT, STUDY_ROOT = InformationModel.PATIENT_ROOT, InformationModel.STUDY_ROOT


@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG])
def test_R2_lists_of_uids(encoding: Encoding) -> None:
    data = identifier("STUDY", encoding=encoding, StudyInstanceUID="1.2\\1.3\\1.2", PatientName="ignored*")
    assert parse_retrieve(data, encoding, STUDY_ROOT) == RetrieveRequest(Level.STUDY, {Level.STUDY: ("1.2", "1.3")})


def test_R2_many_uids() -> None:
    uids = [f"1.2.{number}" for number in range(3_000)]
    data = identifier("STUDY", StudyInstanceUID="\\".join(uids))
    assert parse_retrieve(data, EXPLICIT_LITTLE, STUDY_ROOT).keys[Level.STUDY] == tuple(uids)


@pytest.mark.parametrize(
    ("level", "model", "keys", "offending"),
    [
        (None, STUDY_ROOT, {"StudyInstanceUID": "1"}, "QueryRetrieveLevel"),
        ("PATIENT", STUDY_ROOT, {"PatientID": "1"}, "QueryRetrieveLevel"),
        ("STUDY", STUDY_ROOT, {}, "StudyInstanceUID"),
        ("STUDY", STUDY_ROOT, {"StudyInstanceUID": ""}, "StudyInstanceUID"),
        ("STUDY", STUDY_ROOT, {"StudyInstanceUID": " \\"}, "StudyInstanceUID"),
        ("STUDY", STUDY_ROOT, {"StudyInstanceUID": "*"}, "StudyInstanceUID"),
        ("IMAGE", STUDY_ROOT, {"StudyInstanceUID": "1", "SeriesInstanceUID": "2"}, "SOPInstanceUID"),
        ("PATIENT", PATIENT_ROOT, {"PatientID": ""}, "PatientID"),
        ("PATIENT", PATIENT_ROOT, {"PatientID": "\x1f"}, "PatientID"),
        ("PATIENT", PATIENT_ROOT, {"PatientID": "A\\B"}, "PatientID"),
    ],
)
def test_R2_never_means_everything(
    level: str | None, model: InformationModel, keys: dict[str, str], offending: str
) -> None:
    with pytest.raises(IdentifierError) as caught:
        parse_retrieve(identifier(level, keys), EXPLICIT_LITTLE, model)
    assert caught.value.status == 0xA900
    assert caught.value.offending == (tag_of(offending),)


def found(view: MemoryView, level: str, model: InformationModel = STUDY_ROOT, **keys: str) -> list[str]:
    request = parse_retrieve(identifier(level, keys), EXPLICIT_LITTLE, model)
    return [document.key for page in instances(request, view) for document in page]


def test_R2_instances_are_in_order() -> None:
    numbers = ("10", "9", "x", "")
    view = MemoryView(
        documents_of(
            [Instance("P", "1", "1.2", f"9.{n}", {"InstanceNumber": number}) for n, number in enumerate(numbers)]
            + [Instance("P", "1", "1.1", "9.9", {"InstanceNumber": "50"})]
        ),
        tail=["9.0"],
    )
    assert found(view, "STUDY", StudyInstanceUID="1") == ["9.9", "9.2", "9.3", "9.1", "9.0"]


def test_R2_keys_above_narrow_when_they_are_given() -> None:
    view = MemoryView(documents_of([Instance("P", "1", "1.1", "9.1"), Instance("Q", "2", "2.1", "9.2")]))
    assert found(view, "IMAGE", SOPInstanceUID="9.1\\9.2") == ["9.1", "9.2"]
    assert found(view, "IMAGE", StudyInstanceUID="2", SOPInstanceUID="9.1\\9.2") == ["9.2"]
    assert found(view, "SERIES", StudyInstanceUID="1", SeriesInstanceUID="1.1\\2.1") == ["9.1"]
    assert found(view, "STUDY", PATIENT_ROOT, PatientID="Q", StudyInstanceUID="1\\2") == ["9.2"]
    assert found(view, "IMAGE", PATIENT_ROOT, PatientID="Q", SOPInstanceUID="9.1") == []


@settings(deadline=None)
@given(archives(), st.data())
def test_F8_retrieval_delivers_what_is_counted(archive: list[Instance], data: st.DataObject) -> None:
    documents = documents_of(archive)
    keys = sorted({key for level in documents.values() for key in level})
    view = MemoryView(documents, data.draw(st.lists(st.sampled_from(keys))) if keys else [])
    for patient in documents[Level.PATIENT].values():
        if has_patient_id(patient.key):
            delivered = found(view, "PATIENT", PATIENT_ROOT, PatientID=patient.key)
            assert len(delivered) == patient.number_of_instances
            assert set(delivered) == {one.uid for one in archive if one.patient == patient.key}
        else:
            assert found(view, "PATIENT", PATIENT_ROOT, PatientID=patient.key) == []
    for study in documents[Level.STUDY].values():
        delivered = found(view, "STUDY", StudyInstanceUID=study.key)
        assert len(delivered) == study.number_of_instances
    for series in documents[Level.SERIES].values():
        delivered = found(view, "SERIES", StudyInstanceUID=series.study, SeriesInstanceUID=series.series)
        assert len(delivered) == series.number_of_instances
