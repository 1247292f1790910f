"""pynetdicom's applications, run as its documentation says: python -m pynetdicom …"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from bench.modality import Instance, Modality, Scanner, write_files
from bench.peers import PynetdicomStoreScp
from tests.peers.conftest import Stored

SCANNER = Scanner(78, small=True)


@pytest.fixture(scope="module")
def instances() -> list[Instance]:
    study = SCANNER.study(SCANNER.patient(3), 0, Modality.CT)
    return [*SCANNER.series(study, 1, 5), *SCANNER.series(study, 2, 3)]


def application(name: str, stored: Stored, *arguments: str, cwd: Path | None = None) -> str:
    """Run an application against the archive; what it said. Fails unless it ends with 0."""
    archive = stored.archive
    done = subprocess.run(
        [sys.executable, "-m", "pynetdicom", name, archive.host, str(archive.dicom_port), "-v", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        cwd=cwd,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def sent(stored: Stored, instances: list[Instance], tmp_path_factory: pytest.TempPathFactory) -> list[Instance]:
    folder = tmp_path_factory.mktemp("files")
    write_files(iter(instances), folder)
    said = application("storescu", stored, str(folder), "-r", "-cx")
    assert said.count("0x0000 - Success") == len(instances), said
    return instances


def test_echoscu(stored: Stored) -> None:
    assert "0x0000 - Success" in application("echoscu", stored)


@pytest.mark.parametrize(
    ("level", "model"), [("PATIENT", "-P"), ("STUDY", "-O"), ("SERIES", "-S"), ("IMAGE", "-S"), ("IMAGE", "-P")]
)
def test_findscu(stored: Stored, sent: list[Instance], tmp_path: Path, level: str, model: str) -> None:
    first = sent[0]
    keys = {"PatientID": first.study.patient.patient_id, "PatientName": ""}
    expected = 1
    if level == "STUDY":
        keys |= {"StudyInstanceUID": ""}
    elif level == "SERIES":
        keys |= {"StudyInstanceUID": first.study.uid, "SeriesInstanceUID": ""}
        expected = 2
    elif level == "IMAGE":
        keys |= {"StudyInstanceUID": first.study.uid, "SeriesInstanceUID": first.series, "SOPInstanceUID": ""}
        expected = 5
    options = [part for key, value in keys.items() for part in ("-k", f"{key}={value}")]
    application("findscu", stored, model, "-k", f"QueryRetrieveLevel={level}", *options, "-w", cwd=tmp_path)
    answers = [pydicom.dcmread(path, force=True) for path in sorted(tmp_path.glob("rsp*.dcm"))]
    assert len(answers) == expected
    assert {answer.PatientID for answer in answers} == {first.study.patient.patient_id}
    assert {str(answer.PatientName) for answer in answers} == {first.study.patient.name}


def test_getscu(stored: Stored, sent: list[Instance], tmp_path: Path) -> None:
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={sent[0].study.uid}"]
    application("getscu", stored, "-S", *keys, "-od", str(tmp_path))
    assert_received(tmp_path, sent)


@pytest.fixture
def receiver(tmp_path: Path, ports: dict[str, int]) -> Iterator[PynetdicomStoreScp]:
    peer = PynetdicomStoreScp(tmp_path / "receiver")
    peer.dicom_port = ports["pynetdicom"]
    with peer as running:
        yield running


def test_movescu(stored: Stored, sent: list[Instance], receiver: PynetdicomStoreScp) -> None:
    keys = ["-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={sent[0].study.uid}"]
    keys += ["-k", f"SeriesInstanceUID={sent[0].series}"]
    said = application("movescu", stored, "-S", *keys, "-aem", "PYNETDICOM")
    assert "0x0000" in said, said
    assert_received(receiver.received, [one for one in sent if one.series == sent[0].series])


def assert_received(folder: Path, wanted: list[Instance]) -> None:
    """Fails unless the folder holds exactly these with the same elements.

    getscu proposes Implicit VR first: private elements then arrive without their VR, with the same values.
    """
    received = {str(one.SOPInstanceUID): one for one in map(pydicom.dcmread, sorted(folder.iterdir()))}
    assert set(received) == {one.sop_instance for one in wanted}
    for one in wanted:
        assert implicit(received[one.sop_instance]) == implicit(pydicom.dcmread(BytesIO(one.file())))


def implicit(data_set: pydicom.Dataset) -> bytes:
    """The data set in Implicit VR Little Endian, sequences and items with their lengths."""
    buffer = DicomBytesIO()
    buffer.is_little_endian = buffer.is_implicit_VR = True
    write_dataset(buffer, data_set)
    encoded: bytes = buffer.getvalue()
    return encoded
