"""One seeded archive compacted while the power fails again and again, and everything that must hold after it."""

from __future__ import annotations

import shutil
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from random import Random

from fastarchive.dicom.attributes import Level
from fastarchive.index.current import Index
from fastarchive.store.blobs import Blobs
from fastarchive.store.disk import DISK, Disk
from fastarchive.store.encoding import EncodedRecord
from fastarchive.store.log import Log
from fastarchive.store.mirror import catch_up
from fastarchive.store.pack import PACKS, list_packs
from fastarchive.store.record import Location, deletion
from fastarchive.store.recovery import recover
from fastarchive.store.scrub import Scrub
from fastarchive.upkeep.compaction import Compaction, CompactionReport
from tests.store.making import encoded
from tests.store.power import PowerLossDisk

SEAL_SIZE = 24 << 10
SIZES = (1, 60, 700, 700, 4096, 9000)
START = 1_700_000_000_000_000_000


class AllRead(Index):
    """A reader without any index: the log tells it everything, so that nothing has to be waited for."""

    def has_committed(self, location: Location) -> bool:
        return True


class Stock:
    """Records of all kinds in several packs, and which instances there have to be."""

    def __init__(self, directory: Path, random: Random) -> None:
        self._records: dict[str, list[tuple[str, bytes]]] = {}
        """By SOP Instance UID: study and content of what was stored and not deleted, the earliest first."""
        self._random = random
        self._clock = START
        for _ in range(random.randint(2, 4)):
            self.act(directory, None, 25)

    def act(self, directory: Path, mirror: Path | None, most: int) -> None:
        """Store and delete at random, in packs that are sealed afterwards."""
        with Log(directory, seal_size=SEAL_SIZE, mirror=mirror) as log:
            for _ in range(self._random.randint(1, most)):
                self._act(log, self._random)

    def _act(self, log: Log, random: Random) -> None:
        what = random.random()
        self._clock += random.choice([0, 1])  # of the same moment the one that lies before is the earlier
        name = f"1.2.{random.randrange(60)}"
        study = f"1.{random.randrange(4)}"
        if what < 0.75:
            content = random.randbytes(random.choice(SIZES))
            records = self._records.setdefault(name, [])
            records.append(records[0] if records and random.random() < 0.5 else (study, content))
            self._store(log, name, *records[-1])
        elif what < 0.9:
            self._records.pop(name, None)
            for each in range(4):  # in whatever study it is
                log.append(EncodedRecord.of(deletion(self._clock, f"1.{each}", "1", name))).result(30)
        else:
            for records in self._records.values():
                records[:] = [each for each in records if each[0] != study]
            log.append(EncodedRecord.of(deletion(self._clock, study))).result(30)

    def _store(self, log: Log, name: str, study: str, content: bytes) -> None:
        item = encoded(0, content)
        record = replace(item.record, sop_instance=name, study=study, series="1", received=self._clock)
        log.append(EncodedRecord.of(record, item.buffers)).result(30)

    @property
    def alive(self) -> dict[str, tuple[str, bytes]]:
        """Study and content of the instances there are."""
        return {name: records[0] for name, records in self._records.items() if records}

    def check(self, directory: Path, mirror: Path | None = None) -> None:
        """See that these instances are found and readable, and no others. Raises AssertionError."""
        blobs = Blobs(directory, mirror=mirror)
        alive = self.alive
        with closing(AllRead(directory, mirror=mirror)) as index:
            found = {each.instance: each for each in index.view().tail_documents(Level.IMAGE)}
            assert found.keys() == alive.keys()
            for name, (study, content) in alive.items():
                assert found[name].study == study
                entry = index.locate(name)
                assert entry is not None
                assert entry.location == found[name].location
                assert blobs.open(entry.location).read() == content
        blobs.close()


