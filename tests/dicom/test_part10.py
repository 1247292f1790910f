"""The head of a DICOM file against pydicom's reading of every file it ships."""

from pathlib import Path

import data_store
import pydicom
import pytest

from fastarchive.dicom.part10 import (
    HEAD_LENGTH,
    NotDicomFile,
    encode_file_head,
    parse_file_head,
)

FOLDERS = (
    Path(pydicom.__file__).parent / "data" / "test_files",
    Path(pydicom.__file__).parent / "data" / "charset_files",
    Path(data_store.__file__).parent / "data",
)
UNRECOGNISABLE = {"no_meta.dcm", "meta_missing_tsyntax.dcm"}
"""No Transfer Syntax UID, and a data set that begins with the private group 0001: nothing tells its encoding."""
FILES = sorted(path for folder in FOLDERS for path in folder.rglob("*.dcm") if path.name not in UNRECOGNISABLE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_PS3_10_7_1_file_meta_information_as_pydicom_reads_it(path: Path) -> None:
    data = path.read_bytes()
    expected = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    head = parse_file_head(data[:HEAD_LENGTH])
    meta = expected.file_meta
    if "TransferSyntaxUID" in meta:
        assert head.transfer_syntax == meta.TransferSyntaxUID
    assert head.sop_instance == str(meta.get("MediaStorageSOPInstanceUID", "")).strip()
    assert head.sop_class == str(meta.get("MediaStorageSOPClassUID", "")).strip()
    if "FileMetaInformationGroupLength" in meta and data[128:132] == b"DICM":
        declared = 132 + 12 + meta.FileMetaInformationGroupLength
        assert head.data_set_offset == declared or data[head.data_set_offset : head.data_set_offset + 2] != b"\x02\x00"


@pytest.mark.parametrize("name", sorted(UNRECOGNISABLE))
def test_a_data_set_whose_encoding_nothing_tells_is_refused(name: str) -> None:
    (path,) = FOLDERS[0].rglob(name)
    with pytest.raises(NotDicomFile, match="beginning of a data set"):
        parse_file_head(path.read_bytes()[:HEAD_LENGTH])


def test_head_written_is_read_by_pydicom(tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    data_set = b"\x08\x00\x18\x00UI\x04\x001.2\0"
    path.write_bytes(encode_file_head("1.2.840.10008.1.2.1", "1.2.3", "1.2", "SCANNER") + data_set)
    read = pydicom.dcmread(path)
    assert read.SOPInstanceUID == "1.2"
    assert read.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert read.file_meta.SourceApplicationEntityTitle == "SCANNER"
    head = parse_file_head(path.read_bytes())
    assert (head.sop_class, head.sop_instance, head.source_ae) == ("1.2.3", "1.2", "SCANNER")
    assert path.read_bytes()[head.data_set_offset :] == data_set


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (b"\x08\x00\x05\x00CS\x02\x00\x20\x20", "1.2.840.10008.1.2.1"),
        (b"\x08\x00\x05\x00\x02\x00\x00\x00\x20\x20", "1.2.840.10008.1.2"),
        (b"\x00\x08\x00\x05CS\x00\x02\x20\x20", "1.2.840.10008.1.2.2"),
    ],
)
def test_transfer_syntax_is_told_from_a_bare_data_set(first: bytes, expected: str) -> None:
    assert parse_file_head(first) == (expected, 0, "", "", "")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"MZ", "too short"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "neither"),
        (bytes(128) + b"DICM", "no data set"),
        (b"hello, world", "neither"),
        (bytes(128) + b"DICM\x02\x00\x01\x00OB\x00\x00\xff\xff\xff\x7f", "ends inside"),
        (bytes(400), "neither"),
    ],
)
def test_other_files_are_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(NotDicomFile, match=reason):
        parse_file_head(data)
