"""Orthanc on both sides: it stores to the archive, asks it, moves from it, and is a destination."""

from __future__ import annotations

from typing import Any

import pydicom
import pytest

from bench.encoding import data_set_offset
from bench.modality import Instance, Modality, Scanner
from bench.peers import Orthanc
from bench.requestor import STUDY_ROOT_MOVE, Context
from tests.peers import dcmtk
from tests.peers.conftest import Stored, associate
from tests.server.harness import eventually

SCANNER = Scanner(77, small=True)


@pytest.fixture(scope="module")
def instances() -> list[Instance]:
    """Two studies of one patient with a name beyond ASCII, and one of somebody else."""
    kinds = [(0, 0, Modality.CT), (0, 1, Modality.MR), (1, 0, Modality.US)]
    made: list[Instance] = []
    for patient, number, modality in kinds:
        study = SCANNER.study(SCANNER.patient(patient), number, modality)
        made += SCANNER.series(study, 1, 6)
    return made


@pytest.fixture(scope="module")
def sent(stored: Stored, orthanc: Orthanc, instances: list[Instance]) -> list[Instance]:
    """The instances, uploaded to Orthanc and stored by it to the archive."""
    uploaded = [orthanc.request("/instances", instance.file())["ID"] for instance in instances]
    orthanc.request(
        "/modalities/FASTARCHIVE",
        {"AET": "FASTARCHIVE", "Host": stored.archive.host, "Port": stored.archive.dicom_port},
        "PUT",
    )
    result = orthanc.request("/modalities/FASTARCHIVE/store", {"Resources": uploaded, "Synchronous": True})
    assert result["InstancesCount"] == len(instances)
    assert result["FailedInstancesCount"] == 0
    return instances


def test_orthanc_echoes(stored: Stored, orthanc: Orthanc, sent: list[Instance]) -> None:
    orthanc.request("/modalities/FASTARCHIVE/echo", {})


def test_orthanc_stores(stored: Stored, sent: list[Instance]) -> None:
    for study in {instance.study.uid for instance in sent}:
        keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study, "NumberOfStudyRelatedInstances": ""}
        (answer,) = dcmtk.findscu(stored.archive, "study root", keys)
        assert answer.NumberOfStudyRelatedInstances == sum(one.study.uid == study for one in sent)


@pytest.mark.parametrize("level", ["Patient", "Study", "Series", "Instance"])
def test_orthanc_queries(orthanc: Orthanc, sent: list[Instance], level: str) -> None:
    first = sent[0]
    query: dict[str, str] = {"PatientID": first.study.patient.patient_id}
    expected: tuple[str, set[str]] = ("PatientID", {first.study.patient.patient_id})
    if level == "Study":
        query |= {"StudyDescription": "", "ModalitiesInStudy": ""}
        expected = ("StudyInstanceUID", {one.study.uid for one in sent if one.study.patient == first.study.patient})
    elif level == "Series":
        query |= {"StudyInstanceUID": first.study.uid}
        expected = ("SeriesInstanceUID", {first.series})
    elif level == "Instance":
        query |= {"StudyInstanceUID": first.study.uid, "SeriesInstanceUID": first.series}
        expected = ("SOPInstanceUID", {one.sop_instance for one in sent if one.series == first.series})
    answers = _query(orthanc, level, query)
    assert {answer[expected[0]] for answer in answers} == expected[1]
    assert len(answers) == len(expected[1])


def test_orthanc_queries_names_with_wildcards(orthanc: Orthanc, sent: list[Instance]) -> None:
    for patient in {one.study.patient.patient_id: one.study.patient for one in sent}.values():
        family = patient.name.partition("^")[0]
        answers = _query(orthanc, "Study", {"PatientName": f"*{family[1:]}*", "PatientID": patient.patient_id})
        assert {answer["StudyInstanceUID"] for answer in answers} == {
            one.study.uid for one in sent if one.study.patient == patient
        }
        assert {answer["PatientName"] for answer in answers} == {patient.name}


def _query(orthanc: Orthanc, level: str, query: dict[str, str]) -> list[dict[str, Any]]:
    found = orthanc.request("/modalities/FASTARCHIVE/query", {"Level": level, "Query": query})
    return [
        orthanc.request(f"/queries/{found['ID']}/answers/{number}/content?simplify")
        for number in orthanc.request(f"/queries/{found['ID']}/answers")
    ]


def test_orthanc_retrieves_by_move(stored: Stored, orthanc: Orthanc, sent: list[Instance]) -> None:
    study = sent[0].study.uid
    wanted = {one.sop_instance: one for one in sent if one.study.uid == study}
    (there,) = orthanc.request("/tools/find", {"Level": "Study", "Query": {"StudyInstanceUID": study}})
    orthanc.request(f"/studies/{there}", method="DELETE")
    found = orthanc.request("/modalities/FASTARCHIVE/query", {"Level": "Study", "Query": {"StudyInstanceUID": study}})
    orthanc.request(f"/queries/{found['ID']}/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
    received = held_by(orthanc, study)
    assert set(received) == set(wanted)
    for uid, file in received.items():
        assert pydicom.dcmread(_as_file(file)) == pydicom.dcmread(_as_file(wanted[uid].file()))


def test_movescu_to_orthanc_gives_the_bytes_that_were_stored(stored: Stored, orthanc: Orthanc) -> None:
    sample = next(one for one in stored.accepted if one.name == "CT_small.dcm")
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": sample.study}
    said = dcmtk.movescu(stored.archive, "study root", keys, "ORTHANC")
    assert "Received Final Move Response (Success)" in said, said
    members = {one.sop_instance: one for one in stored.accepted if one.study == sample.study}
    received = eventually("all in Orthanc", lambda: _complete(held_by(orthanc, sample.study), len(members)))
    assert set(received) == set(members)
    for uid, file in received.items():
        assert file[data_set_offset(file) :] == members[uid].data_set


def test_everything_of_the_corpus_can_be_moved_to_orthanc(stored: Stored, orthanc: Orthanc) -> None:
    """Orthanc refuses what it can't parse; the archive counts each of those as failed and goes on."""
    from bench.encoding import element

    failures: dict[str, int] = {}
    with associate(stored.archive, Context(STUDY_ROOT_MOVE)) as association:
        for study in sorted({sample.study for sample in stored.accepted}):
            identifier = element(0x00080052, "CS", "STUDY") + element(0x0020000D, "UI", study)
            final, _ = association.move(STUDY_ROOT_MOVE, identifier, "ORTHANC")
            assert final.status in {0x0000, 0xB000, 0xA702}, (study, final)
            members = sum(sample.study == study for sample in stored.accepted)
            counts = [final.number(number) or 0 for number in (0x1021, 0x1022, 0x1023)]
            assert sum(counts) == members, (study, counts, final)
            if counts[1]:
                failures[study] = counts[1]
    assert sum(failures.values()) <= 12, failures


def held_by(orthanc: Orthanc, study: str) -> dict[str, bytes]:
    """{SOP Instance UID: file} of one study in Orthanc."""
    found = orthanc.request("/tools/find", {"Level": "Instance", "Query": {"StudyInstanceUID": study}, "Expand": True})
    return {one["MainDicomTags"]["SOPInstanceUID"]: orthanc.request(f"/instances/{one['ID']}/file") for one in found}


def _complete(received: dict[str, bytes], count: int) -> dict[str, bytes] | None:
    return received if len(received) == count else None


def _as_file(content: bytes) -> Any:
    from io import BytesIO

    return BytesIO(content)
