"""Files whose text is in another character set than they declare, imported so that it is found and shown as meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastarchive.archive import Archive
from fastarchive.cli import app
from fastarchive.dicom.part10 import encode_file_head
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from tests.services.loopback import encode, slice_of

NAME = "王^小明"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file from the AE title CT1 with a name in GB18030, declared as Latin alphabet No. 1."""
    dataset = slice_of()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = NAME.encode("gb18030").decode("latin-1")
    head = encode_file_head(EXPLICIT_VR_LITTLE_ENDIAN, dataset.SOPClassUID, dataset.SOPInstanceUID, "CT1")
    path = tmp_path / "one.dcm"
    path.write_bytes(head + encode(dataset))
    return path


def names(folder: Path) -> list[str]:
    with Archive.open(folder, read_only=True) as archive:
        stored = archive.read("1.2.826.1.1.1.1").read()
        assert b"ISO_IR 100" in stored  # kept as it came
        return [row["PatientName"] for row in archive.find("STUDY", {"PatientName": "王*"}, ["PatientName"])]


@pytest.mark.parametrize(
    ("option", "environment", "found"),
    [
        (("--character-set", "GB18030"), "", True),
        ((), "CT1=GB18030", True),
        ((), "CT2=GB18030", False),
        (("--character-set", "GB18030"), "CT1=ISO_IR 192", True),
    ],
)
def test_X7_a_wrong_declaration_is_put_right(
    tmp_path: Path, file: Path, option: tuple[str, ...], environment: str, found: bool
) -> None:
    arguments = ["import", "--data", str(tmp_path / "data"), "--json", *option, str(file)]
    result = CliRunner().invoke(app, arguments, env={"FASTARCHIVE_CHARACTER_SETS": environment})
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["stored"] == 1
    assert names(tmp_path / "data") == ([NAME] if found else [])


def test_a_character_set_that_is_none_is_refused(tmp_path: Path, file: Path) -> None:
    result = CliRunner().invoke(app, ["import", "--data", str(tmp_path / "data"), "--character-set", "GB", str(file)])
    assert result.exit_code == 2
    assert "--character-set GB: no defined term of Specific Character Set" in result.output
    assert not (tmp_path / "data").exists()
