"""Killed at any moment: whatever was acknowledged is found, read and verified."""

import os
import random
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from fastarchive.store.blobs import Blobs
from fastarchive.store.follow import Follower
from fastarchive.store.log import Log, recover
from fastarchive.store.record import Location
from tests.store.making import encoded, in_child


def _append_for_ever(directory: Path, first: int, output: Path) -> None:
    """Append from two threads, noting each record's number, place and digest after its future has resolved."""
    recover(directory)
    log = Log(directory, seal_size=300_000)
    notes = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def run(number: int) -> None:
        while True:
            batch = [encoded(number + step, os.urandom(30 + 999 * step)) for step in range(3)]
            for step, future in enumerate(log.append_batch(batch)):
                place = future.result()
                digest = batch[step].record.digest.hex()
                os.write(notes, f"{number + step} {place.pack} {place.offset} {place.size} {digest}\n".encode())
            number += 3

    threading.Thread(target=run, args=(first + 500_000,), daemon=True).start()
    run(first)


@pytest.mark.parametrize("seed", range(10))
def test_kill_9_loses_nothing_acknowledged(seed: int, tmp_path: Path) -> None:
    acknowledged: dict[int, tuple[Location, str]] = {}
    for life in range(2):
        output = tmp_path / f"acknowledged-{life}"
        process = in_child(partial(_append_for_ever, tmp_path, life * 1_000_000, output))
        deadline = time.monotonic() + 20
        wanted = random.Random(seed * 2 + life).randint(2000, 60_000)
        while (not output.exists() or output.stat().st_size < wanted) and time.monotonic() < deadline:
            time.sleep(0.001)  # leaves the processor to the appender
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
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
