"""The synthetic scanners: readable by others, reproducible, different from slice to slice."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pydicom
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pydicom.charset import convert_encodings
from pydicom.valuerep import PersonName

from bench.encoding import data_set_of, data_set_offset, file_meta
from bench.modality import Modality, Scanner, write_files
from bench.people import SCRIPTS, encode_text, person_name
from bench.senders import tool


# A CR image and a volume of full size are left out: half a second of drawing for the same code.
@pytest.mark.parametrize(
    ("modality", "small"),
    [(modality, True) for modality in Modality] + [(Modality.CT, False), (Modality.MR, False), (Modality.US, False)],
)
def test_instances_are_what_pydicom_reads(modality: Modality, small: bool) -> None:
    instance = next(Scanner(3, small=small).instances(1, modality=modality))
    read = pydicom.dcmread(io.BytesIO(instance.file()))
    assert read.SOPInstanceUID == instance.sop_instance == read.file_meta.MediaStorageSOPInstanceUID
    assert read.StudyInstanceUID == instance.study.uid
    assert read.SeriesInstanceUID == instance.series
    assert read.PatientID == instance.study.patient.patient_id
    assert str(read.PatientName) == instance.study.patient.name
    assert read.Modality == modality.code
    assert read.pixel_array.std() > 1
    tags = [element.tag for element in read]
    assert tags == sorted(tags)


@pytest.mark.parametrize("modality", list(Modality))
def test_instances_are_what_the_standard_wants(modality: Modality, tmp_path: Path) -> None:
    path = tmp_path / "instance.dcm"
    path.write_bytes(next(Scanner(3, small=True).instances(1, modality=modality)).file())
    checked = subprocess.run([tool("dciodvfy", "dicom3tools"), str(path)], capture_output=True, text=True, check=False)
    assert [line for line in checked.stderr.splitlines() if line.startswith("Error")] == []


def test_a_ct_header_has_as_many_elements_as_scanners_write() -> None:
    instance = next(Scanner(1).instances(1, modality=Modality.CT))
    assert 145 <= len(pydicom.dcmread(io.BytesIO(instance.file()))) <= 155
    assert 520_000 < len(instance.data_set) < 535_000


def test_small_instances_have_ten_kilobytes() -> None:
    for modality in Modality:
        instance = next(Scanner(1, small=True).instances(1, modality=modality))
        assert 9_000 < len(instance.data_set) < 12_000


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, again, other = (list(Scanner(seed, small=True).instances(30, per_series=7)) for seed in (5, 5, 6))
    assert [one.file() for one in first] == [one.file() for one in again]
    assert not {one.sop_instance for one in first} & {one.sop_instance for one in other}


def test_every_image_has_pixels_of_its_own() -> None:
    instances = list(Scanner(1, small=True).instances(400, modality=Modality.CT))
    pixels = {one.data_set[-7200:] for one in instances}
    assert len(pixels) == len(instances)
    assert len({one.sop_instance for one in instances}) == len(instances)


def test_slices_compress_like_real_ones() -> None:
    slices = [one.data_set for one in Scanner(1).series(Scanner(1).study(Scanner(1).patient(0), 0), 1, 3)]
    ratio = sum(map(len, slices)) / sum(len(zstandard.compress(data, 1)) for data in slices)
    assert 1.9 < ratio < 2.6


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_names_are_encoded_as_their_character_set_wants(name: str) -> None:
    script = SCRIPTS[name]
    encodings = convert_encodings(script.character_set.split("\\")) if script.character_set else ["ascii"]
    for number in range(20):
        text = person_name(script, number, number * 3)
        encoded = encode_text(text, script)
        assert str(PersonName(encoded, encodings).decode(encodings)) == text


@given(st.integers(1, 1000), st.text(max_size=20))
def test_uids_are_valid(seed: int, path: str) -> None:
    uid = SCANNER.uid(seed, path)
    assert len(uid) <= 64
    assert pydicom.uid.UID(uid).is_valid


SCANNER = Scanner(1, small=True)


def test_counts_are_kept_to(tmp_path: Path) -> None:
    instances = list(SCANNER.instances(57, per_series=10, series_per_study=2, studies_per_patient=2))
    assert len(instances) == 57
    assert len({one.series for one in instances}) == 6
    assert len({one.study.uid for one in instances}) == 3
    assert len({one.study.patient.patient_id for one in instances}) == 2
    paths = write_files(iter(instances), tmp_path, per_directory=20)
    assert len(paths) == len(list(tmp_path.rglob("*.dcm"))) == 57
    assert data_set_of(paths[30]) == instances[30].data_set


def test_the_data_set_starts_after_the_file_meta() -> None:
    assert data_set_offset(b"\x08\x00\x05\x00") == 0
    meta = file_meta("1.2", "1.2.3", "1.2.840.10008.1.2.1")
    assert data_set_offset(meta + b"\x08\x00\x05\x00CS\x00\x00") == len(meta)
