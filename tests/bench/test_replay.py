"""Files with fresh UIDs: the same references, and not a byte more changed than that."""

from __future__ import annotations

import io
import shutil
from itertools import islice
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from bench.encoding import data_set_of, element, file_meta, sequence
from bench.replay import (
    EXPLICIT_BIG,
    IMPLICIT_LITTLE,
    REPLACED,
    Replay,
    UnreadableError,
    file_with_fresh_uids,
    fresh_uids,
    with_fresh_uids,
)

EXPLICIT = "1.2.840.10008.1.2.1"
SAMPLES = (
    "CT_small.dcm",  # explicit little endian
    "rtplan.dcm",  # implicit little endian, nested sequences
    "MR_small_bigendian.dcm",
    "image_dfl.dcm",  # deflated
    "JPEG2000.dcm",  # encapsulated
    "reportsi.dcm",  # a report: references in sequences
    "liver_1frame.dcm",  # functional groups
    "nested_priv_SQ.dcm",
)


def sample(name: str) -> Path:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return Path(path)


def flat(data_set: pydicom.Dataset, place: str = "") -> dict[str, object]:
    """{place: value} of all elements in all items."""
    found: dict[str, object] = {}
    for one in data_set:
        if one.VR == "SQ":
            for number, item in enumerate(one.value):
                found |= flat(item, f"{place}{one.tag}[{number}].")
        else:
            found[f"{place}{one.tag}"] = one.value
    return found


@pytest.mark.parametrize("name", SAMPLES)
def test_only_uids_that_name_something_change(name: str) -> None:
    path = sample(name)
    original = pydicom.dcmread(path, force=True)
    mapping = fresh_uids(1, 0)
    changed = pydicom.dcmread(
        io.BytesIO(file_with_fresh_uids(path.read_bytes(), str(original.file_meta.TransferSyntaxUID), mapping)),
        force=True,
    )
    before, after = flat(original), flat(changed)
    assert before.keys() == after.keys()
    replaced = 0
    for place, value in before.items():
        tag = int(place.rpartition(".")[2][1:5] + place.rpartition(".")[2][6:10], 16)
        if tag in REPLACED and isinstance(value, UID) and value:
            assert after[place] == mapping(str(value)), place
            replaced += after[place] != value
        else:
            assert after[place] == value, place
    assert (replaced >= 3) == ("SOPInstanceUID" in original)
    assert changed.file_meta.MediaStorageSOPInstanceUID == mapping(original.file_meta.MediaStorageSOPInstanceUID)
    assert changed.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID


def test_long_uids_are_replaced_in_place() -> None:
    uid = "1.3.6.1.4.1.5962.1.1.4.1.1.20040826185059.5457"
    inner = element(0x00081150, "UI", "1.2.840.10008.5.1.4.1.1.2") + element(0x00081155, "UI", uid)
    data = element(0x00080018, "UI", uid) + sequence(0x00081140, inner) + element(0x7FE00010, "OW", b"\x01\x02")
    changed = with_fresh_uids(data, EXPLICIT, fresh_uids(3, 1))
    assert len(changed) == len(data)
    assert changed.count(fresh_uids(3, 1)(uid).encode()) == 2
    assert changed.endswith(data[-14:])
    assert b"1.2.840.10008.5.1.4.1.1.2\0" in changed


def test_lengths_around_a_short_uid_follow() -> None:
    data = sequence(
        0x00081115, element(0x0020000E, "UI", "1.2.3") + sequence(0x00081199, element(0x00081155, "UI", "1.5"))
    )
    read = pydicom.dcmread(
        io.BytesIO(file_meta("1.2", "1.2.3", EXPLICIT) + with_fresh_uids(data, EXPLICIT, fresh_uids(1, 0)))
    )
    series = read.ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == fresh_uids(1, 0)("1.2.3")
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == fresh_uids(1, 0)("1.5")


@given(st.integers(6, 64), st.integers(0, 3), st.integers(0, 1000))
def test_fresh_uids_are_valid_and_as_long_as_the_old_ones(length: int, copy: int, number: int) -> None:
    old = ("1.2." + str(number)).ljust(length, "7")[:length]
    fresh = fresh_uids(1, copy)(old)
    assert UID(fresh).is_valid
    assert fresh != old
    assert len(fresh) == (length if length >= 30 else 44)
    assert fresh == fresh_uids(1, copy)(old) != fresh_uids(1, copy + 1)(old)


def test_well_known_uids_stay() -> None:
    assert fresh_uids(1, 0)("1.2.840.10008.1.4.1.1") == "1.2.840.10008.1.4.1.1"
    assert fresh_uids(1, 0)("") == ""


@given(st.binary(max_size=300), st.sampled_from([EXPLICIT, IMPLICIT_LITTLE, EXPLICIT_BIG, "1.2.840.10008.1.2.1.99"]))
def test_any_bytes_are_rewritten_or_refused(data: bytes, transfer_syntax: str) -> None:
    try:
        changed = with_fresh_uids(data, transfer_syntax, lambda uid: uid)
    except UnreadableError:
        return
    if transfer_syntax != "1.2.840.10008.1.2.1.99":
        # Padding and defined lengths may be put right; without UIDs to replace nothing else may differ.
        assert len(changed) >= len(data) - 1


def test_a_folder_is_replayed_series_by_series_and_over_again(tmp_path: Path) -> None:
    for number, name in enumerate(("CT_small.dcm", "rtplan.dcm")):
        shutil.copy(sample(name), tmp_path / f"{number}.dcm")
    (tmp_path / "notes.txt").write_text("not DICOM")
    replay = Replay(tmp_path, seed=5)
    assert [path.name for path in replay.skipped] == ["notes.txt"]
    assert len(replay.kinds) == 2
    made = list(islice(replay.stream(), 6))
    assert len({prepared.sop_instance for prepared in made}) == len({prepared.series for prepared in made}) == 6
    assert all(prepared.last for prepared in made)
    both = [prepared for lane in range(2) for prepared in islice(replay.stream(lane, 2), 3)]
    assert {prepared.sop_instance for prepared in both} == {prepared.sop_instance for prepared in made}


def test_copies_are_written_as_files(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    shutil.copy(sample("CT_small.dcm"), source)
    paths = Replay(source).write(target, 2)
    read = [pydicom.dcmread(path) for path in paths]
    assert len({one.SOPInstanceUID for one in read}) == len({one.StudyInstanceUID for one in read}) == 2
    assert {one.file_meta.MediaStorageSOPInstanceUID for one in read} == {one.SOPInstanceUID for one in read}
    assert {len(data_set_of(path)) for path in paths} == {len(data_set_of(sample("CT_small.dcm")))}


def test_what_dcmtk_cannot_send_is_replayed_by_the_own_sender_alone(tmp_path: Path) -> None:
    # All elements of these two have the VR UN, and both have the same SOP Instance UID.
    for name in ("CT_small.dcm", "rtdose_rle.dcm", "rtdose_rle_1frame.dcm"):
        shutil.copy(sample(name), tmp_path)
    replay = Replay(tmp_path, seed=5)
    assert [path.name for path in replay.unnamed] == ["rtdose_rle.dcm", "rtdose_rle_1frame.dcm"]
    sent = list(islice(replay.stream(), 3))
    assert sorted({one.sop_class for one in sent}) == ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.481.2"]
    assert len(replay.write(tmp_path / "written", 1)) == 1


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no DICOM files"):
        Replay(tmp_path)
