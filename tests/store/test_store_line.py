"""The line: data sets made durable by threads without the interpreter, and nothing that goes wrong stops it."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from unittest.mock import patch

import pytest

from fastarchive.store.blobs import Blobs
from fastarchive.store.follow import Follower
from fastarchive.store.intake import Intake
from fastarchive.store.pack import PAGE, list_packs, pack_path, read_state, read_table
from fastarchive.store.record import Location
from fastarchive.store.writers import LogBroken, NoSpace
from tests.store.lines import SENDER, needs_library, opened_line, plain_slice, uid_of
from tests.store.making import CT_IMAGE_STORAGE, EXPLICIT_LITTLE, FaultyDisk, header

pytestmark = needs_library


def places(directory: Path) -> dict[str, Location]:
    """Where each instance is that readers of the packs may see."""
    with Follower(directory) as follower:
        return {record.sop_instance: location for location, record in follower.poll(1_000_000)}


def check(directory: Path, slices: dict[str, bytes]) -> None:
    """They are there, and nothing else is."""
    found = places(directory)
    assert found.keys() == slices.keys()
    blobs = Blobs(directory)
    for uid, data in slices.items():
        assert blobs.open(found[uid]).read() == data


def wait_until_made(directory: Path, packs: int) -> None:
    """Packs come into being in a thread of their own."""
    deadline = time.monotonic() + 20
    while len(list_packs(directory)) < packs:
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def test_an_idle_line_leaves_no_pack(tmp_path: Path) -> None:
    with opened_line(tmp_path):
        pass
    assert not (tmp_path / "packs").exists() or list_packs(tmp_path) == []


def test_S1_an_instance_is_synced_and_visible_when_it_has_landed(tmp_path: Path) -> None:
    disk = FaultyDisk()
    slices = dict(plain_slice(number) for number in range(12))
    with opened_line(tmp_path, disk=disk) as plain:
        for number, (uid, data) in enumerate(slices.items()):
            syncs = len(disk.syncs)
            stored = plain.store((uid, data), pieces=1 + number % 3)
            assert stored.error is None
            assert min(stored.digest, stored.compress, stored.sync) > 0
            assert len(disk.syncs) == syncs + 1
            assert uid in places(tmp_path)
    check(tmp_path, slices)


def test_what_lands_is_the_record_that_python_makes(tmp_path: Path) -> None:
    uid, data = plain_slice(1, rows=300, columns=512)
    intake = Intake(
        transfer_syntax=EXPLICIT_LITTLE,
        sop_class=CT_IMAGE_STORAGE,
        sop_instance=uid,
        calling_ae=SENDER.calling_ae,
        called_ae="FASTARCHIVE",
        spool_directory=tmp_path,
    )
    intake.write(data)
    with patch("time.time_ns", return_value=1_700_000_000_000_000_000):
        encoded = intake.finish()
        with opened_line(tmp_path) as plain:
            plain.store((uid, data), pieces=4)
            (pack,) = list_packs(tmp_path)
            own = plain.own.get(pack)
            assert own is not None
            ((offset, size, record),) = own.entries
    expected = b"".join((encoded.metadata, *map(bytes, encoded.buffers)))
    written = pack_path(tmp_path, pack).read_bytes()
    assert (offset, size, own.end) == (PAGE, len(expected), PAGE + size)
    assert written[offset : offset + size] == expected
    assert record == encoded.record


def test_many_at_once_share_syncs_and_come_in_the_order_of_their_packs(tmp_path: Path) -> None:
    slices = dict(plain_slice(number, rows=100) for number in range(120))
    with opened_line(tmp_path, makers=3) as plain:
        for uid, data in slices.items():
            assert plain.offer(uid, data)
        assert all(stored.error is None for stored in plain.wait_for(list(slices)))
        status = plain.line.status()
        assert status.records == 120
        assert 1 <= status.groups <= 120
        assert (status.pack, status.stalled, status.failure) == (list_packs(tmp_path)[0], 0.0, "")
    check(tmp_path, slices)


@pytest.mark.parametrize("seal_size", [PAGE + 1, 20_000])
def test_packs_are_sealed_at_their_size(tmp_path: Path, seal_size: int) -> None:
    slices = dict(plain_slice(number) for number in range(40))
    with opened_line(tmp_path, seal_size=seal_size) as plain:
        for uid, data in slices.items():
            plain.offered(uid, data)
        assert all(stored.error is None for stored in plain.wait_for(list(slices)))
    packs = list_packs(tmp_path)
    assert len(packs) >= 40 * 1000 // seal_size
    found = places(tmp_path)
    for pack in packs:
        fd = os.open(pack_path(tmp_path, pack), os.O_RDONLY)
        seal = read_state(fd).seal
        assert seal is not None
        assert not seal.recovered
        assert seal.length == os.fstat(fd).st_size
        assert read_table(fd, seal) == sorted(place.offset for place in found.values() if place.pack == pack)
        os.close(fd)
    check(tmp_path, slices)


def test_the_next_pack_is_there_before_it_is_wanted(tmp_path: Path) -> None:
    slices = dict(plain_slice(number) for number in range(30))
    with opened_line(tmp_path, seal_size=40_000) as plain:
        for uid, data in slices.items():
            plain.store((uid, data))
            if plain.line.status().end > 30_000:
                break
        wait_until_made(tmp_path, 2)
        assert plain.line.status().pack == list_packs(tmp_path)[0]
    assert len(list_packs(tmp_path)) == 1  # that nothing came into is gone


def test_a_bell_that_is_heard_too_late_is_quiet_afterwards(tmp_path: Path) -> None:
    with opened_line(tmp_path) as plain:
        plain.store(plain_slice(1))
        os.eventfd_write(plain.line.bell, 1)  # as by a thread whose instance has landed already
        assert plain.line.landed() == []
        with pytest.raises(BlockingIOError):
            os.eventfd_read(plain.line.bell)


def test_what_is_not_plain_is_not_taken(tmp_path: Path) -> None:
    uid, data = plain_slice(1)
    with opened_line(tmp_path) as plain:
        assert not plain.offer("1.2.3.4.5", data)  # another than it says
        assert not plain.offer(uid, data[:-2])
        assert not plain.offer(uid, header(uid, rows=300, columns=2000) + bytes(1_200_000))
        assert plain.store((uid, data)).error is None


@pytest.mark.parametrize("faults", [{"fail_sync": 1}, {"fail_write": 1}])
def test_S2_after_an_error_of_the_disk_it_goes_on_in_another_pack(tmp_path: Path, faults: dict[str, int]) -> None:
    disk = FaultyDisk()
    slices = dict(plain_slice(number) for number in range(6))
    with opened_line(tmp_path, disk=disk) as plain:
        for number, (uid, data) in enumerate(slices.items()):
            if number == 3:
                disk.fail_sync, disk.fail_write = faults.get("fail_sync", 0), faults.get("fail_write", 0)
            error = plain.store((uid, data)).error
            assert isinstance(error, LogBroken) == (number == 3)
        status = plain.line.status()
        assert (status.records, status.abandoned) == (5, 1)
    del slices[uid_of(3)]
    check(tmp_path, slices)
    for pack in list_packs(tmp_path):
        with pack_path(tmp_path, pack).open("rb") as file:
            assert read_state(file.fileno()).seal is not None


def test_S2_a_full_disk_is_told_and_used_again_when_there_is_room(tmp_path: Path) -> None:
    disk = FaultyDisk(room=100)
    with opened_line(tmp_path, disk=disk) as plain:
        assert isinstance(plain.store(plain_slice(1)).error, NoSpace)
        assert plain.line.status().refused == 1
        disk.room = None
        plain.offered(*plain_slice(2))
        assert plain.wait_for([uid_of(2)])[0].error is None
    check(tmp_path, dict([plain_slice(2)]))


def test_S2_the_reserve_is_left_alone(tmp_path: Path) -> None:
    disk = FaultyDisk(free_bytes=1000)
    with opened_line(tmp_path, disk=disk, reserve_bytes=500) as plain:
        assert isinstance(plain.store(plain_slice(1)).error, NoSpace)
        disk.free_bytes = 1 << 30
        plain.offered(*plain_slice(2))
        assert plain.wait_for([uid_of(2)])[0].error is None
    check(tmp_path, dict([plain_slice(2)]))


def test_S2_where_no_pack_can_be_made_it_takes_nothing_for_a_while(tmp_path: Path) -> None:
    class NoFiles(FaultyDisk):
        broken = True

        def create(self, path: Path) -> int:
            if self.broken:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().create(path)

    disk = NoFiles()
    with opened_line(tmp_path, disk=disk) as plain:
        assert isinstance(plain.store(plain_slice(1)).error, NoSpace)
        assert not plain.offer(*plain_slice(2))
        disk.broken = False
        plain.offered(*plain_slice(3))
        assert plain.wait_for([uid_of(3)])[0].error is None
    check(tmp_path, dict([plain_slice(3)]))


def test_writes_that_are_cut_short_are_finished(tmp_path: Path) -> None:
    slices = dict(plain_slice(number) for number in range(5))
    with opened_line(tmp_path, disk=FaultyDisk(shortest=True)) as plain:
        for uid, data in slices.items():
            assert plain.offer(uid, data)
        assert all(stored.error is None for stored in plain.wait_for(list(slices)))
    check(tmp_path, slices)


@pytest.mark.parametrize("count", [1, 50])
def test_what_was_taken_on_is_durable_when_it_is_closed(tmp_path: Path, count: int) -> None:
    slices = dict(plain_slice(number, rows=60) for number in range(count))
    with opened_line(tmp_path, seal_size=60_000) as plain:
        for uid, data in slices.items():
            assert plain.offer(uid, data)
    assert all(plain.landed[uid].error is None for uid in slices)
    assert not plain.offer(*plain_slice(99))
    check(tmp_path, slices)


def test_small_groups_get_zeroes_ahead_of_them(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with opened_line(tmp_path, disk=disk) as plain:
        for number in range(40):
            plain.store(plain_slice(number))
        (pack,) = list_packs(tmp_path)
        end = plain.line.status().end
        with pack_path(tmp_path, pack).open("rb") as file:
            file.seek(end)
            assert not any(file.read(1 << 20))
    check(tmp_path, dict(plain_slice(number) for number in range(40)))
