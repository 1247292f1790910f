"""Instances of one study that disagree: noted as they come, listed value by value, gone when the cause is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fastarchive.admission import ConflictPolicies, Outcome
from fastarchive.archive import Archive
from fastarchive.cli import app
from fastarchive.dicom.attributes import Level
from fastarchive.index.disagreements import disagreeing_among, meant
from fastarchive.index.documents import Contribution
from fastarchive.upkeep import quarantine
from tests.conflicting import named, store
from tests.server.instances import sop_instance_uid
from tests.upkeep.filled import study_uid

NAME, PATIENT_ID, BIRTH_DATE = 0x00100010, 0x00100020, 0x00100030


def listed(data: Path, *studies: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(app, ["conflicts", *studies, "--data", str(data), "--json"])
    found: list[dict[str, Any]] = json.loads(result.stdout)
    assert result.exit_code == (1 if found else 0), result.output
    return found


def store_study(archive: Archive) -> None:
    """Four instances of study 0 and two of study 1, which agree."""
    born = ("DA", b"19700101")
    store(archive, named("SMITH^ANNA", number=1, t00100030=born))
    store(archive, named("SMITH^ANNA^^", number=2), calling_ae="CT2")  # the same name, and no birth date
    store(archive, named("SMYTH^ANNA", number=3, t00100030=("DA", b"19700102")), calling_ae="CT2")
    store(archive, named("SMYTH^ANNA", number=4, t00100020=("LO", b"OTHER")), calling_ae="WS")
    for number in (11, 12):
        store(archive, named("JONES^TOM", number=number))


def test_every_value_is_listed_with_its_instances_and_senders(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Archive.open(data) as archive:
        store_study(archive)
        while_running = listed(data)
    for _ in range(2):
        found = listed(data)
        assert found == while_running
        by_keyword = {one["keyword"]: one["values"] for one in found}
        assert {one["study"] for one in found} == {study_uid(0)}
        assert set(by_keyword) == {"PatientName", "PatientID", "PatientBirthDate"}
        names = [(one["value"], one["instances"], one["calling_ae_titles"]) for one in by_keyword["PatientName"]]
        assert names == [("SMITH^ANNA", 2, ["CT1", "CT2"]), ("SMYTH^ANNA", 2, ["CT2", "WS"])]
        assert [(one["value"], one["instances"]) for one in by_keyword["PatientBirthDate"]] == [
            ("19700101", 1),
            ("", 2),
            ("19700102", 1),
        ]
        assert [one["value"] for one in by_keyword["PatientID"]] == ["P0", "OTHER"]
        shutil.rmtree(data / "index")
        Archive.open(data).close()
    assert listed(data, study_uid(1)) == []
    assert listed(data, study_uid(0)) == found


def test_the_bytes_and_the_answers_stay_those_of_the_first(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "data") as archive:
        store_study(archive)
        assert archive.read(sop_instance_uid(3)).read() == named("SMYTH^ANNA", number=3, t00100030=("DA", b"19700102"))
        (study,) = archive.find("STUDY", {"StudyInstanceUID": study_uid(0)}, ["PatientName", "PatientBirthDate"])
        assert (study["PatientName"], study["PatientBirthDate"]) == ("SMITH^ANNA", "19700101")
        assert len(archive.view().disagreements()) == 1
    with Archive.open(tmp_path / "data") as archive:
        assert archive.index.tail_length() == 0
        assert archive.index.disagreements() == 1


def test_they_are_gone_with_the_instances_that_disagreed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Archive.open(data) as archive:
        store_study(archive)
    uids = [sop_instance_uid(number) for number in (3, 4)]
    result = CliRunner().invoke(app, ["delete", "image", *uids, "--reason", "wrong", "--yes", "--data", str(data)])
    assert result.exit_code == 0, result.output
    assert listed(data) == []
    with Archive.open(data) as archive:
        assert archive.view().disagreements() == {}
    with Archive.open(data, read_only=True) as archive:
        assert archive.view().disagreements() == {}
        assert archive.index.disagreements() == 0
        assert listed(data) == []


def contribution(order: int, elements: dict[int, bytes]) -> Contribution:
    said = {level: elements if level is Level.PATIENT else {} for level in Level}
    return Contribution((order, 1, 1), "P", "1", "2", str(order), "3", "CT", said)


@given(st.lists(st.dictionaries(st.sampled_from([NAME, PATIENT_ID, BIRTH_DATE]), st.sampled_from([b"A", b"A ", b"B"]))))
@settings(max_examples=60, deadline=None)
def test_what_disagrees_doesn_t_depend_on_the_order(said: list[dict[int, bytes]]) -> None:
    contributions = [contribution(order, elements) for order, elements in enumerate(said)]
    expected = {
        tag
        for tag in (NAME, PATIENT_ID, BIRTH_DATE)
        if len({meant(tag, elements[tag]) for elements in said if tag in elements}) > 1
    }
    assert disagreeing_among(contributions) == disagreeing_among(reversed(contributions)) == expected


@pytest.mark.parametrize(
    ("one", "other"), [(b"A^B", b"A^B^^="), (b"A^B ", b"A^B"), ("Jérôme".encode(), "Je\u0301rôme".encode())]
)
def test_M10_spelling_without_meaning_is_no_disagreement(one: bytes, other: bytes) -> None:
    assert meant(NAME, one) == meant(NAME, other)
    assert meant(NAME, one) != meant(NAME, one.upper() + b"X")


def test_whose_patient_is_another_one_goes_into_quarantine_where_that_is_wanted(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "data", conflicts=ConflictPolicies(quarantine_other_patients=True)) as archive:
        assert store(archive, named("SMITH^ANNA", number=1)).outcome is Outcome.STORED
        assert store(archive, named("SMITH^ANNA^", number=2)).outcome is Outcome.STORED
        assert store(archive, named("SMYTH^ANNA", number=3)).outcome is Outcome.OTHER_PATIENT
        assert store(archive, named("SMYTH^ANNA", number=3)).outcome is Outcome.OTHER_PATIENT
        assert store(archive, named("JONES^TOM", number=11)).outcome is Outcome.STORED
        (held,) = archive.view().quarantined()
        quarantine.release(archive, held)
        assert archive.read(sop_instance_uid(3)).read() == named("SMYTH^ANNA", number=3)
        assert archive.view().quarantined() == []
        assert list(archive.view().disagreements()) == [study_uid(0)]
        assert store(archive, named("SMYTH^ANNA", number=3)).outcome is Outcome.ALREADY_PRESENT
