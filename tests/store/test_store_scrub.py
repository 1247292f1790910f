"""Scrub: what is damaged is found and named, and healed where there is something to heal from."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from random import Random

import pytest

from fastarchive.store.blobs import Blobs, DamagedInstance
from fastarchive.store.damage import DamageList
from fastarchive.store.log import Log
from fastarchive.store.pack import PAGE, list_packs, pack_path
from fastarchive.store.record import Location
from fastarchive.store.scrub import Scrub
from fastarchive.store.verify import Part
from tests.store.bit_flips import fill, flips_are_found_and_healed, repair_survives_power_loss
from tests.store.making import encoded


@pytest.mark.parametrize("seed", range(3))
def test_flipped_bits_are_found_and_healed(seed: int, memory: Path) -> None:
    flips_are_found_and_healed(memory, 20, seed)


@pytest.mark.parametrize("seed", range(25))
def test_repair_may_be_cut_short_anywhere(seed: int, memory: Path) -> None:
    repair_survives_power_loss(memory, seed)


def _damage(directory: Path, location: Location, at: int) -> None:
    with pack_path(directory, location.pack).open("r+b") as file:
        file.seek(location.offset + at)
        byte = file.read(1)[0]
        file.seek(location.offset + at)
        file.write(bytes([byte ^ 0x20]))


def test_a_well_archive_is_well(tmp_path: Path) -> None:
    stored = fill(tmp_path, 20, Random(1))
    for deep in (False, True):
        report = Scrub(tmp_path, deep=deep).run()
        assert report.complete
        assert not report.findings
        assert report.records == len(stored)
        assert report.packs == len(list_packs(tmp_path))


def test_an_open_pack_is_verified_as_far_as_it_is_durable(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        locations = [log.append(encoded(number)).result(30) for number in range(5)]
        assert not Scrub(tmp_path).run().findings
        _damage(tmp_path, locations[2], locations[2].size - 1)
        report = Scrub(tmp_path, repair=True).run()
        assert [finding.sop_instance for finding in report.findings] == ["1.2.3.2"]
        assert list(report.not_healed) == [locations[0].pack]  # its owner lives
        locations.append(log.append(encoded(7)).result(30))
    assert [finding.offset for finding in Scrub(tmp_path).run().findings] == [locations[2].offset]


def test_damage_is_named_and_marked_until_it_is_healed(tmp_path: Path) -> None:
    stored = list(fill(tmp_path, 10, Random(2)))
    whole = pack_path(tmp_path, stored[3].pack).read_bytes()
    _damage(tmp_path, stored[3], stored[3].size - 1)
    damage = DamageList(tmp_path)
    assert not damage.is_damaged("1.2.3.3")
    report = Scrub(tmp_path, repair=True).run()
    assert [(finding.part, finding.sop_instance) for finding in report.remaining] == [(Part.CONTENT, "1.2.3.3")]
    assert damage.is_damaged("1.2.3.3")
    assert not damage.is_damaged("1.2.3.4")
    assert [mark.sop_instance for mark in damage.marks()] == ["1.2.3.3"]
    pack_path(tmp_path, stored[3].pack).write_bytes(whole)
    assert not Scrub(tmp_path).run().findings
    assert not damage.is_damaged("1.2.3.3")
    _damage(tmp_path, stored[3], stored[3].size - 1)
    Scrub(tmp_path).run()
    assert damage.is_damaged("1.2.3.3")
    pack_path(tmp_path, stored[3].pack).unlink()
    Scrub(tmp_path).run()
    assert not damage.marks()


def test_damaged_metadata_hides_only_its_own_record(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        locations = [log.append(encoded(number, b"x" * 100)).result(30) for number in range(5)]
    _damage(tmp_path, locations[1], 1)  # the magic number
    _damage(tmp_path, locations[3], 40)  # the time it was received
    report = Scrub(tmp_path).run()
    assert [(finding.part, finding.offset, finding.size) for finding in report.findings] == [
        (Part.METADATA, locations[number].offset, locations[number].size) for number in (1, 3)
    ]
    assert report.findings[1].sop_instance == "1.2.3.3"
    assert report.records == 3


def test_reading_marks_what_it_finds_damaged(tmp_path: Path) -> None:
    stored = list(fill(tmp_path, 3, Random(3)))
    _damage(tmp_path, stored[1], stored[1].size - 1)
    damage = DamageList(tmp_path)
    with pytest.raises(DamagedInstance):
        Blobs(tmp_path, damage=damage).open(stored[1]).read()
    assert damage.is_damaged("1.2.3.1")


@pytest.mark.parametrize("offset", [0, 9, 24, 512, 520, 600, 1030, 2000, -1, -20])
def test_header_page_and_table_are_healed_without_a_mirror(offset: int, tmp_path: Path) -> None:
    stored = fill(tmp_path, 5, Random(4))
    pack = list_packs(tmp_path)[0]
    path = pack_path(tmp_path, pack)
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    assert Scrub(tmp_path).run().remaining
    report = Scrub(tmp_path, repair=True).run()
    assert not report.remaining
    assert not Scrub(tmp_path, deep=True).run().findings
    for location, content in stored.items():
        assert Blobs(tmp_path).open(location).read() == content


def test_a_pack_cut_short_or_gone_is_made_anew_from_the_mirror(tmp_path: Path) -> None:
    import shutil

    main, mirror = tmp_path / "main", tmp_path / "mirror"
    stored = fill(main, 30, Random(5))
    shutil.copytree(main / "packs", mirror / "packs")
    packs = list_packs(main)
    assert len(packs) >= 3
    os.truncate(pack_path(main, packs[0]), PAGE + 100)
    pack_path(main, packs[1]).unlink()
    pack_path(mirror, packs[2]).unlink()
    for location, content in stored.items():
        assert Blobs(main, mirror=mirror).open(location).read() == content
    assert not Scrub(main, mirror=mirror, repair=True).run().remaining
    for location, content in stored.items():
        for directory in (main, mirror):
            assert Blobs(directory).open(location).read() == content


def test_damage_in_both_copies_at_different_records_is_healed_from_both(tmp_path: Path) -> None:
    import shutil

    main, mirror = tmp_path / "main", tmp_path / "mirror"
    stored = list(fill(main, 10, Random(6)))
    shutil.copytree(main / "packs", mirror / "packs")
    first = [location for location in stored if location.pack == stored[0].pack]
    _damage(main, first[0], 5)
    _damage(mirror, first[1], first[1].size - 2)
    report = Scrub(main, mirror=mirror, repair=True).run()
    assert len(report.healed) == 2
    assert not report.remaining
    _damage(main, first[0], first[0].size - 1)
    _damage(mirror, first[0], first[0].size - 1)
    report = Scrub(main, mirror=mirror, repair=True).run()
    assert [mark.offset for mark in report.lost] == [first[0].offset]
    assert not report.healed


def test_a_stopped_scrub_goes_on_where_it_was(tmp_path: Path) -> None:
    fill(tmp_path, 40, Random(7))
    packs = len(list_packs(tmp_path))
    stop = threading.Event()
    seen: list[int] = []

    def progress(count: int) -> None:
        seen.append(count)
        if len(seen) == 2:
            stop.set()

    first = Scrub(tmp_path, stop=stop, progress=progress).run()
    assert not first.complete
    assert 0 < first.packs < packs
    second = Scrub(tmp_path).run(resume=True)
    assert second.complete
    assert first.packs + second.packs == packs
    assert Scrub(tmp_path).run(resume=True).packs == packs  # the next pass begins anew


def test_the_rate_is_kept(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.append(encoded(0, os.urandom(1 << 20))).result(30)
        log.append(encoded(0, os.urandom(1 << 20))).result(30)
    started = time.monotonic()
    report = Scrub(tmp_path, rate=10e6).run()
    assert report.bytes > 2e6
    assert 0.2 <= time.monotonic() - started < 10
