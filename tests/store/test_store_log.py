"""The log: nothing is acknowledged that isn't durable, and nothing that goes wrong stops the service."""

import errno
import os
import threading
from concurrent.futures import Future, wait
from pathlib import Path

import pytest
import zstandard

from fastarchive.store.blobs import Blobs
from fastarchive.store.encoding import EncodedRecord
from fastarchive.store.follow import Follower
from fastarchive.store.log import Log, recover
from fastarchive.store.pack import PAGE, list_packs, pack_path, read_state, read_table
from fastarchive.store.record import Location, deletion
from fastarchive.store.writers import LogBroken, NoSpace
from tests.store.making import FaultyDisk, ct_slice, encoded, intake


def _instances(directory: Path) -> list[str]:
    with Follower(directory) as follower:
        return [record.sop_instance for _, record in follower.poll(1_000_000)]


def _readable(directory: Path, locations: list[Location]) -> bool:
    blobs = Blobs(directory)
    return all(blobs.open(location).read() for location in locations)


def test_an_idle_log_leaves_no_pack(tmp_path: Path) -> None:
    Log(tmp_path).close()
    assert list_packs(tmp_path) == []


def test_records_lie_one_after_the_other(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        first, second = (log.append(encoded(number)).result(10) for number in range(2))
    assert first.offset == PAGE
    assert second.offset == first.end
    assert _readable(tmp_path, [first, second])


def test_many_threads_share_syncs(tmp_path: Path) -> None:
    disk = FaultyDisk()
    locations: list[Location] = []
    with Log(tmp_path, disk=disk) as log:

        def append(start: int) -> None:
            futures = [log.append(encoded(start + number)) for number in range(50)]
            locations.extend(future.result(30) for future in futures)

        threads = [threading.Thread(target=append, args=(number * 50,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        status = log.status()
    assert status.records == 400
    assert status.groups < 200
    assert len(set(locations)) == 400
    assert sorted(_instances(tmp_path)) == sorted(f"1.2.3.{number}" for number in range(400))
    assert _readable(tmp_path, locations)


def test_a_record_is_visible_and_synced_when_its_future_resolves(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with Log(tmp_path, disk=disk) as log, Follower(tmp_path) as follower:
        for number in range(20):
            syncs = len(disk.syncs)
            location = log.append(encoded(number)).result(10)
            assert len(disk.syncs) == syncs + 1
            assert [found for found, _ in follower.poll(10)] == [location]


def test_a_batch_is_one_group(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        batch = [encoded(number) for number in range(3000)]
        futures = log.append_batch(batch)
        wait(futures, 30)
        assert log.status().groups == 1
        assert {"queue", "write", "sync"} <= set(batch[0].timings)


def test_an_append_cannot_be_called_back(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        future = log.append(encoded())
        assert not future.cancel()
        assert future.result(10)


def test_packs_are_sealed_at_their_size(tmp_path: Path) -> None:
    with Log(tmp_path, seal_size=20_000) as log:
        content = [os.urandom(6000), os.urandom(6000), os.urandom(50_000), os.urandom(6000)]
        locations = [log.append(encoded(number, data)).result(10) for number, data in enumerate(content)]
    packs = list_packs(tmp_path)
    assert len(packs) == 3
    assert locations[2].pack == packs[1]
    for pack in packs:
        fd = os.open(pack_path(tmp_path, pack), os.O_RDONLY)
        seal = read_state(fd).seal
        assert seal is not None
        assert not seal.recovered
        assert seal.length == os.fstat(fd).st_size
        assert read_table(fd, seal) == [location.offset for location in locations if location.pack == pack]
        os.close(fd)
    assert _readable(tmp_path, locations)


def test_packs_nobody_reads_are_let_go_of(tmp_path: Path) -> None:
    with Log(tmp_path, seal_size=PAGE + 1) as log:  # a record each
        places = [log.append(encoded(number)).result(10) for number in range(3)]
    packs = {pack_path(tmp_path, place.pack).resolve() for place in places}

    def held() -> int:
        return len(packs & {path.resolve() for path in Path("/proc/self/fd").iterdir()})

    blobs = Blobs(tmp_path)
    readers = [blobs.open(place) for place in places]
    blobs.let_go()
    assert held() == 3  # asked for a moment ago
    blobs.open(places[0])
    blobs.let_go()
    assert all(reader.read() for reader in readers)  # what is being read stays open
    del readers
    assert held() == 1
    blobs.let_go()
    assert held() == 0
    assert all(blobs.open(place).read() for place in places)


def test_a_sealed_pack_is_a_stream_any_zstd_can_read(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        for number in range(3):
            log.append(encoded(number, b"%d" % number * 1000)).result(10)
    data = pack_path(tmp_path, list_packs(tmp_path)[0]).read_bytes()
    assert data[:4] == bytes.fromhex("502A4D18")
    assert data[8:16] == b"FASTPACK"
    content = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    assert content == b"0" * 1000 + b"1" * 1000 + b"2" * 1000


def test_ids_grow_even_when_the_clock_steps_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Log(tmp_path) as log:
        first = log.append(encoded()).result(10)
    monkeypatch.setattr("fastarchive.store.pack.time.time_ns", lambda: 5)
    with Log(tmp_path) as log:
        assert log.append(encoded()).result(10).pack == first.pack + 1


def test_after_closing_appends_fail(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.append(encoded()).result(10)
    log.close()
    log.close()
    with pytest.raises(LogBroken):
        log.append(encoded()).result(10)


def test_short_writes_are_continued(tmp_path: Path) -> None:
    with Log(tmp_path, disk=FaultyDisk(shortest=True)) as log:
        futures = log.append_batch([encoded(number, os.urandom(300)) for number in range(50)])
        locations = [future.result(10) for future in futures]
    assert _readable(tmp_path, locations)


@pytest.mark.parametrize("disk", [FaultyDisk(), FaultyDisk(fail_copy_range=True), FaultyDisk(shortest=True)])
def test_a_spooled_object_is_copied_between_others(disk: FaultyDisk, tmp_path: Path) -> None:
    data = ct_slice(rows=2100, columns=2100)
    item = intake(data, tmp_path)
    assert item.pending < len(data)
    large = item.finish()
    assert large.spool is not None
    with Log(tmp_path, disk=disk) as log:
        locations = [future.result(30) for future in log.append_batch([encoded(1), large, encoded(2)])]
    item.close()
    assert Blobs(tmp_path).open(locations[1]).read() == data
    assert _readable(tmp_path, locations)


@pytest.mark.parametrize("room", range(0, 4 * 217, 31))
def test_a_full_disk_refuses_and_recovers(room: int, tmp_path: Path) -> None:
    disk = FaultyDisk()
    with Log(tmp_path, disk=disk) as log:
        stored = [(0, log.append(encoded(0)).result(10))]
        disk.room = room
        futures = log.append_batch([encoded(number) for number in range(1, 5)])
        for number, future in enumerate(futures, 1):
            error = future.exception(10)
            assert error is None or isinstance(error, NoSpace)
            if error is None:
                stored.append((number, future.result()))
        assert len(stored) < 5
        assert log.status().refused == 5 - len(stored)
        disk.room = None
        stored.append((9, log.append(encoded(9)).result(10)))
        assert log.status().abandoned == 0
        assert _instances(tmp_path) == [f"1.2.3.{number}" for number, _ in stored]
    assert _readable(tmp_path, [location for _, location in stored])
    assert len(list_packs(tmp_path)) == 1


def test_a_disk_too_full_for_a_pack_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(FaultyDisk):
        def create(self, path: Path) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with Log(tmp_path, disk=Full()) as log, pytest.raises(NoSpace):
        log.append(encoded()).result(10)
    assert list_packs(tmp_path) == []


def test_the_reserve_is_for_deletions(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with Log(tmp_path, reserve_bytes=10_000, disk=disk) as log:
        log.append(encoded(0)).result(10)
        disk.free_bytes = 10_100
        with pytest.raises(NoSpace):
            log.append(encoded(1)).result(10)
        log.append(EncodedRecord.of(deletion(1, "1.2"))).result(10)
        disk.free_bytes = 20_000
        log.append(encoded(2)).result(10)
    assert len(_instances(tmp_path)) == 3


@pytest.mark.parametrize("fault", ["fail_sync", "fail_write"])
@pytest.mark.parametrize("fail_truncate", [False, True])
def test_an_error_of_the_disk_abandons_the_pack(fault: str, fail_truncate: bool, tmp_path: Path) -> None:
    disk = FaultyDisk()
    with Log(tmp_path, disk=disk) as log:
        kept = log.append(encoded(0)).result(10)
        setattr(disk, fault, 1)
        disk.fail_truncate = fail_truncate
        for future in log.append_batch([encoded(1), encoded(2)]):
            with pytest.raises(LogBroken):
                future.result(10)
        disk.fail_truncate = False
        after = log.append(encoded(3)).result(10)
        assert after.pack != kept.pack
        assert log.status().abandoned == 1
    with pack_path(tmp_path, kept.pack).open("rb") as file:
        assert read_state(file.fileno()).seal is not None  # the log sees to what it gave up, once the disk works again
    assert recover(tmp_path).sealed == []
    assert _readable(tmp_path, [kept, after])
    assert {"1.2.3.0", "1.2.3.3"} <= set(_instances(tmp_path))


def test_a_sync_that_failed_is_not_tried_again(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with Log(tmp_path, disk=disk) as log:
        log.append(encoded(0)).result(10)
        disk.fail_sync = 1
        syncs = len(disk.syncs)
        with pytest.raises(LogBroken):
            log.append(encoded(1)).result(10)
        assert len(disk.syncs) == syncs


def test_a_pack_that_cannot_be_sealed_is_left_to_recovery(tmp_path: Path) -> None:
    disk = FaultyDisk()
    log = Log(tmp_path, disk=disk)
    location = log.append(encoded(0)).result(10)
    disk.fail_write = 1
    log.close()
    assert recover(tmp_path).sealed == [location.pack]
    assert _readable(tmp_path, [location])


def test_a_defect_fails_everyone_who_waits(tmp_path: Path) -> None:
    class Defective(FaultyDisk):
        def sync(self, fd: int) -> None:
            raise ZeroDivisionError

    caught: list[BaseException] = []
    hook, threading.excepthook = threading.excepthook, lambda arguments: caught.append(arguments.exc_type())
    try:
        log = Log(tmp_path, disk=Defective())
        futures: list[Future[Location]] = log.append_batch([encoded(1), encoded(2)])
        for future in futures:
            with pytest.raises(LogBroken):
                future.result(10)
        log.close()
    finally:
        threading.excepthook = hook
    assert isinstance(caught[0], ZeroDivisionError)