def compact(directory: Path, mirror: Path | None, disk: Disk, random: Random) -> CompactionReport:
    """Compact as far as the disk lets it."""
    with closing(AllRead(directory, mirror=mirror)) as index:
        compaction = Compaction(
            directory,
            index,
            mirror=mirror,
            seal_size=SEAL_SIZE,
            dead=random.choice([0.01, 0.3, 0.6]),
            settled_seconds=0.0,
            index_seconds=0.0,
            disk=disk,
        )
        with suppress(OSError):
            compaction.run()
        return compaction.report


def compacted(directory: Path, seed: int) -> tuple[Path, Path, dict[Location, bytes]]:
    """A data directory and its mirror with packs that compaction made, and what is where in them."""
    random = Random(seed)
    main, mirror = directory / "main", directory / "mirror"
    mirror.mkdir(parents=True)
    stock = Stock(main, random)
    while len(stock.alive) < 20:
        stock.act(main, mirror, 25)
    catch_up(main, mirror)
    written = compact(main, mirror, DISK, random).written
    with closing(AllRead(main, mirror=mirror)) as index:
        found = {entry.location: stock.alive[name][1] for name in stock.alive if (entry := index.locate(name))}
    assert len(found) == len(stock.alive)
    assert written
    return main, mirror, found


def _moment(copies: list[Path], random: Random) -> int:
    """A moment of a compaction, tried on copies, to lose the power at: often where names change."""
    trial = copies[0].with_name("trial")
    places = [trial / str(number) for number in range(len(copies))]
    for copy, place in zip(copies, places, strict=True):
        shutil.copytree(copy / PACKS, place / PACKS)
    disk = PowerLossDisk([place / PACKS for place in places], random, 1 << 30)
    compact(places[0], places[1] if len(places) > 1 else None, disk, random)
    shutil.rmtree(trial)
    if disk.on_names and random.random() < 0.5:
        return random.choice(disk.on_names)
    return random.randint(1, max(disk.operations, 2))


def compaction_survives_power_loss(seed: int, directory: Path) -> int:
    """One archive, some power losses while it is compacted; how many. Raises AssertionError for a broken promise."""
    random = Random(seed)
    main = directory / "main"
    mirror = directory / "mirror" if random.random() < 0.5 else None
    stock = Stock(main, random)
    if mirror is not None:
        shutil.copytree(main / PACKS, mirror / PACKS)
    shutil.copytree(main / PACKS, directory / "old")
    stock.check(main)
    losses = 0
    for life in range(random.randint(1, 3)):
        copies = [main] if mirror is None else [main, mirror]
        roots = [copy / PACKS for copy in copies]
        disk = PowerLossDisk(roots, random, _moment(copies, random), random.choice([0, 0, 0.02]))
        compact(main, mirror, disk, random)
        if not disk.dead:
            stock.check(main, mirror)  # as others see it, while the power is on
        losses += disk.dead
        before, main = main, directory / f"main-{life}"
        disk.lay(before / PACKS, main / PACKS)
        if mirror is not None:
            before, mirror = mirror, directory / f"mirror-{life}"
            disk.lay(before / PACKS, mirror / PACKS)
        if random.random() < 0.3:
            stock.check(main, mirror)  # before recovery, too
        recover(main, mirror=mirror)
        assert not list((main / PACKS).glob("*.new"))
        stock.check(main, mirror)
        if mirror is not None:
            stock.check(mirror)  # the other disk may be gone for good
            if random.random() < 0.5:
                catch_up(main, mirror)
        if random.random() < 0.5:
            stock.act(main, mirror, 8)
    report = compact(main, mirror, DISK, random)
    assert report.complete
    assert not report.left, report.left
    stock.check(main, mirror)
    remaining = Scrub(main, mirror=mirror, repair=True, deep=True).run().remaining
    assert not remaining, remaining
    if mirror is not None:
        assert list_packs(mirror) == list_packs(main)
        stock.check(mirror)
    for path in (directory / "old").glob("*.pack"):  # a backup, or a disk that was away
        if random.random() < 0.5:
            shutil.copy(path, main / PACKS)
    stock.check(main)
    return losses
