"""Zeroes ahead of small groups: where they are written, how seldom, and that nothing but time depends on them."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from fastarchive.store.ahead import Ahead
from fastarchive.store.blobs import Blobs
from fastarchive.store.disk import Disk
from fastarchive.store.filters import Buffer
from fastarchive.store.log import Log
from fastarchive.store.mirror import MirrorWait
from fastarchive.store.pack import PAGE, list_packs, pack_path, read_state
from fastarchive.store.writers import LogBroken
from tests.store.making import encoded

STRETCH = 256 << 10


class Zeroes(Disk):
    """Remembers where zeroes were written, by the folder of the pack, and fails to write them with `error`."""

    def __init__(self, error: int = 0) -> None:
        self.error = error
        self.written: dict[str, list[tuple[int, int]]] = {}

    def write_some(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        if offset >= PAGE and len(buffers) == 1 and not any(buffers[0]):
            if self.error:
                raise OSError(self.error, os.strerror(self.error))
            folder = Path(os.readlink(f"/proc/self/fd/{fd}")).parents[1].name  # noqa: PTH115 - of a descriptor
            self.written.setdefault(folder, []).append((offset, len(buffers[0])))
        return super().write_some(fd, buffers, offset)


def content(size: int, number: int) -> bytes:
    return os.urandom(size - 8) + number.to_bytes(8, "big")


def store(log: Log, directory: Path, sizes: Sequence[int]) -> None:
    """One group after the other; each is read back."""
    blobs = Blobs(directory)
    for number, size in enumerate(sizes):
        data = content(size, number)
        location = log.append(encoded(number, data)).result(30)
        assert blobs.open(location).read() == data
    blobs.close()


def test_small_groups_find_zeroes_written_for_many_of_them(tmp_path: Path) -> None:
    disk = Zeroes()
    with Log(tmp_path, seal_size=8 << 20, disk=disk) as log:
        store(log, tmp_path, [5000] * 100)
        assert log.status().groups == 100
    (written,) = disk.written.values()
    starts = [start for start, _ in written]
    assert 2 <= len(written) <= 3
    assert starts[0] > 4 * 5000  # not before there were some
    assert all(length == STRETCH for _, length in written)
    assert [second - first for first, second in pairwise(starts)] == [STRETCH] * (len(starts) - 1)


@pytest.mark.parametrize("sizes", [[100_000] * 20, [5000, 200_000] * 10, [5000] * 4])
def test_large_groups_and_single_records_find_none(tmp_path: Path, sizes: list[int]) -> None:
    disk = Zeroes()
    with Log(tmp_path, seal_size=8 << 20, disk=disk) as log:
        store(log, tmp_path, sizes)
    assert not disk.written


def test_zeroes_stay_within_the_space_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ahead, "mean", 0.0)
    disk = Zeroes()
    with Log(tmp_path, seal_size=20_000, disk=disk) as log:
        store(log, tmp_path, [3000] * 12)
    (written,) = disk.written.values()
    assert all(start + length <= 20_000 for start, length in written)
    packs = list_packs(tmp_path)
    assert len(written) == len(packs) > 1
    for pack in packs:
        with pack_path(tmp_path, pack).open("rb") as file:
            seal = read_state(file.fileno()).seal
        assert seal is not None
        assert seal.length == pack_path(tmp_path, pack).stat().st_size


def test_no_space_set_aside_no_zeroes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ahead, "mean", 0.0)

    class Old(Zeroes):
        def reserve(self, fd: int, length: int) -> None:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    disk = Old()
    with Log(tmp_path, seal_size=8 << 20, disk=disk) as log:
        store(log, tmp_path, [3000] * 5)
    assert not disk.written


def test_no_room_for_zeroes_is_no_reason_to_refuse_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ahead, "mean", 0.0)
    disk = Zeroes(errno.ENOSPC)
    with Log(tmp_path, seal_size=8 << 20, disk=disk) as log:
        store(log, tmp_path, [3000] * 5)
        disk.error = 0
        store(log, tmp_path, [3000] * 5)
    assert not disk.written


def test_zeroes_that_fail_to_be_written_fail_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ahead, "mean", 0.0)
    disk = Zeroes(errno.EIO)
    with Log(tmp_path, seal_size=8 << 20, disk=disk) as log:
        with pytest.raises(LogBroken):
            log.append(encoded(1, b"1" * 3000)).result(30)
        disk.error = 0
        store(log, tmp_path, [3000] * 5)
        assert log.status().abandoned == 1


def test_both_copies_have_zeroes_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ahead, "mean", 0.0)
    disk = Zeroes()
    main, mirror = tmp_path / "main", tmp_path / "mirror"
    main.mkdir()
    mirror.mkdir()
    with Log(main, seal_size=8 << 20, disk=disk, mirror=mirror, mirror_wait=MirrorWait.BOTH) as log:
        store(log, main, [3000] * 5)
    assert disk.written["main"] == disk.written["mirror"] == [(PAGE, STRETCH)]
    (pack,) = list_packs(main)
    assert pack_path(main, pack).read_bytes() == pack_path(mirror, pack).read_bytes()
