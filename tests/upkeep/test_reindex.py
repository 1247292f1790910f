"""A new index while the archive serves, and while it doesn't."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastarchive.archive import Archive
from fastarchive.cli import app
from fastarchive.index.writer import IndexBusy, IndexWriter
from fastarchive.upkeep.reindex import count_records, rebuild
from tests.server.harness import RunningArchive, eventually
from tests.server.instances import sop_instance_uid
from tests.upkeep.filled import fill, holds, make


def test_records_are_counted_in_sealed_and_in_open_packs(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(7))
    with Archive.open(data) as archive:
        fill(archive, range(7, 10))
        assert count_records(data) == 10


def test_a_reader_goes_over_to_the_new_index(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(10))
    with Archive.open(data, write_index=False) as archive:
        holds(archive, range(10))
        fill(archive, range(10, 15))
        assert archive.view().tail_length == 5
        assert rebuild(data).records == 15
        assert archive.view().tail_length == 0
        holds(archive, range(15))


def test_the_old_index_stays_while_another_process_writes_it(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(10))
    index = (data / "index").stat().st_ino
    writer = IndexWriter(data)
    with pytest.raises(IndexBusy):
        rebuild(data)
    assert (data / "index").stat().st_ino == index
    assert not (data / "index.building").exists()
    # One that lets go when asked.

    def let_go() -> bool:
        writer.close()
        return True

    assert rebuild(data, ask_writer_to_end=let_go).records == 10
    assert (data / "index").stat().st_ino != index


def test_killed_while_building_it_is_built_again(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(10))
    program = (
        "import os, pathlib, signal, sys; from fastarchive.upkeep.reindex import rebuild;"
        "rebuild(pathlib.Path(sys.argv[1]), advance=lambda _: os.kill(os.getpid(), signal.SIGKILL))"
    )
    killed = subprocess.run([sys.executable, "-c", program, data], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (data / "index.building").exists()
    with Archive.open(data, read_only=True) as archive:
        holds(archive, range(10))
    assert rebuild(data).records == 10
    with Archive.open(data, read_only=True) as archive:
        holds(archive, range(10))


def test_while_the_archive_runs(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(30))
    with RunningArchive(data, workers=1):
        index = (data / "index").stat().st_ino
        stop = threading.Event()
        missed: list[int] = []

        def look() -> None:
            with Archive.open(data, read_only=True) as archive:
                while not stop.is_set():
                    missed.extend(
                        number for number in range(30) if archive.index.locate(sop_instance_uid(number)) is None
                    )

        reader = threading.Thread(target=look)
        reader.start()
        result = CliRunner().invoke(app, ["reindex", "--data", str(data)])
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith("indexed 30 records in ")
        assert (data / "index").stat().st_ino != index
        # The index writer is back, on the new index.
        with Archive.open(data, write_index=False) as archive:
            fill(archive, range(30, 35))
            eventually("the new instances are in the index", lambda: archive.view().tail_length == 0)
            holds(archive, range(35))
        stop.set()
        reader.join()
        assert not missed
