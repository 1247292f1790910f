"""Instances as files: in folders, in a zip file, on exchange media."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastarchive.archive import Archive
from fastarchive.dicom.attributes import Level
from fastarchive.store.pack import pack_path
from fastarchive.upkeep.export import FolderTarget, ZipTarget, export, safe_name
from fastarchive.upkeep.media import media_directory
from fastarchive.upkeep.selection import instances_of, select
from tests.server.instances import small_instance, sop_instance_uid
from tests.upkeep.filled import EXPLICIT_LITTLE, fill, make, series_uid, study_uid


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make(tmp_path / "data", range(30))


def test_selection_at_every_level_and_what_is_missing(data: Path) -> None:
    with Archive.open(data, read_only=True) as archive:
        view = archive.view()
        for level, name, count in (
            (Level.PATIENT, "P1", 10),
            (Level.STUDY, study_uid(1), 10),
            (Level.SERIES, series_uid(1), 10),
            (Level.IMAGE, sop_instance_uid(11), 1),
        ):
            selection = select(view, level, [name, "1.2.3", name])
            assert selection.missing == ("1.2.3",)
            assert selection.number_of_instances == count
            found = {document.instance for document in instances_of(view, selection)}
            assert sop_instance_uid(11) in found
            assert len(found) == count
        assert list(instances_of(view, select(view, Level.STUDY, ["1.2.3"]))) == []


def test_a_study_as_folders_reads_back_as_it_was_received(data: Path, tmp_path: Path) -> None:
    with Archive.open(data, read_only=True) as archive:
        view = archive.view()
        report = export(
            archive, instances_of(view, select(view, Level.STUDY, [study_uid(2)])), FolderTarget(tmp_path / "out")
        )
    assert (report.instances, report.failures) == (10, [])
    folder = tmp_path / "out" / "P2" / study_uid(2) / series_uid(2)
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{sop_instance_uid(n)}.dcm" for n in range(20, 30))
    path = folder / f"{sop_instance_uid(23)}.dcm"
    assert path.read_bytes().endswith(small_instance(23))
    assert pydicom.dcmread(path).file_meta.MediaStorageSOPInstanceUID == sop_instance_uid(23)
    # What is imported again is the same to the archive.
    with Archive.open(tmp_path / "other") as other:
        for each in folder.iterdir():
            other.import_file(each)
        assert other.read(sop_instance_uid(23)).read() == small_instance(23)


def test_a_zip_file_is_whole_or_not_there(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.zip"
    with Archive.open(data, read_only=True) as archive:
        view = archive.view()
        chosen = select(view, Level.PATIENT, ["P0", "P1"])
        with pytest.raises(KeyboardInterrupt), ZipTarget(path) as target:
            export(archive, instances_of(view, chosen), target)
            raise KeyboardInterrupt
        assert [each.name for each in tmp_path.iterdir()] == ["data"]
        with ZipTarget(path) as target:
            report = export(archive, instances_of(view, chosen), target)
    assert report.instances == 20
    with zipfile.ZipFile(path) as read:
        assert read.testzip() is None
        assert len(read.namelist()) == 20
        name = f"P1/{study_uid(1)}/{series_uid(1)}/{sop_instance_uid(15)}.dcm"
        assert read.read(name).endswith(small_instance(15))


def test_a_damaged_instance_is_named_and_the_others_are_exported(data: Path, tmp_path: Path) -> None:
    with Archive.open(data, read_only=True) as archive:
        location = archive.read(sop_instance_uid(3)).location
        with pack_path(data, location.pack).open("r+b") as file:
            file.seek(location.end - 1)
            byte = file.read(1)[0]
            file.seek(location.end - 1)
            file.write(bytes([byte ^ 1]))
        archive.blobs.close()
        view = archive.view()
        for target in (FolderTarget(tmp_path / "out"), ZipTarget(tmp_path / "out.zip")):
            report = export(archive, instances_of(view, select(view, Level.STUDY, [study_uid(0)])), target)
            assert report.instances == 9
            assert [failure.sop_instance for failure in report.failures] == [sop_instance_uid(3)]
            if isinstance(target, ZipTarget):
                target.__exit__(None, None, None)
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 9
    with zipfile.ZipFile(tmp_path / "out.zip") as read:
        assert len(read.namelist()) == 9


def test_a_dicomdir_lists_the_files_that_are_there(tmp_path: Path) -> None:
    source = Path(pydicom.__file__).parent / "data" / "test_files"
    names = ["CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "image_dfl.dcm", "reportsi.dcm", "rtdose.dcm"]
    with Archive.open(tmp_path / "data") as archive, media_directory() as directory:
        stored = [archive.import_file(source / name).sop_instance for name in names]
        view = archive.view()
        chosen = select(view, Level.IMAGE, stored)
        directory.add(archive, instances_of(view, chosen), lambda: None)
        directory.finish()
        target = FolderTarget(tmp_path / "media")
        listed = [document for document in instances_of(view, chosen) if directory.lists(document)]
        report = export(archive, listed, target, name=directory.name)
        directory.write(target)
        contents = {uid: archive.read(uid).read() for uid in stored}
    assert len(listed) == len(names)
    assert directory.failures == []
    assert report.failures == []
    files = pydicom.fileset.FileSet(tmp_path / "media" / "DICOMDIR")
    assert {entry.SOPInstanceUID for entry in files} == {document.instance for document in listed}
    for entry in files:
        assert Path(entry.path).read_bytes().endswith(contents[entry.SOPInstanceUID])
        assert all(len(part) <= 8 and part == part.upper() for part in Path(entry.FileID).parts)


def test_an_instance_deleted_meanwhile_is_named(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "one") as one, Archive.open(tmp_path / "two") as two:
        fill(one, range(2))
        two.store(small_instance(0), transfer_syntax=EXPLICIT_LITTLE)
        view = one.view()
        report = export(
            two, instances_of(view, select(view, Level.STUDY, [study_uid(0)])), FolderTarget(tmp_path / "out")
        )
    assert report.instances == 1
    assert [failure.sop_instance for failure in report.failures] == [sop_instance_uid(1)]


@given(st.lists(st.text(max_size=200), unique=True, max_size=5))
def test_names_are_safe_and_differ(texts: list[str]) -> None:
    names = [safe_name(text) for text in texts]
    assert len(set(names)) == len(texts)
    for name in names:
        assert PurePosixPath(name).name == name
        assert name not in {"", ".", ".."}
        assert not set(name) & set('<>:"/\\|?*\0\n')
        assert len(name.encode()) < 200
        assert not name.startswith(" ")
        assert not name.endswith((" ", "."))


def test_names_that_are_safe_stay() -> None:
    assert safe_name("1.2.840.113619.2") == "1.2.840.113619.2"
    assert safe_name("患者-7") == "患者-7"
    assert safe_name("../etc").startswith("_etc-")
    assert safe_name("NUL").startswith("NUL-")
