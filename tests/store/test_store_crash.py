"""Killed at any moment: whatever was acknowledged is found, read and verified."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastarchive.store.blobs import Blobs
from fastarchive.store.follow import Follower
from fastarchive.store.log import recover
from fastarchive.store.record import Location

ROOT = Path(__file__).parents[2]

# Appends in a loop, from two threads, and prints each record's number and place after its future has resolved.
_APPENDER = """
import os, sys, threading
from pathlib import Path
from fastarchive.store.log import Log, recover
from tests.store.making import encoded
directory, first = Path(sys.argv[1]), int(sys.argv[2])
recover(directory)
log = Log(directory, seal_size=300_000)
def run(number):
    while True:
        batch = [encoded(number + step, os.urandom(30 + 999 * step)) for step in range(3)]
        for step, future in enumerate(log.append_batch(batch)):
            location = future.result()
            line = f"{number + step} {location.pack} {location.offset} {location.size} {batch[step].record.digest.hex()}"
            os.write(1, (line + chr(10)).encode())
        number += 3
threading.Thread(target=run, args=(first,)).start()
run(first + 500_000)
"""


@pytest.mark.parametrize("seed", range(10))
def test_kill_9_loses_nothing_acknowledged(seed: int, tmp_path: Path) -> None:
    acknowledged: dict[int, tuple[Location, str]] = {}
    for life in range(2):
        output = tmp_path / f"acknowledged-{life}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", _APPENDER, str(tmp_path), str(life * 1_000_000)], cwd=ROOT, stdout=file
            )
            deadline = time.monotonic() + 20
            wanted = random.Random(seed * 2 + life).randint(2000, 60_000)
            while output.stat().st_size < wanted and time.monotonic() < deadline:
                pass
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        for line in output.read_text().splitlines():
            fields = line.split()
            if len(fields) == 5 and len(fields[4]) == 64:
                acknowledged[int(fields[0])] = (Location(*map(int, fields[1:4])), fields[4])
    assert len(acknowledged) > 20
    report = recover(tmp_path)
    assert report.damaged == []
    assert report.unreadable == {}
    with Follower(tmp_path) as follower:
        found = dict(follower.poll(1_000_000))
    blobs = Blobs(tmp_path)
    for number, (location, digest) in acknowledged.items():
        assert found[location].sop_instance == f"1.2.3.{number}"
        assert found[location].digest.hex() == digest
    for location in found:
        blobs.open(location).read()
