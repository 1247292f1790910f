"""export, backup, restore, delete and reindex: what they say and how they end."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pydicom
import pytest
from typer.testing import CliRunner, Result

from fastarchive.cli import app
from tests.server.instances import sop_instance_uid
from tests.upkeep.filled import make, study_uid


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def told(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    return dict(json.loads(result.stdout))


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
