"""Rejection notes (IHE IOCM): what they name is hidden, kept, and there again when the note is taken back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence as Several
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from typer.testing import CliRunner

from fastarchive.admission import Outcome
from fastarchive.archive import Archive, NoSuchInstance
from fastarchive.cli import app
from fastarchive.dicom.attributes import Level
from fastarchive.dicom.rejection import EXPIRED, KEY_OBJECT_SELECTION, TITLES, rejection_in
from fastarchive.store.pack import pack_path
from fastarchive.upkeep.compaction import Compaction
from fastarchive.upkeep.reindex import rebuild
from tests.conflicting import BIG, DEFLATED, EXPLICIT, IMPLICIT, in_syntax, named, records, store
from tests.server.instances import SECONDARY_CAPTURE, small_instance, sop_instance_uid
from tests.services.loopback import encode, serving
from tests.services.scu import file_of
from tests.upkeep.filled import series_uid, study_uid

QUALITY, SAFETY, WORKLIST = "113001", "113037", "113038"
NOTE = "1.2.826.0.1.3680043.10.544.99"
STORESCU = Path("/usr/bin/storescu")


def rejection_note(
    numbers: Several[int], code: str = QUALITY, *, uid: str = NOTE, scheme: str = "DCM", patient: str = "P0"
) -> Dataset:
    """A Key Object Selection document in study 0 that names small instances."""
    title = Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = code, scheme, TITLES.get(code, "Of Interest")
    studies = []
    for study in sorted({number // 10 for number in numbers}):
        series = Dataset()
        series.SeriesInstanceUID = series_uid(study)
        series.ReferencedSOPSequence = Sequence()
        for number in numbers:
            if number // 10 == study:
                instance = Dataset()
                instance.ReferencedSOPClassUID = SECONDARY_CAPTURE
                instance.ReferencedSOPInstanceUID = sop_instance_uid(number)
                series.ReferencedSOPSequence.append(instance)
        item = Dataset()
        item.StudyInstanceUID, item.ReferencedSeriesSequence = study_uid(study), Sequence([series])
        studies.append(item)
    note = Dataset()
    note.SOPClassUID, note.SOPInstanceUID = KEY_OBJECT_SELECTION, uid
    note.StudyInstanceUID, note.SeriesInstanceUID, note.Modality = study_uid(0), f"{NOTE}.1", "KO"
    note.PatientID, note.PatientName = patient, "TEST^NUMBER0"
    note.ValueType, note.ConceptNameCodeSequence = "CONTAINER", Sequence([title])
    note.CurrentRequestedProcedureEvidenceSequence = Sequence(studies)
    return note


def shown(archive: Archive) -> set[int | str]:
    """Numbers of the small instances that are found, and the UIDs of notes."""
    numbers = {sop_instance_uid(number): number for number in range(100)}
    view = archive.view()
    found = {row["SOPInstanceUID"] for row in archive.find("IMAGE", {}, ["SOPInstanceUID"])}
    assert view.counts()[Level.IMAGE] == len(found)
    for uid in numbers:
        assert (archive.index.locate(uid) is not None) is (uid in found)
    return {numbers.get(uid, uid) for uid in found}


@pytest.fixture
def archive(tmp_path: Path) -> Any:
    with Archive.open(tmp_path / "data") as opened:
        for number in (0, 1, 2, 11, 12):
            store(opened, small_instance(number))
        yield opened


def send(archive: Archive, note: Dataset) -> Outcome:
    return archive.store(encode(note), transfer_syntax=EXPLICIT, calling_ae="WS").outcome


def is_shown(archive: Archive, expected: set[int | str]) -> None:
    """In the running archive, by a second process, and by an index made anew, at once and in parts."""
    assert shown(archive) == expected
    archive.index.view()
    with Archive.open(archive.directory, read_only=True) as other:
        assert shown(other) == expected
        for study in other.find("STUDY", {}, ["StudyInstanceUID", "NumberOfStudyRelatedInstances"]):
            images = list(other.find("IMAGE", {"StudyInstanceUID": study["StudyInstanceUID"]}))
            assert int(study["NumberOfStudyRelatedInstances"]) == len(images)


@pytest.mark.parametrize("code", sorted(TITLES))
def test_what_a_note_names_is_hidden_and_kept(archive: Archive, code: str) -> None:
    assert send(archive, rejection_note([1, 2, 12], code)) is Outcome.STORED
    note: set[int | str] = set() if code == EXPIRED else {NOTE}
    is_shown(archive, {0, 11, *note})
    with pytest.raises(NoSuchInstance):
        archive.read(sop_instance_uid(1))
    assert sum(record.sop_instance == sop_instance_uid(1) for _, record in records(archive)) == 1
    before = records(archive)
    assert send(archive, rejection_note([1, 2, 12], code)) is Outcome.ALREADY_PRESENT
    assert records(archive) == before


@pytest.mark.parametrize("code", [QUALITY, SAFETY, WORKLIST])
def test_what_is_rejected_is_not_taken_again(archive: Archive, code: str) -> None:
    send(archive, rejection_note([1, 3], code))
    for content in (small_instance(1), named("OTHER^", number=1)):
        assert store(archive, content).outcome is Outcome.REJECTED
    assert store(archive, small_instance(3)).outcome is Outcome.STORED  # came after the note: kept, and hidden
    assert store(archive, small_instance(3)).outcome is Outcome.REJECTED
    is_shown(archive, {0, 2, 11, 12, NOTE})


def test_what_has_expired_may_come_again(archive: Archive) -> None:
    send(archive, rejection_note([1, 2], EXPIRED))
    assert store(archive, small_instance(1)).outcome is Outcome.STORED
    is_shown(archive, {0, 1, 11, 12})
    assert archive.read(sop_instance_uid(1)).read() == small_instance(1)
    assert store(archive, small_instance(1)).outcome is Outcome.ALREADY_PRESENT


def command(*arguments: str | Path, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if "--json" in arguments else result.output


@pytest.mark.parametrize("code", [QUALITY, EXPIRED])
def test_a_note_that_is_revoked_rejects_no_longer(archive: Archive, code: str) -> None:
    data = archive.directory
    send(archive, rejection_note([1, 2], code))
    send(archive, rejection_note([2], SAFETY, uid=f"{NOTE}.2"))
    listed = command("rejections", "list", "--data", data, "--json")
    assert [(one["note"], one["code"], len(one["rejected"])) for one in listed] == [
        (NOTE, code, 2),
        (f"{NOTE}.2", SAFETY, 1),
    ]
    assert "no such" in command("rejections", "revoke", "1.2.3", "--reason", "x", "--data", data, code=1)
    command("rejections", "revoke", NOTE, "--data", data, code=2)
    command("rejections", "revoke", NOTE, "--reason", "wrong study", "--data", data)
    is_shown(archive, {0, 1, 11, 12, f"{NOTE}.2"})
    assert archive.read(sop_instance_uid(1)).read() == small_instance(1)
    command("delete", "image", f"{NOTE}.2", "--reason", "wrong", "--yes", "--data", data)
    is_shown(archive, {0, 1, 2, 11, 12})
    assert command("rejections", "list", "--data", data, "--json") == []


def test_what_a_note_rejects_is_deleted_for_good_if_wanted(archive: Archive) -> None:
    data = archive.directory
    send(archive, rejection_note([0, 1, 2], EXPIRED))
    is_shown(archive, {11, 12})
    told = command("rejections", "discard", NOTE, "--reason", "expired", "--data", data)
    assert "3 instances" in told
    command("rejections", "revoke", NOTE, "--reason", "no longer needed", "--data", data)
    is_shown(archive, {11, 12})
    assert store(archive, small_instance(1)).outcome is Outcome.STORED
    is_shown(archive, {1, 11, 12})


def test_a_note_of_a_study_on_hold_is_not_revoked(archive: Archive) -> None:
    send(archive, rejection_note([1]))
    command("hold", "add", study_uid(0), "--data", archive.directory)
    told = command("rejections", "revoke", NOTE, "--reason", "x", "--data", archive.directory, code=1)
    assert "on hold" in told


def test_other_key_objects_hide_nothing(archive: Archive) -> None:
    send(archive, rejection_note([1], "113000"))
    send(archive, rejection_note([1], QUALITY, uid=f"{NOTE}.2", scheme="99LOCAL"))
    is_shown(archive, {0, 1, 2, 11, 12, NOTE, f"{NOTE}.2"})


@pytest.mark.parametrize("transfer_syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
def test_a_note_is_read_in_every_transfer_syntax(transfer_syntax: str) -> None:
    data = in_syntax(encode(rejection_note([1, 12], SAFETY)), transfer_syntax)
    found = rejection_in(data, transfer_syntax)
    assert found == (SAFETY, (sop_instance_uid(1), sop_instance_uid(12)))
    assert rejection_in(data[:-9], transfer_syntax) is None or transfer_syntax == DEFLATED


def test_rejections_outlive_restart_compaction_and_an_index_made_anew(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in (0, 1, 2):
        with Archive.open(data) as archive:
            store(archive, small_instance(number))
    with Archive.open(data) as archive:
        send(archive, rejection_note([1, 2], patient="ANOTHER"))
        store(archive, named("AGAIN^", number=20))
    with Archive.open(data) as archive:
        is_shown(archive, {0, 20, NOTE})
        Compaction(data, archive.index, settled_seconds=0.0).run()
        is_shown(archive, {0, 20, NOTE})
    for parts in (0, 2):
        rebuild(data, parts=parts)
        with Archive.open(data, read_only=True) as archive:
            assert shown(archive) == {0, 20, NOTE}
    command("rejections", "revoke", NOTE, "--reason", "wrong", "--data", data)
    with Archive.open(data) as archive:
        is_shown(archive, {0, 1, 2, 20})
        assert archive.read(sop_instance_uid(1)).read() == small_instance(1)


@pytest.mark.parametrize("parts", [0, 2])
def test_an_index_made_anew_reads_a_damaged_note_from_the_mirror(tmp_path: Path, parts: int) -> None:
    data, mirror = tmp_path / "data", tmp_path / "mirror"
    mirror.mkdir()
    with Archive.open(data, mirror=mirror) as archive:
        for number in (0, 1, 2):
            store(archive, small_instance(number))
        send(archive, rejection_note([1, 2]))
        location = archive.read(NOTE).location
    with pack_path(data, location.pack).open("r+b") as file:
        file.seek(location.end - 8)
        byte = file.read(1)
        file.seek(location.end - 8)
        file.write(bytes([byte[0] ^ 0xFF]))
    for copy, expected in ((None, {0, 1, 2, NOTE}), (mirror, {0, NOTE})):
        rebuild(data, parts=parts, mirror=copy)
        with Archive.open(data, mirror=mirror, read_only=True) as archive:
            assert shown(archive) == expected


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["image", "note", "expired", "revoke", "reopen"]), st.integers(0, 3)), max_size=12
    )
)
@settings(max_examples=5, deadline=None)
def test_index_and_tail_agree_with_the_records_alone(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    data = tmp_path_factory.mktemp("rejections") / "data"
    archive = Archive.open(data)
    sent: list[tuple[str, int]] = []
    try:
        for kind, number in steps:
            if kind == "image":
                if store(archive, small_instance(number)).outcome is Outcome.STORED:
                    sent.append(("image", number))
            elif kind == "reopen":
                archive.close()
                archive = Archive.open(data)
            elif kind == "revoke":
                uid = f"{NOTE}.{number}"
                if any(one.instance == uid for one in archive.view().rejection_notes()):
                    command("rejections", "revoke", uid, "--reason", "x", "--data", data)
                    sent.append(("revoke", number))
            else:
                code = QUALITY if kind == "note" else EXPIRED
                note = rejection_note([number, (number + 1) % 4], code, uid=f"{NOTE}.{number}")
                if send(archive, note) is Outcome.STORED:
                    sent.append((kind, number))
        expected = by_definition(sent)
        assert {one for one in shown(archive) if isinstance(one, int)} == expected
        archive.close()
        rebuild(data)
        archive = Archive.open(data)
        assert {one for one in shown(archive) if isinstance(one, int)} == expected
    finally:
        archive.close()


def by_definition(sent: list[tuple[str, int]]) -> set[int]:
    """Which images are shown after all that was taken, in this order."""
    notes: dict[int, tuple[int, str]] = {}
    for moment, (kind, number) in enumerate(sent):
        if kind in {"note", "expired"}:
            notes.setdefault(number, (moment, kind))
        elif kind == "revoke":
            notes.pop(number, None)
    found = set()
    for moment, (kind, number) in enumerate(sent):
        if kind == "image" and not any(
            number in {note, (note + 1) % 4} and (title == "note" or moment < since)
            for note, (since, title) in notes.items()
        ):
            found.add(number)
    return found


def test_a_note_of_pydicom_sent_by_storescu_hides_what_findscu_found(tmp_path: Path) -> None:
    path = tmp_path / "note.dcm"
    file_of(rejection_note([0, 1], WORKLIST)).save_as(path, enforce_file_format=True)
    with serving(tmp_path / "data") as loopback:
        for number in (0, 1, 2):
            store(loopback.archive, small_instance(number))
        to = ["-aec", "FASTARCHIVE", loopback.host, str(loopback.port)]
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID", "-k", "NumberOfStudyRelatedInstances"]
        counted = []
        for step in (["/usr/bin/echoscu"], ["/usr/bin/storescu"]):
            subprocess.run([*step, *to, *([path] if "storescu" in step[0] else [])], check=True, capture_output=True)
            found = subprocess.run(["/usr/bin/findscu", "-S", *keys, *to], check=True, capture_output=True, text=True)
            counted.append((found.stdout + found.stderr).count("[3 ]") or (found.stdout + found.stderr).count("[2 ]"))
        assert counted == [1, 1]
        assert shown(loopback.archive) == {2, NOTE}
