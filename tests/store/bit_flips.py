"""Bits flipped at random places of packs, found by a scrub and healed from the mirror."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

from fastarchive.store.blobs import Blobs
from fastarchive.store.log import Log
from fastarchive.store.pack import PACKS, list_packs, pack_path
from fastarchive.store.record import Location
from fastarchive.store.recovery import recover
from fastarchive.store.scrub import Scrub
from tests.store.making import encoded
from tests.store.power import PowerLossDisk

SEAL_SIZE = 64 << 10


def fill(directory: Path, count: int, random: Random) -> dict[Location, bytes]:
    """Store `count` records of all sizes in sealed packs."""
    stored = {}
    with Log(directory, seal_size=SEAL_SIZE) as log:
        for number in range(count):
            content = random.randbytes(random.choice([1, 50, 700, 9000, 30_000]))
            stored[log.append(encoded(number, content)).result(30)] = content
    return stored


def flip(path: Path, random: Random) -> int:
    """Flip one bit somewhere in the file; the offset of its byte."""
    data = bytearray(path.read_bytes())
    # The header page is small: it gets its share all the same.
    offset = random.randrange(4096 if random.random() < 0.15 else len(data))
    data[offset] ^= 1 << random.randrange(8)
    path.write_bytes(data)
    return offset


def flips_are_found_and_healed(directory: Path, flips: int, seed: int) -> None:
    """Flip `flips` bits one after the other: each found, named and healed. Raises AssertionError for one that isn't."""
    random = Random(seed)
    main, mirror = directory / "main", directory / "mirror"
    stored = fill(main, 30, random)
    shutil.copytree(main / PACKS, mirror / PACKS)
    flip_and_heal(main, mirror, stored, flips, random)


def flip_and_heal(main: Path, mirror: Path, stored: dict[Location, bytes], flips: int, random: Random) -> None:
    """The same with the packs there are, which have at least `stored` in them."""
    packs = list_packs(main)
    whole = {pack: pack_path(main, pack).read_bytes() for pack in packs}
    blobs = Blobs(main, mirror=mirror)
    for _ in range(flips):
        pack = random.choice(packs)
        copy = random.choice([main, mirror])
        path = pack_path(copy, pack)
        offset = flip(path, random)
        report = Scrub(main, mirror=mirror).run()
        assert report.complete
        assert report.findings, (pack, offset)
        assert all(finding.pack == pack and finding.mirror == (copy == mirror) for finding in report.findings)
        assert any(finding.offset <= offset < finding.offset + finding.size for finding in report.findings), report
        assert not report.lost
        for location, content in stored.items():
            if location.pack == pack:
                assert blobs.open(location).read() == content
        healed = Scrub(main, mirror=mirror, repair=True).run()
        assert healed.healed == [path]
        assert not healed.remaining
        assert whole[pack] == pack_path(main, pack).read_bytes() == pack_path(mirror, pack).read_bytes()
    assert not Scrub(main, mirror=mirror, deep=True).run().findings


def repair_survives_power_loss(directory: Path, seed: int) -> None:
    """Damage both copies, lose power again and again while healing: in the end all is whole. Raises AssertionError."""
    random = Random(seed)
    main, mirror = directory / "main", directory / "mirror"
    stored = fill(main, 20, random)
    shutil.copytree(main / PACKS, mirror / PACKS)
    for pack in list_packs(main):
        flip(pack_path(random.choice([main, mirror]), pack), random)
    for life in range(random.randint(1, 4)):
        disk = PowerLossDisk([main / PACKS, mirror / PACKS], random, random.randint(1, 40))
        Scrub(main, mirror=mirror, repair=True, disk=disk).run()
        before, main, mirror = (main, mirror), directory / f"main-{life}", directory / f"mirror-{life}"
        disk.lay(before[0] / PACKS, main / PACKS)
        disk.lay(before[1] / PACKS, mirror / PACKS)
        if random.random() < 0.5:
            recover(main, mirror=mirror)
        blobs = Blobs(main, mirror=mirror)
        for location, content in stored.items():
            assert blobs.open(location).read() == content
    recover(main, mirror=mirror)
    assert not Scrub(main, mirror=mirror, repair=True).run().remaining
    for location, content in stored.items():
        for copy in (main, mirror):
            assert Blobs(copy).open(location).read() == content
    assert not list((main / PACKS).glob("*.new"))
