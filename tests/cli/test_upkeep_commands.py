"""export, backup, restore, delete and reindex: what they say and how they end."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pydicom
import pytest

from fastarchive.archive import Archive
from fastarchive.store.pack import pack_path
from tests.cli.running import run, told
from tests.server.instances import sop_instance_uid
from tests.upkeep.filled import holds, make, study_uid


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make(tmp_path / "data", range(20))


def test_export_to_a_folder_and_to_a_zip_file(data: Path, tmp_path: Path) -> None:
    result = run("export", "study", study_uid(0), study_uid(1), "--data", data, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("20 instances to ")
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 20
    summary = told("export", "patient", "P1", "--zip", tmp_path / "p1.zip", "--dicomdir", "--data", data)
    with zipfile.ZipFile(tmp_path / "p1.zip") as archive:
        assert len(archive.namelist()) == summary["instances"] + 1
        assert "DICOMDIR" in archive.namelist()


def test_export_of_media_is_read_by_pydicom(data: Path, tmp_path: Path) -> None:
    told("export", "image", sop_instance_uid(3), tmp_path / "cd", "--dicomdir", "--data", data)
    (entry,) = pydicom.fileset.FileSet(tmp_path / "cd" / "DICOMDIR")
    # A directory record needs a study time; the instance has none, and its file still has none.
    assert entry.StudyTime == "000000"
    assert "StudyTime" not in pydicom.dcmread(entry.path)


def test_export_tells_what_is_missing_and_what_was_wrong(data: Path, tmp_path: Path) -> None:
    summary = told("export", "study", study_uid(0), "1.2.3", tmp_path / "out", "--data", data, code=1)
    assert summary["instances"] == 10
    assert summary["missing"] == ["1.2.3"]
    assert run("export", "study", study_uid(0), "--data", data).exit_code == 2
    assert run("export", "studie", study_uid(0), tmp_path, "--data", data).exit_code == 2
    assert run("export", "study", study_uid(0), tmp_path, "--data", tmp_path / "nothing").exit_code == 1
    (tmp_path / "file").write_text("in the way")
    assert run("export", "study", study_uid(0), tmp_path / "file", "--data", data).exit_code == 1


def test_backup_and_restore(data: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    assert told("backup", "--data", data, backup)["copied"] == 1
    result = run("backup", "--data", data, backup, "--verify")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("0 of 1 packs copied to ")
    summary = told("restore", backup, "--data", tmp_path / "new", "--verify")
    assert (summary["packs"], summary["records"]) == (1, 20)
    with Archive.open(tmp_path / "new", read_only=True) as archive:
        assert archive.view().tail_length == 0  # the index was built
        holds(archive, range(20))
    refused = run("restore", backup, "--data", data)
    assert refused.exit_code == 1
    assert "is not empty" in refused.stderr
    assert run("restore", data, "--data", tmp_path / "newer").exit_code == 1
    assert run("backup", "--data", tmp_path / "nothing", backup).exit_code == 1


def test_backup_tells_of_damage(data: Path, tmp_path: Path) -> None:
    with Archive.open(data, read_only=True) as archive:
        location = archive.read(sop_instance_uid(7)).location
    path = pack_path(data, location.pack)
    content = bytearray(path.read_bytes())
    content[location.end - 1] ^= 1
    path.write_bytes(content)
    summary = told("backup", "--data", data, tmp_path / "backup", code=1)
    assert [each["sop_instance"] for each in summary["damaged"]] == [sop_instance_uid(7)]
    assert "damaged in the archive" in run("backup", "--data", data, tmp_path / "backup").stdout
    assert told("restore", tmp_path / "backup", "--data", tmp_path / "new", "--verify", code=1)["damaged_records"] == 1


def test_reindex_of_a_stopped_archive(data: Path) -> None:
    index = (data / "index").stat().st_ino
    assert told("reindex", "--data", data)["records"] == 20
    assert (data / "index").stat().st_ino != index
    assert not list(data.glob("index.*"))
    with Archive.open(data) as archive:
        holds(archive, range(20))
        # Another process that writes the index, and is not a running archive, can't be asked.
        refused = run("reindex", "--data", data)
        assert refused.exit_code == 1
        assert "try again" in refused.stderr
    shutil.rmtree(data / "index")
    assert run("reindex", "--data", data).exit_code == 0
    assert run("reindex", "--data", data / "nothing").exit_code == 1


def test_delete_shows_a_plan_and_wants_a_yes(data: Path) -> None:
    asked = run("delete", "study", study_uid(0), "--data", data, "--dry-run")
    assert asked.exit_code == 0, asked.output
    assert asked.stdout.splitlines()[-1].startswith("in all 10 instances of 1 series in 1 study, ")
    assert run("delete", "study", study_uid(0), "--data", data).exit_code == 2  # no reason
    refused = run("delete", "study", study_uid(0), "--data", data, "--reason", "a test")
    assert refused.exit_code == 2
    assert "--yes is needed" in refused.stderr
    with Archive.open(data, read_only=True) as archive:
        holds(archive, range(20))
    done = run("delete", "study", study_uid(0), "--data", data, "--reason", "a test", "--yes")
    assert done.exit_code == 0, done.output
    assert "compaction gives the space back" in done.stdout
    with Archive.open(data, read_only=True) as archive:
        holds(archive, range(10, 20))
    missing = told("delete", "study", study_uid(0), "--data", data, "--reason", "a test", "--yes", code=1)
    assert (missing["missing"], missing["deleted"]) == ([study_uid(0)], False)


def test_a_held_study_is_not_deleted(data: Path) -> None:
    assert run("hold", "add", study_uid(0), "--reason", "case 17", "--data", data).exit_code == 0
    assert run("hold", "list", "--data", data).stdout.splitlines()[1].split("\t")[::2] == [study_uid(0), "case 17"]
    arguments = ("delete", "patient", "P0", "P1", "--data", data, "--reason", "a test", "--yes")
    summary = told(*arguments, code=1)
    assert (summary["on_hold"], summary["deleted"], summary["instances"]) == ([study_uid(0)], False, 20)
    assert run("hold", "remove", study_uid(0), "--data", data).exit_code == 0
    assert run("hold", "remove", study_uid(0), "--data", data).exit_code == 1
    assert told(*arguments)["deleted"]
    with Archive.open(data, read_only=True) as archive:
        holds(archive, ())
    for wrong in (("hold", "add"), ("hold", "list", "1.2"), ("hold", "up", "1.2")):
        assert run(*wrong, "--data", data).exit_code == 2


def test_one_damaged_pack_is_taken_from_a_backup(data: Path, tmp_path: Path) -> None:
    told("backup", "--data", data, tmp_path / "backup")
    with Archive.open(data, read_only=True) as archive:
        location = archive.read(sop_instance_uid(7)).location
    path = pack_path(data, location.pack)
    content = bytearray(path.read_bytes())
    content[location.end - 1] ^= 1
    path.write_bytes(content)
    assert run("verify", "--data", data).exit_code == 1
    shutil.copy(pack_path(tmp_path / "backup", location.pack), path.with_suffix(".restored"))
    path.with_suffix(".restored").rename(path)
    assert run("verify", "--data", data).exit_code == 0


def test_holds_that_cannot_be_read_are_taken_from_a_backup(data: Path, tmp_path: Path) -> None:
    run("hold", "add", study_uid(0), "--data", data)
    told("backup", "--data", data, tmp_path / "backup")
    (data / "holds.json").write_text("damaged")
    arguments = ("delete", "study", study_uid(0), "--data", data, "--reason", "a test", "--yes")
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert "nothing was deleted" in refused.stderr
    shutil.copy(tmp_path / "backup" / "holds.json", data / "holds.json")
    assert told(*arguments, code=1)["on_hold"] == [study_uid(0)]
