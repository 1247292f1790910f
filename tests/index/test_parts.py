"""An index built in parts is the index that one writer would have built."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.dicom.attributes import Level
from fastarchive.index.conditions import Everything
from fastarchive.index.current import Index
from fastarchive.index.harvest import Harvest, Share, dealt, ends_of, is_whole
from fastarchive.index.parts import Part, build_part, unite
from fastarchive.index.sieve import Sieve
from fastarchive.index.writer import IndexWriter
from fastarchive.store.log import Log
from fastarchive.store.pack import PAGE, pack_path
from fastarchive.store.record import Record, encode_record
from tests.folders import temporary_folder
from tests.index.archives import Entry, Expected, append, random_records, record_of
from tests.index.effort import effort


def _built(directory: Path, shares: int) -> dict[Path, Part]:
    ends = ends_of(directory)
    folders = [directory / f"part-{number}" for number in range(shares)]
    return {
        folder: build_part(directory, folder, ends, Share(number, shares), expected=100)
        for number, folder in enumerate(folders)
    }


def _united(directory: Path, shares: int) -> None:
    unite(directory, _built(directory, shares), directory / "index")


@settings(max_examples=effort(15, 300), deadline=None)
@given(
    st.lists(random_records(), max_size=14),
    st.lists(random_records(), max_size=14),
    st.lists(random_records(), max_size=6),
    st.integers(1, 3),
)
def test_any_records_in_any_number_of_parts_give_the_documents_of_the_model(
    some: list[Record], others: list[Record], later: list[Record], shares: int
) -> None:
    with temporary_folder() as directory, Log(directory, sync=False) as one, Log(directory, sync=False) as other:
        entries: list[Entry] = [*append(one, some), *append(other, others)]
        _united(directory, shares)
        reader = Index(directory)
        assert reader.view().tail_length == 0
        Expected(entries).check_view(reader.view())
        entries += append(one, later)
        expected = Expected(entries)
        expected.check_view(reader.view())
        writer = IndexWriter(directory, commit_seconds=1e9)  # goes on from it as from its own
        while writer.step():
            pass
        writer.commit()
        expected.check_view(reader.view())
        rowids = [one.rowid for level in Level for page in reader.view().pages(level, Everything()) for one in page]
        assert len(set(rowids)) == len(rowids)
        writer.close()
        reader.close()


@pytest.mark.parametrize("conflict", ["study of two patients", "instance of two patients", "one patient written twice"])
def test_what_two_parts_have_is_made_one(tmp_path: Path, conflict: str) -> None:
    names = [f"P{number}" for number in range(50)]
    dealt_to = [dealt(encode_record(record_of("3.1", patient_id=name)), 2) for name in names]
    one, other = names[dealt_to.index(0)], names[dealt_to.index(1)]
    first = record_of("3.1", patient_id=one, t00100010="FIRST", t00080060="CT")
    if conflict == "study of two patients":
        second = record_of("3.2", series="2.2", patient_id=other, received=1001, t00080060="MR")
    elif conflict == "instance of two patients":
        second = record_of("3.1", study="1.2", patient_id=other, received=900)
    else:  # the control character isn't part of the ID, but only decoding tells
        first = record_of("3.1", patient_id=other, t00100010="FIRST")
        second = record_of("3.2", study="1.2", patient_id=f"{other}\x7f\u00a0", received=1001)
    with Log(tmp_path, sync=False) as log:
        entries = append(log, [first, second])
        _united(tmp_path, 2)
        reader = Index(tmp_path)
        assert reader.view().tail_length == 0
        Expected(entries).check_view(reader.view())
        reader.close()


def test_parts_are_made_one_from_the_mirror_where_records_were_damaged_meanwhile(tmp_path: Path) -> None:
    data, mirror = tmp_path / "data", tmp_path / "mirror"
    data.mkdir()
    names = [f"P{number}" for number in range(50)]
    dealt_to = [dealt(encode_record(record_of("3.1", patient_id=name)), 2) for name in names]
    one, other = names[dealt_to.index(0)], names[dealt_to.index(1)]
    with Log(data, sync=False) as log:
        entries = append(
            log,
            [
                record_of("3.1", patient_id=one, t00100010="FIRST", t00080060="CT"),
                record_of("3.2", series="2.2", patient_id=other, received=1001, t00080060="MR"),
            ],
        )
    shutil.copytree(data, mirror)
    parts = _built(data, 2)
    for location, _ in entries:
        with pack_path(data, location.pack).open("r+b") as file:
            file.seek(location.offset + 40)
            file.write(b"\xff" * 8)
    unite(data, parts, data / "index", mirror)
    reader = Index(data)
    Expected(entries).check_view(reader.view())
    reader.close()


def test_every_record_has_one_reader_and_deletions_have_all(tmp_path: Path) -> None:
    from fastarchive.store.record import deletion

    records = [record_of(f"3.{number}", patient_id=f"P{number % 9}", study=f"1.{number}") for number in range(40)]
    records += [record_of(f"4.{number}", patient_id="", study=f"5.{number}") for number in range(20)]
    gone = deletion(5, "1.1")
    with Log(tmp_path, sync=False) as log:
        entries = append(log, [*records, gone])
        ends = ends_of(tmp_path)
        read = [list(Harvest(tmp_path, ends, Share(number, 3)).records()) for number in range(3)]
    assert all(each[-1] == entries[-1] for each in read)
    assert sorted(entry for each in read for entry in each[:-1]) == sorted(entries[:-1])
    assert all(read)


@pytest.mark.parametrize("native", [True, False])
def test_readers_stop_where_a_file_ends_too_early(
    tmp_path: Path, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        monkeypatch.setattr("fastarchive.native.harvest.deal", None)
    with Log(tmp_path, sync=False) as log:
        entries = append(log, [record_of(f"3.{number}", patient_id=f"P{number}") for number in range(20)])
    ends = ends_of(tmp_path)
    last = entries[-1][0]
    for kept in (0, 50, last.size - 1):
        os.truncate(pack_path(tmp_path, last.pack), last.offset + kept)
        for of in (1, 2):
            shares = [Harvest(tmp_path, ends, Share(number, of)) for number in range(of)]
            read = [entry for share in shares for entry in share.records()]
            assert sorted(read) == sorted(entries[:-1])
            assert {share.positions[last.pack] for share in shares} == {last.offset}
            assert {share.passed for share in shares} == {19}


def test_padding_does_not_change_whose_a_record_is() -> None:
    for of in (2, 3, 5):
        plain = dealt(encode_record(record_of("3.1", patient_id="ABC")), of)
        assert dealt(encode_record(record_of("3.1", patient_id=" ABC  ")), of) == plain
        assert dealt(encode_record(record_of("3.1", patient_id="王")), of) == 0


@pytest.mark.parametrize("place", ["metadata", "start"])
def test_all_readers_stop_at_damage_and_the_writer_goes_on_behind_it(tmp_path: Path, place: str) -> None:
    with Log(tmp_path, sync=False) as log:
        entries = append(
            log, [record_of(f"3.{number}", f"2.{number}", f"1.{number}", f"P{number}") for number in range(30)]
        )
    damaged = entries[10][0]
    path = pack_path(tmp_path, damaged.pack)
    with path.open("r+b") as file:
        file.seek(damaged.offset + (0 if place == "start" else 200))
        file.write(b"\xff\xfe")
    parts = _built(tmp_path, 2)
    assert {part.positions[damaged.pack] for part in parts.values()} == {damaged.offset}
    unite(tmp_path, parts, tmp_path / "index")
    writer = IndexWriter(tmp_path, commit_seconds=1e9)
    while writer.step():
        pass
    writer.commit()
    writer.close()
    reader = Index(tmp_path)
    Expected([*entries[:10], *entries[11:]]).check_view(reader.view())
    reader.close()


def test_parts_that_reach_differently_far_are_refused(tmp_path: Path) -> None:
    with Log(tmp_path, sync=False) as log:
        entries = append(log, [record_of(f"3.{number}") for number in range(4)])
        parts = _built(tmp_path, 2)
        folder, part = parts.popitem()
        pack = entries[0][0].pack
        parts[folder] = part._replace(positions={pack: PAGE})
        with pytest.raises(ValueError, match="changed"):
            unite(tmp_path, parts, tmp_path / "index")


def test_a_pack_compacted_away_meanwhile_is_read_where_its_records_went(tmp_path: Path) -> None:
    with Log(tmp_path, sync=False) as log:
        gone = append(log, [record_of("3.1", patient_id="P1"), record_of("3.2", patient_id="P2")])
    with Log(tmp_path, sync=False) as log:
        moved = [(location, record.moved_from(location)) for location, record in gone]
        ends = ends_of(tmp_path)
        first = build_part(tmp_path, tmp_path / "part-0", ends, Share(0, 2), expected=2)
        entries = append(log, [record for _, record in moved])
        pack_path(tmp_path, gone[0][0].pack).unlink()
        ends.pop(gone[0][0].pack)
        second = build_part(tmp_path, tmp_path / "part-1", ends, Share(1, 2), expected=2)
        unite(tmp_path, {tmp_path / "part-0": first, tmp_path / "part-1": second}, tmp_path / "index")
        writer = IndexWriter(tmp_path, commit_seconds=1e9)
        while writer.step():
            pass
        writer.commit()
        writer.close()
        reader = Index(tmp_path)
        assert {one.instance for page in reader.view().pages(Level.IMAGE, Everything()) for one in page} == {
            "3.1",
            "3.2",
        }
        assert all(
            (entry := reader.locate(record.sop_instance)) is not None and entry.location == location
            for location, record in entries
        )
        reader.close()


def test_the_sieve_never_denies_what_it_was_given() -> None:
    sieve = Sieve(2000)
    sieve.update(f"1.2.{number}" for number in range(1000))
    sieve.update(f"1.2.{number}" for number in range(1000, 2000))
    assert all(f"1.2.{number}" in sieve for number in range(2000))
    assert sum(f"1.3.{number}" in sieve for number in range(2000)) < 200


def test_a_checksum_tells_a_whole_record() -> None:
    metadata = encode_record(record_of("3.1"))
    assert is_whole(metadata)
    assert not is_whole(metadata[:-1] + b"\xff")
