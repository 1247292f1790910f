"""Copies of archives: what is linked, what is copied, and that the original stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.__main__ import parser
from bench.copies import copied, state_of
from bench.filled import EMPTY, Filled, measure_state, summary_table
from bench.ingest import Outcome
from bench.loads import Kept, Loads
from bench.modality import Scanner, write_files
from bench.peers import Dcmqrscp, Orthanc
from bench.query import import_files


def test_frozen_files_are_linked_and_all_others_copied(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    (folder / "storage" / "ab").mkdir(parents=True)
    (folder / "storage" / "ab" / "1").write_bytes(b"image")
    (folder / "index").write_bytes(b"SQLite")
    before = state_of(folder)
    peer = Orthanc(tmp_path / "copy")
    with copied(folder, peer.directory, peer.frozen) as copy:
        assert (copy / "storage" / "ab" / "1").samefile(folder / "storage" / "ab" / "1")
        assert not (copy / "index").samefile(folder / "index")
        (copy / "index").write_bytes(b"changed")
        (copy / "storage" / "ab" / "1").unlink()
        (copy / "new").write_bytes(b"")
    assert state_of(folder) == before
    assert not peer.directory.exists()


def test_a_folder_that_changed_all_the_same_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "file").write_bytes(b"before")
    with (
        pytest.raises(RuntimeError, match=r"was changed: file"),
        copied(folder, tmp_path / "copy", lambda _path: True) as copy,
    ):
        (copy / "file").write_bytes(b"after, in place")


def test_nothing_to_copy_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RuntimeError, match="holds no archive"), copied(tmp_path / "empty", tmp_path / "copy", bool):
        pass


def test_a_filled_archive_is_measured_through_a_copy(tmp_path: Path) -> None:
    write_files(Scanner(7, small=True).instances(60), tmp_path / "files")
    folder = tmp_path / "filled"
    import_files(folder, tmp_path / "files")
    before = state_of(folder)
    arguments = [str(folder), "--small", "--slices", "40", "--workers", "1", "--associations", "2", "--warm-up", "0"]
    options = parser("filled").parse_args(["filled", *arguments])
    loads = Loads(tmp_path / "load", options, streams=2, anew=True)
    one = measure_state(str(folder), tmp_path, loads, 5, options)
    assert (one.state, one.held) == (str(folder), 60)
    assert (one.outcome.acknowledged, one.outcome.missing, one.outcome.held_before) == (40, 0, 60)
    assert state_of(folder) == before


def test_what_works_in_its_own_place_alone_is_refused_before_it_is_filled(tmp_path: Path) -> None:
    options = parser("ingest").parse_args(["ingest", "--fill", "1000", "--prefilled", str(tmp_path / "kept")])
    peer = Dcmqrscp(tmp_path / "peer")
    with pytest.raises(RuntimeError, match="dcmqrscp can't be measured from a copy"):
        Kept(tmp_path / "kept", options).place("dcmqrscp", lambda folder, _nodelay: Dcmqrscp(folder), peer)
    assert not (tmp_path / "kept").exists()


def test_ratios_are_those_within_each_repeat() -> None:
    def one(state: str, repeat: int, rate: float, cost: float) -> Filled:
        outcome = Outcome("x", 8, True, 10, 10, 0, 1.0, rate, cost, 100.0, 3.0, 4.0)
        return Filled(state, repeat, 0 if state == EMPTY else 1_000_000, 1.0, outcome)

    runs = [one(EMPTY, 0, 100, 2.0), one("full", 0, 95, 2.2), one(EMPTY, 1, 50, 4.0), one("full", 1, 40, 4.8)]
    runs += [one(EMPTY, 2, 100, 2.0), one("full", 2, 89, 2.2)]
    full = summary_table(runs, 10).splitlines()[-1]
    assert [cell.strip() for cell in full.split("|")][1:7] == ["full", "1,000,000", "89.0", "89 %", "2.20", "110 %"]
    assert full.endswith("NO |")
