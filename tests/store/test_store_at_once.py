"""Instances read without waiting: right or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from fastarchive.store.blobs import TOGETHER, Blobs
from fastarchive.store.log import Log
from fastarchive.store.pack import pack_path
from fastarchive.store.record import Location
from tests.store.making import encoded


@pytest.fixture
def stored(tmp_path: Path) -> dict[Location, bytes]:
    random = Random(5)
    with Log(tmp_path) as log:
        contents = [random.randbytes(size) for size in (1, 50, 9000, 300_000)]
        return {log.append(encoded(number, content)).result(30): content for number, content in enumerate(contents)}


def test_what_is_in_memory_is_read_as_it_was_received(tmp_path: Path, stored: dict[Location, bytes]) -> None:
    blobs = Blobs(tmp_path)
    for location, content in stored.items():
        blobs.open(location)  # opens the pack, which may take its time
        found = blobs.read_at_once(location)
        assert found is not None
        assert bytes(found[1]) == content
        assert found[0] == blobs.open(location).record


def test_a_pack_that_is_not_open_is_left_to_those_who_can_wait(tmp_path: Path, stored: dict[Location, bytes]) -> None:
    blobs = Blobs(tmp_path)
    assert [blobs.read_at_once(location) for location in stored] == [None] * len(stored)


def test_so_is_what_has_to_come_from_a_disk(
    tmp_path: Path, stored: dict[Location, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_in_memory(fd: int, buffers: object, offset: int, flags: int) -> int:
        assert flags == os.RWF_NOWAIT
        raise BlockingIOError

    blobs = Blobs(tmp_path)
    location = next(iter(stored))
    blobs.open(location)
    monkeypatch.setattr(os, "preadv", nothing_in_memory)
    assert blobs.read_at_once(location) is None


def test_and_what_is_long(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        location = log.append(encoded(1, bytes(TOGETHER + 2))).result(30)
    blobs = Blobs(tmp_path)
    blobs.open(location)
    assert blobs.read_at_once(location) is None


def test_a_pack_that_is_read_at_once_is_not_let_go_of(tmp_path: Path, stored: dict[Location, bytes]) -> None:
    blobs = Blobs(tmp_path)
    location = next(iter(stored))
    blobs.open(location)
    for _ in range(3):
        assert blobs.read_at_once(location) is not None
        blobs.let_go()


def test_no_flipped_bit_gets_through(tmp_path: Path, stored: dict[Location, bytes]) -> None:
    random = Random(7)
    blobs = Blobs(tmp_path)
    for location, content in stored.items():
        blobs.open(location)
        path = pack_path(tmp_path, location.pack)
        whole = path.read_bytes()
        for _ in range(60):
            offset = location.offset + random.randrange(location.size)
            with path.open("r+b") as file:
                file.seek(offset)
                file.write(bytes((whole[offset] ^ 1 << random.randrange(8),)))
            found = blobs.read_at_once(location)
            # What isn't part of the content, its digest or its description may be passed over.
            assert found is None or bytes(found[1]) == content
            with path.open("r+b") as file:
                file.seek(offset)
                file.write(whole[offset : offset + 1])
        assert blobs.read_at_once(location) is not None
