"""One seeded life of a log that ends with the power, and everything that must hold after it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from unittest.mock import patch

from fastarchive.dicom.attributes import Level
from fastarchive.index.current import Index
from fastarchive.index.writer import INDEX, IndexWriter
from fastarchive.store.ahead import Ahead
from fastarchive.store.blobs import Blobs
from fastarchive.store.encoding import EncodedRecord, Spool
from fastarchive.store.follow import Follower
from fastarchive.store.log import Log
from fastarchive.store.mirror import MirrorWait, catch_up
from fastarchive.store.pack import PACKS, PAGE, list_packs, pack_path, read_state
from fastarchive.store.record import Location
from fastarchive.store.recovery import recover
from fastarchive.store.scrub import Scrub
from fastarchive.store.writers import LogBroken, NoSpace
from tests.store.lines import opened_line, plain_slice
from tests.store.making import encoded
from tests.store.power import PowerLossDisk

SEAL_SIZE = 32 << 10
SIZES = (1, 60, 700, 700, 4096, 4096, 9000, 40_000)


class Life:
    """What was given to a log and what it acknowledged."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.acknowledged: dict[Location, str] = {}

    def live(
        self,
        directory: Path,
        log: Log,
        random: Random,
        disk: PowerLossDisk,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        """Append groups of records until there are enough or the power is gone; `meanwhile` is done after each."""
        for _ in range(random.randint(1, 12)):
            batch = [self._record(directory, random, disk) for _ in range(random.choice([1, 1, 2, 5, 12]))]
            futures: list[Future[Location]] = log.append_batch(batch)
            for item, future in zip(batch, futures, strict=True):
                with suppress(NoSpace, LogBroken):
                    self.acknowledged[future.result(30)] = item.record.sop_instance
                if item.spool is not None:
                    item.spool.close()
            meanwhile()
            if disk.dead:
                return

    def _record(self, directory: Path, random: Random, disk: PowerLossDisk) -> EncodedRecord:
        size = random.choice(SIZES)
        content = random.randbytes(size) if random.random() < 0.7 else bytes([random.randrange(256)]) * size
        item = encoded(len(self.contents), content)
        self.contents[item.record.sop_instance] = content
        if random.random() < 0.1:
            spool = Spool(directory / "spool", disk)
            spool.append(tuple(item.buffers))
            item = EncodedRecord.of(item.record, None, spool)
        return item


def power_loss(seed: int, directory: Path) -> int:
    """One crash point; the number of records acknowledged before it. Raises AssertionError for a broken promise."""
    random = Random(seed)
    before, after = directory / "before", directory / "after"
    packs = before / PACKS
    packs.mkdir(parents=True)
    disk = PowerLossDisk([packs], random, random.randint(2, random.choice([12, 40, 120])), random.choice([0, 0, 0.05]))
    life = Life()
    log = Log(before, seal_size=SEAL_SIZE, disk=disk)
    with patch.object(Ahead, "mean", random.choice([Ahead.mean, 0.0])):
        life.live(before, log, random, disk)
    if random.random() < 0.7:
        disk.dead = True  # otherwise it may still seal its pack
    log.close()
    disk.lay(packs, after / PACKS)
    # The power may fail again while recovery is at work.
    for number in range(random.choice([0, 0, 1, 2])):
        disk = PowerLossDisk([after / PACKS], random, random.randint(1, 25))
        recover(after, disk)
        after, last = directory / f"after-{number}", after
        disk.lay(last / PACKS, after / PACKS)
    check(after, life)
    with Log(after, seal_size=SEAL_SIZE) as log:
        location = log.append(encoded(99_999, b"life goes on")).result(30)
    assert Blobs(after).open(location).read() == b"life goes on"
    return len(life.acknowledged)


def power_loss_on_a_line(seed: int, directory: Path) -> int:
    """The same for what threads write that need no interpreter."""
    random = Random(seed)
    before, after = directory / "before", directory / "after"
    (before / PACKS).mkdir(parents=True)
    points = random.randint(2, random.choice([12, 40, 120]))
    disk = PowerLossDisk([before / PACKS], random, points, random.choice([0, 0, 0.05]))
    life = Life()
    with opened_line(before, seal_size=SEAL_SIZE, disk=disk) as plain:
        number = 0
        for _ in range(random.randint(1, 12)):
            group = [
                plain_slice(number + more, rows=random.choice([2, 20, 200])) for more in range(random.randint(1, 9))
            ]
            number += len(group)
            life.contents.update(group)
            taken = [uid for uid, data in group if plain.offer(uid, data)]
            for stored in plain.wait_for(taken):
                if stored.location is not None:
                    life.acknowledged[stored.location] = stored.sop_instance
            if disk.dead:
                break
        if random.random() < 0.7:
            disk.dead = True
    disk.lay(before / PACKS, after / PACKS)
    check(after, life)
    return len(life.acknowledged)


def power_loss_with_index(seed: int, directory: Path) -> int:
    """The same while the log is indexed: afterwards the index says exactly what the packs hold."""
    random = Random(seed)
    before, after = directory / "before", directory / "after"
    (before / PACKS).mkdir(parents=True)
    disk = PowerLossDisk([before / PACKS], random, random.randint(10, 120), random.choice([0, 0.05]))
    life = Life()
    with closing(IndexWriter(before, commit_seconds=1e-9)) as writer:
        log = Log(before, seal_size=SEAL_SIZE, disk=disk)
        life.live(before, log, random, disk, meanwhile=lambda: random.random() < 0.5 and writer.step())
        disk.dead = True
        log.close()
    disk.lay(before / PACKS, after / PACKS)
    shutil.copytree(before / INDEX, after / INDEX)
    check(after, life)
    with Follower(after) as follower:
        expected = {record.sop_instance: location for location, record in follower.poll(10_000)}
    with closing(IndexWriter(after)) as writer, closing(Index(after)) as index:
        for _ in range(2):  # from the tail, then from the index
            assert index.view().counts()[Level.IMAGE] == len(expected)
            for name, location in expected.items():
                entry = index.locate(name)
                assert entry is not None
                assert entry.location == location
            assert all(index.locate(name) is None for name in life.contents.keys() - expected.keys())
            while writer.step():
                pass
            writer.commit()
    return len(life.acknowledged)


def power_loss_with_mirror(seed: int, directory: Path) -> int:
    """The same with a mirror; afterwards one of the two disks may be gone for good."""
    random = Random(seed)
    main, mirror = directory / "main", directory / "mirror"
    for copy in (main, mirror):
        (copy / PACKS).mkdir(parents=True)
    disk = PowerLossDisk(
        [main / PACKS, mirror / PACKS],
        random,
        random.randint(2, random.choice([40, 120, 250])),
        random.choice([0, 0.03]),
    )
    life = Life()
    log = Log(main, seal_size=SEAL_SIZE, disk=disk, mirror=mirror, mirror_wait=MirrorWait.BOTH)
    with patch.object(Ahead, "mean", random.choice([Ahead.mean, 0.0])):
        life.live(main, log, random, disk)
    if random.random() < 0.7:
        disk.dead = True
    log.close()
    main, mirror, before = directory / "main-after", directory / "mirror-after", (main, mirror)
    disk.lay(before[0] / PACKS, main / PACKS)
    disk.lay(before[1] / PACKS, mirror / PACKS)
    gone = random.choice([None, None, main, mirror])
    if gone is not None:
        shutil.rmtree(gone / PACKS)
        (gone / PACKS).mkdir()
    for number in range(random.choice([0, 1, 2])):
        disk = PowerLossDisk([main / PACKS, mirror / PACKS], random, random.randint(1, 60))
        recover(main, disk, mirror=mirror)
        if random.random() < 0.5:
            catch_up(main, mirror, disk=disk)
        else:
            Scrub(main, mirror=mirror, repair=True, disk=disk).run()
        before = (main, mirror)
        main, mirror = directory / f"main-{number}", directory / f"mirror-{number}"
        disk.lay(before[0] / PACKS, main / PACKS)
        disk.lay(before[1] / PACKS, mirror / PACKS)
    recover(main, mirror=mirror)
    blobs = Blobs(main, mirror=mirror)
    for location, name in life.acknowledged.items():
        assert blobs.open(location).read() == life.contents[name]
    catch_up(main, mirror)
    report = Scrub(main, mirror=mirror, repair=True).run()
    assert not report.remaining and not report.not_healed, report
    for copy in (main, mirror):
        check(copy, life)
    assert list_packs(main) == list_packs(mirror)
    for pack in list_packs(main):
        # All but the header page, which tells who sealed it.
        assert pack_path(main, pack).read_bytes()[PAGE:] == pack_path(mirror, pack).read_bytes()[PAGE:]
    return len(life.acknowledged)


def check(directory: Path, life: Life) -> None:
    """Recover, and see that everything acknowledged is there and nothing half; that there is nothing left to do."""
    report = recover(directory)
    assert not report.unreadable, report
    assert not report.damaged, report
    blobs = Blobs(directory)
    for location, name in life.acknowledged.items():
        reader = blobs.open(location)
        assert reader.record.sop_instance == name
        assert reader.read() == life.contents[name]
    seen = set()
    with Follower(directory) as follower:
        for location, record in follower.poll(10_000):
            assert record.sop_instance not in seen
            seen.add(record.sop_instance)
            assert blobs.open(location).read() == life.contents[record.sop_instance]
        assert not follower.damaged
        assert not follower.unreadable
    assert seen >= set(life.acknowledged.values())
    blobs.close()
    _check_sealed(directory)
    assert not Scrub(directory).run().findings
    contents = {path: path.read_bytes() for path in (directory / PACKS).iterdir()}
    again = recover(directory)
    assert not again.sealed and not again.removed and not again.damaged
    assert contents == {path: path.read_bytes() for path in (directory / PACKS).iterdir()}
    assert not [path for path in contents if path.suffix == ".new"]


def _check_sealed(directory: Path) -> None:
    for pack in list_packs(directory):
        with pack_path(directory, pack).open("rb") as file:
            assert read_state(file.fileno()).seal is not None
