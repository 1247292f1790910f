"""The mirror: two copies of every pack, acknowledged after both or after one, and what happens when one disk fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from fastarchive.store.blobs import Blobs, DamagedInstance
from fastarchive.store.filters import Buffer
from fastarchive.store.log import Log
from fastarchive.store.mirror import MirrorWait, catch_up
from fastarchive.store.pack import PAGE, list_packs, pack_path
from fastarchive.store.scrub import Scrub
from fastarchive.store.writers import LogBroken, NoSpace
from tests.store.making import FaultyDisk, ct_slice, encoded, intake


def _folders(directory: Path) -> tuple[Path, Path]:
    mirror = directory / "mirror"
    mirror.mkdir()
    return directory / "main", mirror


def _same(main: Path, mirror: Path) -> bool:
    return list_packs(main) == list_packs(mirror) and all(
        pack_path(main, pack).read_bytes()[PAGE:] == pack_path(mirror, pack).read_bytes()[PAGE:]
        for pack in list_packs(main)
    )


@pytest.mark.parametrize("waiting", list(MirrorWait))
def test_every_pack_is_written_twice(waiting: MirrorWait, tmp_path: Path) -> None:
    main, mirror = _folders(tmp_path)
    with Log(main, seal_size=100_000, mirror=mirror, mirror_wait=waiting) as log:
        locations = [log.append(encoded(number, os.urandom(9000))).result(30) for number in range(30)]
    assert len(list_packs(main)) > 1
    assert _same(main, mirror)
    assert not Scrub(main, mirror=mirror, deep=True).run().findings
    for location in locations:
        assert Blobs(mirror).open(location).read() == Blobs(main).open(location).read()


def test_a_spooled_object_is_mirrored(tmp_path: Path) -> None:
    main, mirror = _folders(tmp_path)
    data = ct_slice(rows=2100, columns=2100)
    item = intake(data, tmp_path)
    with Log(main, mirror=mirror) as log:
        location = log.append(item.finish()).result(30)
    item.close()
    assert Blobs(mirror).open(location).read() == data
    assert _same(main, mirror)


class HalfDead(FaultyDisk):
    """A disk on which whatever lies in the folder `mirror` fails, from when it is told to."""

    failing = 0

    def write_some(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        if self.failing and "/mirror/" in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(self.failing, os.strerror(self.failing))
        return super().write_some(fd, buffers, offset)


def test_waiting_for_both_nothing_is_acknowledged_when_the_mirror_fails(tmp_path: Path) -> None:
    main, mirror = _folders(tmp_path)
    disk = HalfDead()
    with Log(main, mirror=mirror, disk=disk) as log:
        locations = [log.append(encoded(0)).result(30)]
        disk.failing = errno.ENOSPC
        with pytest.raises(NoSpace):
            log.append(encoded(1)).result(30)
        disk.failing = errno.EIO
        for number in (2, 3):
            with pytest.raises(LogBroken):
                log.append(encoded(number)).result(30)
        disk.failing = 0
        locations.append(log.append(encoded(4)).result(30))
    assert not Scrub(main, mirror=mirror).run().findings
    assert _same(main, mirror)
    for location in locations:
        assert Blobs(mirror).open(location).read()


def test_waiting_for_one_a_mirror_that_fails_is_caught_up_later(tmp_path: Path) -> None:
    main, mirror = _folders(tmp_path)
    disk = HalfDead()
    with Log(main, seal_size=50_000, mirror=mirror, mirror_wait=MirrorWait.ONE, disk=disk) as log:
        log.append(encoded(0)).result(30)
        disk.failing = errno.EIO
        for number in range(1, 20):
            log.append(encoded(number, os.urandom(9000))).result(30)
        disk.failing = 0
        log.append(encoded(20, os.urandom(9000))).result(30)
    assert not _same(main, mirror)
    assert Scrub(main, mirror=mirror).run().findings
    assert catch_up(main, mirror)
    assert catch_up(main, mirror) == []
    assert _same(main, mirror)
    assert not Scrub(main, mirror=mirror).run().findings


def test_an_archive_from_before_the_mirror_is_copied_to_it(tmp_path: Path) -> None:
    main, mirror = _folders(tmp_path)
    with Log(main, seal_size=50_000) as log:
        for number in range(20):
            log.append(encoded(number, os.urandom(9000))).result(30)
    assert catch_up(main, mirror) == list_packs(main)
    assert _same(main, mirror)


def test_verifying_and_reading_make_do_with_the_copy_that_is_whole(tmp_path: Path) -> None:
    main, mirror = _folders(tmp_path)
    data = ct_slice(rows=1100, columns=1100)
    item = intake(data, tmp_path)
    with Log(main, mirror=mirror) as log:
        location = log.append(item.finish()).result(30)
    item.close()
    path = pack_path(main, location.pack)
    content = bytearray(path.read_bytes())
    content[location.offset + location.size - 100] ^= 4
    path.write_bytes(content)
    for folder, copy in ((main, mirror), (mirror, None)):
        reader = Blobs(folder, mirror=copy).open(location)
        reader.verify()
        assert b"".join(reader.pieces()) == data
    with pytest.raises(DamagedInstance):
        Blobs(main).open(location).verify()
    with pytest.raises(DamagedInstance):
        Blobs(main).open(location).pieces()
