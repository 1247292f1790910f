"""Recovery: whatever the moment of the crash, what was acknowledged is there and no half record is."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastarchive.store.blobs import Blobs, DamagedInstance
from fastarchive.store.follow import Follower
from fastarchive.store.log import Log, recover
from fastarchive.store.pack import PAGE, create_pack, list_packs, pack_path, publish_durable, read_state
from fastarchive.store.record import Location
from tests.store.making import FaultyDisk, encoded


@dataclass
class Crashed:
    """A pack as a dead owner left it: three records, no seal."""

    pack: int
    data: bytes
    locations: list[Location]

    def lay(self, directory: Path, data: bytes, durable: int = PAGE) -> Path:
        """Put the pack's file into a fresh data directory with other content and another durable length."""
        shutil.rmtree(directory / "packs", ignore_errors=True)
        path = pack_path(directory, self.pack)
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        with path.open("r+b") as file:
            publish_durable(FaultyDisk(), file.fileno(), durable)
        return path


@pytest.fixture
def crashed(tmp_path: Path) -> Crashed:
    directory = tmp_path / "source"
    log = Log(directory, seal_size=1 << 20)
    locations = [log.append(encoded(number, b"%d" % number * 80)).result(10) for number in range(3)]
    pack = locations[0].pack
    data = pack_path(directory, pack).read_bytes()
    log.close()
    return Crashed(pack, data[: locations[-1].end], locations)


def _found(directory: Path) -> list[Location]:
    with Follower(directory) as follower:
        return [location for location, _ in follower.poll(1000)]


def _check(directory: Path, expected: list[Location]) -> None:
    assert _found(directory) == expected
    blobs = Blobs(directory)
    for location in expected:
        blobs.open(location).read()


@pytest.mark.parametrize("reserved", [0, 5000])
def test_a_pack_torn_at_any_byte_keeps_its_whole_records(crashed: Crashed, reserved: int, tmp_path: Path) -> None:
    directory = tmp_path / "torn"
    for length in range(crashed.locations[0].end - 3, len(crashed.data) + 1):
        torn = crashed.data[:length] + bytes(reserved)
        crashed.lay(directory, torn)
        report = recover(directory, disk=_NoSync())
        whole = [location for location in crashed.locations if location.end <= length]
        if not whole:
            assert report.removed == [crashed.pack]
            assert _found(directory) == []
            continue
        assert report.sealed == [crashed.pack]
        assert report.records == len(whole)
        assert sum(report.cut.values()) == len(crashed.data[whole[-1].end : length].rstrip(b"\0"))
        _check(directory, whole)


class _NoSync(FaultyDisk):
    """Recovers thousands of packs without waiting for the disk."""

    def sync(self, fd: int) -> None: ...

    def sync_directory(self, path: Path) -> None: ...


def test_a_bit_flipped_in_the_last_group_cuts_it_off(crashed: Crashed, tmp_path: Path) -> None:
    directory = tmp_path / "flipped"
    last = crashed.locations[-1]
    for position in range(last.offset, last.end):
        data = bytearray(crashed.data)
        data[position] ^= 16
        crashed.lay(directory, bytes(data), durable=last.offset)
        recover(directory, disk=_NoSync())
        _check(directory, crashed.locations[:2])


def test_damage_among_acknowledged_records_cuts_nothing(crashed: Crashed, tmp_path: Path) -> None:
    directory = tmp_path / "damaged"
    first, second, third = crashed.locations
    for position in range(second.offset, second.offset + 100):
        data = bytearray(crashed.data)
        data[position] ^= 16
        crashed.lay(directory, bytes(data), durable=third.end)
        report = recover(directory, disk=_NoSync())
        assert [(damage.start, damage.end) for damage in report.damaged] == [(second.offset, third.offset)]
        assert report.cut == {}
        assert _found(directory) == [first, third]
        with pytest.raises(DamagedInstance):
            Blobs(directory).open(second).read()


