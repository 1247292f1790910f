"""Writer and readers in processes of their own, and a writer that is killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastarchive.dicom.attributes import Level
from fastarchive.index.current import Index
from fastarchive.index.renewing import Renewing
from fastarchive.index.writer import IndexWriter
from fastarchive.store.log import Log
from tests.index.archives import Entry, Expected, append, record_of
from tests.index.effort import effort

_WRITER = """
import sys, threading
from pathlib import Path
from fastarchive.index.writer import IndexWriter
writer = IndexWriter(Path(sys.argv[1]), commit_records=40, commit_seconds=0.05)
print("ready", flush=True)
writer.run(threading.Event())
"""
_DEADLINE = 60.0


def _start(directory: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(directory)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def _kill(process: subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait(_DEADLINE)
    assert process.stdout is not None
    process.stdout.close()


def _caught_up(reader: Index) -> None:
    deadline = time.monotonic() + _DEADLINE
    while reader.view().tail_length:
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


@pytest.fixture(params=["by whoever asks", "apart"])
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Index]:
    """A reader whose commits are opened in either way."""
    index = Index(tmp_path, renewed_apart=request.param == "apart")
    renewing = Renewing(index) if index.renewed_apart else None
    yield index
    if renewing is not None:
        renewing.stop()
    index.close()


def test_whatever_is_durable_is_seen_while_the_writer_is_killed_again_and_again(tmp_path: Path, reader: Index) -> None:
    chance = random.Random(7)
    entries: list[Entry] = []
    with Log(tmp_path, sync=False) as log:
        for turn in range(effort(2, 12)):
            process = _start(tmp_path)
            deadline = time.monotonic() + chance.uniform(0.05, 0.5)
            most = len(entries) + effort(60, 300)
            while time.monotonic() < deadline and len(entries) < most:
                number = len(entries)
                new = [
                    record_of(
                        f"3.{number + each}",
                        f"2.{number // 30}",
                        f"1.{number // 90}",
                        f"P{number // 200}",
                        received=number + each,
                        t00100010=f"NAME^{turn}",
                    )
                    for each in range(chance.randrange(1, 8))
                ]
                entries += append(log, new)
                view = reader.view()
                assert view.counts()[Level.IMAGE] == len(entries)
                newest = entries[-1][1].sop_instance
                assert view.get(Level.IMAGE, newest) is not None
                entry = reader.locate(newest)
                assert entry is not None
                assert entry.location == entries[-1][0]
            _kill(process)
            Expected(entries).check_view(Index(tmp_path).view())
        process = _start(tmp_path)
        _caught_up(reader)
        _kill(process)
        Expected(entries).check_view(reader.view())
    IndexWriter(tmp_path).close()  # and none of it was thrown away
    view = Index(tmp_path).view()
    assert view.tail_length == 0
    Expected(entries).check_view(view)


def test_many_threads_share_one_reader(tmp_path: Path, reader: Index) -> None:
    stop, failures = threading.Event(), []
    writer = IndexWriter(tmp_path, commit_seconds=0.02)
    stored: list[str] = []

    def read() -> None:
        try:
            while not stop.is_set():
                known = len(stored)
                view = reader.view()
                assert view.counts()[Level.IMAGE] >= known
                if known:
                    assert reader.locate(stored[known - 1]) is not None
                    assert view.get(Level.IMAGE, stored[known - 1]) is not None
        except BaseException as error:  # shown by the test
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    threads.append(threading.Thread(target=writer.run, args=(stop,)))
    for thread in threads:
        thread.start()
    with Log(tmp_path, sync=False) as log:
        for number in range(150):
            append(log, [record_of(f"3.{number}", f"2.{number // 20}", received=number)])
            stored.append(f"3.{number}")
    stop.set()
    for thread in threads:
        thread.join(_DEADLINE)
    writer.close()
    assert not failures
