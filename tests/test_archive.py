"""The archive as a library: store, find, read, close, and open again."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from fastarchive.archive import Archive, NoSuchInstance, Outcome, ReadOnlyArchive, Receipt
from fastarchive.dicom.part10 import NotDicomFile
from fastarchive.store.intake import IntakeError

EXPLICIT = "1.2.840.10008.1.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive.open(tmp_path / "archive") as opened:
        yield opened


def slice_of(number: int, *, series: str = "1.2.3.1", name: str = "SMITH^ANNA", pixels: bytes = b"\1\0\2\0") -> Dataset:
    """A small CT slice of one study."""
    data_set = Dataset()
    data_set.SOPClassUID = CT
    data_set.SOPInstanceUID = f"{series}.{number}"
    data_set.StudyDate = "20240229"
    data_set.Modality = "CT"
    data_set.PatientName = name
    data_set.PatientID = "P1"
    data_set.StudyInstanceUID = "1.2.3"
    data_set.SeriesInstanceUID = series
    data_set.InstanceNumber = number
    data_set.Rows, data_set.Columns = 1, len(pixels) // 2
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = 16, 16, 15
    data_set.SamplesPerPixel, data_set.PixelRepresentation = 1, 0
    data_set.add_new(0x7FE00010, "OW", pixels)
    return data_set


def encoded(data_set: Dataset) -> bytes:
    """Explicit VR little endian bytes without file meta information."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, data_set)
    return bytes(buffer.getvalue())


def store(archive: Archive, data_set: Dataset) -> Receipt:
    return archive.store(encoded(data_set), transfer_syntax=EXPLICIT)


def test_stored_is_found_at_every_level_and_read_back(archive: Archive) -> None:
    data_set = slice_of(1)
    receipt = store(archive, data_set)
    assert receipt.outcome is Outcome.STORED
    assert b"".join(archive.read("1.2.3.1.1").chunks()) == encoded(data_set)
    (patient,) = archive.find("PATIENT", {"PatientName": "smith*"}, ["PatientID", "NumberOfPatientRelatedInstances"])
    assert patient["PatientID"] == "P1"
    assert patient["NumberOfPatientRelatedInstances"] == "1"
    (study,) = archive.find("STUDY", {"StudyDate": "20240201-20240301"}, ["StudyInstanceUID", "ModalitiesInStudy"])
    assert study["StudyInstanceUID"] == "1.2.3"
    assert study["ModalitiesInStudy"] == "CT"
    (series,) = archive.find("SERIES", {"StudyInstanceUID": "1.2.3", "Modality": "CT"})
    assert series["SeriesInstanceUID"] == "1.2.3.1"
    (image,) = archive.find("IMAGE", {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1"})
    assert image["SOPInstanceUID"] == "1.2.3.1.1"


def test_S3_same_data_set_again_is_acknowledged_and_stored_once(archive: Archive) -> None:
    first = store(archive, slice_of(1))
    again = store(archive, slice_of(1))
    assert again.outcome is Outcome.ALREADY_PRESENT
    assert again.location == first.location
    assert archive.status()["instances"] == 1


def test_S3_different_data_set_under_a_known_uid_is_not_stored(archive: Archive) -> None:
    store(archive, slice_of(1))
    conflict = store(archive, slice_of(1, pixels=b"\7\0\7\0"))
    assert conflict.outcome is Outcome.CONFLICT_KEPT_FIRST
    assert b"".join(archive.read("1.2.3.1.1").chunks()) == encoded(slice_of(1))


def test_S7_one_instance_from_many_threads_is_stored_once_and_acknowledged_to_all(archive: Archive) -> None:
    receipts: list[Receipt] = []
    start = threading.Barrier(8)

    def send() -> None:
        start.wait()
        receipts.append(store(archive, slice_of(1)))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes = [receipt.outcome for receipt in receipts]
    assert outcomes.count(Outcome.STORED) == 1
    assert outcomes.count(Outcome.ALREADY_PRESENT) == 7
    assert len({receipt.location for receipt in receipts}) == 1


def test_what_was_stored_is_there_after_closing_and_opening_again(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "archive") as archive:
        for number in range(5):
            store(archive, slice_of(number))
    with Archive.open(tmp_path / "archive", read_only=True) as archive:
        images = list(archive.find("IMAGE", {"SeriesInstanceUID": "1.2.3.1"}))
        assert sorted(image["SOPInstanceUID"] for image in images) == [f"1.2.3.1.{number}" for number in range(5)]
        with pytest.raises(ReadOnlyArchive):
            store(archive, slice_of(9))


def test_two_archives_open_on_one_directory_see_each_other(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "archive") as one, Archive.open(tmp_path / "archive") as two:
        store(one, slice_of(1))
        store(two, slice_of(2))
        for archive in (one, two):
            assert len(list(archive.find("IMAGE", {"SeriesInstanceUID": "1.2.3.1"}))) == 2


def test_a_read_only_archive_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no archive"):
        Archive.open(tmp_path / "nothing", read_only=True)
    assert not (tmp_path / "nothing").exists()


def test_S2_a_data_set_without_uids_is_refused_with_a_reason(archive: Archive) -> None:
    nameless = slice_of(1)
    del nameless.StudyInstanceUID
    with pytest.raises(IntakeError) as refusal:
        store(archive, nameless)
    assert refusal.value.tag == 0x0020000D
    assert 0 < len(refusal.value.comment) <= 64
    assert archive.status()["instances"] == 0


def test_import_of_a_file_stores_its_data_set_byte_for_byte(archive: Archive, tmp_path: Path) -> None:
    source = FOLDER / "CT_small.dcm"
    receipt = archive.import_file(source)
    assert receipt.outcome is Outcome.STORED
    copy = tmp_path / "copy.dcm"
    archive.export(receipt.sop_instance, copy)
    assert pydicom.dcmread(copy) == pydicom.dcmread(source)
    assert archive.import_file(copy).outcome is Outcome.ALREADY_PRESENT


def test_import_refuses_what_is_no_instance(archive: Archive, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not an image, but more than a few bytes long")
    with pytest.raises(NotDicomFile):
        archive.import_file(text)


def test_an_unknown_instance_cannot_be_read(archive: Archive) -> None:
    with pytest.raises(NoSuchInstance):
        archive.read("1.2.3.4.5")


def test_pydicom_reads_what_is_exported_with_its_file_meta_information(archive: Archive, tmp_path: Path) -> None:
    store(archive, slice_of(3))
    path = tmp_path / "three.dcm"
    archive.export("1.2.3.1.3", path)
    read = pydicom.dcmread(path)
    assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID == "1.2.3.1.3"
    assert read.file_meta.TransferSyntaxUID == EXPLICIT


def test_import_believes_the_data_set_where_the_file_meta_information_differs(archive: Archive) -> None:
    source = FOLDER / "rtplan.dcm"
    read = pydicom.dcmread(source)
    assert read.file_meta.MediaStorageSOPInstanceUID != read.SOPInstanceUID
    assert archive.import_file(source).sop_instance == read.SOPInstanceUID