def test_damage_of_the_last_acknowledged_record_cuts_nothing(crashed: Crashed, tmp_path: Path) -> None:
    directory = tmp_path / "damaged"
    last = crashed.locations[-1]
    data = bytearray(crashed.data + b"torn")
    data[last.offset + 30] ^= 1
    path = crashed.lay(directory, bytes(data), durable=last.end)
    report = recover(directory)
    assert report.damaged[0].end == last.end
    assert _found(directory) == crashed.locations[:2]
    assert path.read_bytes()[last.offset : last.end] == bytes(data[last.offset : last.end])


def test_records_nobody_acknowledged_may_stay_if_whole(crashed: Crashed, tmp_path: Path) -> None:
    crashed.lay(tmp_path / "later", crashed.data, durable=crashed.locations[0].end)
    recover(tmp_path / "later")
    _check(tmp_path / "later", crashed.locations)


def test_recovery_is_idempotent_and_leaves_the_living_alone(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        location = log.append(encoded()).result(10)
        report = recover(tmp_path)
        assert (report.sealed, report.removed, report.unreadable) == ([], [], {})
        assert log.append(encoded(1)).result(10).pack == location.pack
    before = pack_path(tmp_path, location.pack).read_bytes()
    recover(tmp_path)
    assert pack_path(tmp_path, location.pack).read_bytes() == before


@pytest.mark.parametrize("writes", range(1, 8))
def test_recovery_killed_anywhere_is_done_again(writes: int, crashed: Crashed, tmp_path: Path) -> None:
    class Killed(FaultyDisk):
        """Stops for good at the n-th change."""

        left = writes

        def _step(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

        def write_some(self, fd, buffers, offset):  # type: ignore[no-untyped-def]  # as inherited
            self._step()
            return super().write_some(fd, [bytes(buffers[0])[: max(len(buffers[0]) // 2, 1)]], offset)

        def truncate(self, fd: int, length: int) -> None:
            self._step()
            super().truncate(fd, length)

        def sync(self, fd: int) -> None:
            self._step()

    directory = tmp_path / "killed"
    crashed.lay(directory, crashed.data + b"torn" + bytes(100), durable=crashed.locations[1].end)
    with pytest.raises(KeyboardInterrupt):
        recover(directory, disk=Killed())
    recover(directory)
    _check(directory, crashed.locations)


def test_a_pack_without_records_is_removed(tmp_path: Path) -> None:
    pack = create_pack(tmp_path, 1 << 20)
    os.close(pack.fd)
    assert recover(tmp_path).removed == [pack.pack]
    assert list_packs(tmp_path) == []


def test_files_of_a_creation_cut_short_are_removed(tmp_path: Path) -> None:
    packs = tmp_path / "packs"
    packs.mkdir()
    unborn = packs / f"{5:020d}.new"
    unborn.write_bytes(b"")
    recover(tmp_path)
    assert not unborn.exists()


@pytest.mark.parametrize("damage", [b"", b"not a pack" * 1000])
def test_what_is_no_pack_is_named_and_left_alone(damage: bytes, tmp_path: Path) -> None:
    path = pack_path(tmp_path, 7)
    path.parent.mkdir()
    path.write_bytes(damage)
    report = recover(tmp_path)
    assert list(report.unreadable) == [7]
    assert path.read_bytes() == damage
    with Follower(tmp_path) as follower:
        assert follower.poll(10) == []
        assert list(follower.unreadable) == [7]


def test_a_pack_of_a_version_to_come_is_refused_by_name(crashed: Crashed, tmp_path: Path) -> None:
    data = bytearray(crashed.data)
    data[16] = 2
    crashed.lay(tmp_path / "future", bytes(data))
    assert "format 2" in recover(tmp_path / "future").unreadable[crashed.pack]


def test_the_seal_and_the_table_survive_no_flipped_bit_unnoticed(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        location = log.append(encoded()).result(10)
    path = pack_path(tmp_path, location.pack)
    fd = os.open(path, os.O_RDWR)
    for position in range(512, 556):
        byte = os.pread(fd, 1, position)
        os.pwrite(fd, bytes([byte[0] ^ 1]), position)
        assert read_state(fd).seal is None
        os.pwrite(fd, byte, position)
    assert read_state(fd).seal is not None
    os.close(fd)
