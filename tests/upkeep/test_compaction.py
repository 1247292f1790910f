"""Compaction: what is dead goes, what is needed stays findable and readable, whoever holds on to an old place."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastarchive.archive import Archive
from fastarchive.dicom.attributes import Level
from fastarchive.store.blobs import DamagedInstance
from fastarchive.store.compacted import read_compacted
from fastarchive.store.damage import DamageList, Mark
from fastarchive.store.disk import Disk
from fastarchive.store.encoding import EncodedRecord
from fastarchive.store.filters import Buffer
from fastarchive.store.follow import Follower
from fastarchive.store.log import Log
from fastarchive.store.pack import PACKS, list_packs, pack_path
from fastarchive.store.record import RecordKind, deletion
from fastarchive.store.rewrite import UNSEEN
from fastarchive.store.scrub import Scrub
from fastarchive.upkeep import compaction
from fastarchive.upkeep.backup import Backup
from fastarchive.upkeep.compaction import Compaction, CompactionBusy, CompactionReport, compacting
from fastarchive.upkeep.deletion import delete, make_plan
from fastarchive.upkeep.manifest import BackupError
from fastarchive.upkeep.reindex import rebuild
from fastarchive.upkeep.restore import restore
from fastarchive.upkeep.selection import select
from tests.server.instances import sop_instance_uid
from tests.upkeep.filled import fill, holds, make, study_uid


def compact(archive: Archive, **options: object) -> CompactionReport:
    options = {"settled_seconds": 0.0, **options}
    return Compaction(archive.directory, archive.index, **options).run()  # type: ignore[arg-type]


def opened(data: Path, **options: Any) -> Archive:
    """An archive whose index follows at once: compaction waits for it."""
    return Archive.open(data, commit_seconds=0.02, **options)


def delete_study(data: Path, *numbers: int, mirror: Path | None = None) -> None:
    with Archive.open(data, read_only=True) as archive:
        view = archive.view()
        plan = make_plan(view, select(view, Level.STUDY, [study_uid(number) for number in numbers]))
    delete(data, plan, reason="test", mirror=mirror)


def records(data: Path) -> list[tuple[object, ...]]:
    with Follower(data) as follower:
        return [(record.kind, record.sop_instance, record.order(where)) for where, record in follower.poll(100_000)]


def test_what_is_deleted_gives_its_space_back(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(40))
    delete_study(data, 0, 2)
    before = records(data)
    packs = list_packs(data)
    size = sum(pack_path(data, pack).stat().st_size for pack in packs)
    with opened(data) as archive:
        report = compact(archive)
        assert report.complete
        assert not report.left
        assert report.removed == packs
        assert (report.moved_records, report.dead_records) == (22, 20)
        (written,) = list_packs(data)
        assert report.written == [written]
        assert report.freed_bytes == size - pack_path(data, written).stat().st_size > size * 0.4
        kept = [*range(10, 20), *range(30, 40)]
        holds(archive, kept)
        assert not compact(archive).removed  # nothing is left to do
    assert read_compacted(data).freed_bytes == report.freed_bytes
    after = records(data)
    assert set(after) <= set(before)
    assert {name for kind, name, _ in after if kind is RecordKind.INSTANCE} == set(map(sop_instance_uid, kept))
    assert sum(kind is RecordKind.DELETION for kind, _, _ in after) == 2
    rebuild(data)
    with opened(data) as archive:
        holds(archive, kept)
    report_of_scrub = Scrub(data, deep=True).run()
    assert report_of_scrub.complete
    assert not report_of_scrub.findings


def test_nothing_is_done_where_little_is_dead(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(40))
    delete_study(data, 1)
    with opened(data) as archive:
        assert not Compaction(data, archive.index, seal_size=1 << 16, least_small=3).plan().candidates
        plan = Compaction(data, archive.index, dead=0.2).plan()
        assert (len(plan.candidates), plan.dead_records) == (2, 10)


def test_small_packs_are_joined_and_a_series_lies_together(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for numbers in (range(0, 30, 3), range(1, 30, 3), range(2, 30, 3)):
        make(data, numbers)
    with opened(data) as archive:
        plan = Compaction(data, archive.index).plan()
        assert (plan.packs, len(plan.candidates), plan.dead_bytes) == (3, 3, 0)
        assert len(compact(archive).removed) == 3
        holds(archive, range(30))
    with Follower(data) as follower:
        series = [record.series for _, record in follower.poll(100)]
    assert series == sorted(series)


def test_what_was_stored_again_after_a_deletion_stays(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(10))
    delete_study(data, 0)
    make(data, range(5))
    with opened(data) as archive:
        holds(archive, range(5))
        report = compact(archive)
        assert report.dead_records == 10
        holds(archive, range(5))
    rebuild(data)
    with opened(data) as archive:
        holds(archive, range(5))


def test_a_pack_that_comes_back_changes_nothing(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(20))
    delete_study(data, 0)
    shutil.copytree(data / PACKS, tmp_path / "old")
    with opened(data) as archive:
        assert len(compact(archive).removed) == 2
    for pack in (tmp_path / "old").glob("*.pack"):
        shutil.copy(pack, data / PACKS)
    rebuild(data)
    with opened(data) as archive:
        holds(archive, range(10, 20))
        report = compact(archive)  # copies are dead space
        assert len(report.removed) == 3
        assert report.moved_records == 1 + 10
        holds(archive, range(10, 20))


def test_a_reader_with_an_old_place_finds_the_new_one(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(20))
    delete_study(data, 0)
    with opened(data) as archive, Archive.open(data, read_only=True) as other:
        name = sop_instance_uid(11)
        entry = other.index.locate(name)
        assert entry is not None
        document = other.view().get(Level.IMAGE, name)
        assert document is not None
        under_way = other.blobs.open(entry.location)
        compact(archive)
        assert not pack_path(data, entry.location.pack).exists()
        content = archive.read(name).read()
        assert under_way.read() == content
        other.blobs.let_go()
        assert other.blobs.open(entry.location, instance=name).read() == content
        assert other.blobs.open(entry.location).read() == content  # told by where it was first
        assert other.blobs.locate(entry.location.pack, entry.location.offset).pack == list_packs(data)[0]
        assert other.header_of(document.location) is not None
        gone = other.index.locate(sop_instance_uid(1))
        assert gone is None


def test_what_is_moved_twice_keeps_its_first_place(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(30))
    first = {name: order for _, name, order in records(data)}
    for study in (0, 1):
        delete_study(data, study)
        with opened(data) as archive:
            assert compact(archive, dead=0.1).removed
    with opened(data) as archive:
        holds(archive, range(20, 30))
        document = archive.view().get(Level.IMAGE, sop_instance_uid(25))
        assert document is not None
        assert document.order == first[document.instance]
        assert archive.index.moved(*document.order[1:]) == document.location


def test_the_second_of_two_equal_records_is_dead_and_a_different_one_is_not(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(10))
    with Follower(data) as follower, Archive.open(data, read_only=True) as archive:
        (where, record) = follower.poll(1)[0]
        stored = archive.blobs.open(where)
        blocks = [bytes(stored._block(0, stored._content_start()))]
    assert len(blocks) == 1
    raw = pack_path(data, where.pack).read_bytes()[where.offset : where.end]
    size = sum(block.stored for block in record.blocks)
    same = replace(record, received=record.received + 1)
    different = replace(record, received=record.received + 2, digest=bytes(32))
    with Log(data) as log:
        for each in (same, different):
            log.append(EncodedRecord.of(each, [raw[len(raw) - size :]])).result(10)
    with opened(data) as archive:
        assert compact(archive, settled_seconds=3600.0).dead_records == 0
        report = compact(archive, dead=0.01)
        assert report.dead_records == 1
        holds(archive, range(10))
    assert sum(name == record.sop_instance for _, name, _ in records(data)) == 2


@pytest.mark.parametrize("wait", ["both", "one"])
def test_the_mirror_has_the_same_packs(tmp_path: Path, wait: str) -> None:
    data, mirror = tmp_path / "data", tmp_path / "mirror"
    mirror.mkdir()
    with opened(data, mirror=mirror, mirror_wait=wait) as archive:
        fill(archive, range(20))
    delete_study(data, 0, mirror=mirror)
    with opened(data, mirror=mirror, mirror_wait=wait) as archive:
        report = compact(archive, mirror=mirror)
        assert len(report.removed) == 2
        holds(archive, range(10, 20))
    assert list_packs(data) == list_packs(mirror) == report.written
    assert not Scrub(data, mirror=mirror, deep=True).run().findings


def test_without_its_mirror_nothing_is_removed(tmp_path: Path) -> None:
    data, mirror = tmp_path / "data", tmp_path / "mirror"
    mirror.mkdir()
    with opened(data, mirror=mirror) as archive:
        fill(archive, range(20))
    delete_study(data, 0, mirror=mirror)
    packs = list_packs(data)
    mirror.rename(tmp_path / "away")
    with opened(data) as archive:
        with pytest.raises(OSError, match="No such file"):
            compact(archive, mirror=mirror)
        assert list_packs(data) == packs
        holds(archive, range(10, 20))


def test_damage_in_a_pack_keeps_it_from_being_compacted_unless_the_mirror_helps(tmp_path: Path) -> None:
    data, mirror = tmp_path / "data", tmp_path / "mirror"
    mirror.mkdir()
    with opened(data, mirror=mirror) as archive:
        fill(archive, range(20))
        where = archive.read(sop_instance_uid(15)).location
    delete_study(data, 0, mirror=mirror)
    for offset in (where.offset + 60, where.end - 5):  # metadata, content
        path = pack_path(data, where.pack)
        whole = path.read_bytes()
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
        shutil.copytree(data, tmp_path / f"alone-{offset}")
        with opened(tmp_path / f"alone-{offset}") as archive:
            report = compact(archive)
            assert where.pack not in report.removed
            if offset < where.end - 100:
                assert where.pack in Compaction(archive.directory, archive.index).plan().unreadable
            else:
                assert "damaged" in report.left[where.pack]
            assert not list((archive.directory / PACKS).glob("*.new"))
        path.write_bytes(whole)
    path.write_bytes(whole[: where.end - 5] + bytes([whole[where.end - 5] ^ 1]) + whole[where.end - 4 :])
    DamageList(data).add(Mark(where.pack, where.offset, sop_instance_uid(15), "test"))
    with opened(data, mirror=mirror) as archive:
        assert where.pack in compact(archive, mirror=mirror).removed
        holds(archive, range(10, 20))
        assert not archive.damage.marks()
    assert not Scrub(data, mirror=mirror, deep=True).run().findings


def test_a_full_disk_is_made_room_on_by_removing_what_is_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(tmp_path / "data", range(10))
    make(data, range(10, 30))
    delete_study(data, 0, 1)
    monkeypatch.setattr(compaction.Compaction, "_free", lambda *_: compaction.LEFT_FREE)
    with opened(data) as archive:
        report = compact(archive)
        assert len(report.removed) == 1
        assert not report.written
        assert list(report.left.values()).count("there is no room for a copy of what it keeps") == 2
        holds(archive, range(20, 30))


def test_only_one_compacts_and_it_can_be_stopped(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(20))
    delete_study(data, 0)
    packs = list_packs(data)
    with opened(data) as archive:
        with compacting(data), pytest.raises(CompactionBusy):
            compact(archive)
        stop = threading.Event()
        report = compact(archive, stop=stop, progress=lambda _: stop.set())
        assert not report.complete
        assert list_packs(data) == packs
        assert not list((data / PACKS).glob("*.new"))
        assert compact(archive).complete
        holds(archive, range(10, 20))


def test_without_an_index_that_follows_the_old_packs_stay_until_the_next_run(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(20))
    delete_study(data, 0)
    packs = list_packs(data)
    with opened(data, write_index=False) as archive:
        report = compact(archive, index_seconds=0.0)
        assert not report.removed
        assert "index" in report.left[packs[0]]
        assert list_packs(data) == [*packs, *report.written]
        holds(archive, range(10, 20))
    with opened(data) as archive:
        assert set(packs) <= set(compact(archive).removed)
        holds(archive, range(10, 20))
    assert sum(kind is RecordKind.DELETION for kind, _, _ in records(data)) == 1  # found twice meanwhile


@pytest.mark.parametrize("broken", ["read-back", "written"])
def test_what_is_written_wrong_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    data = make(tmp_path / "data", range(20))
    delete_study(data, 0)
    packs = list_packs(data)

    class Forgetful(Disk):
        def forget(self, fd: int) -> None:
            if broken == "read-back" and Path(f"/proc/self/fd/{fd}").readlink().name == UNSEEN:
                os.pwrite(fd, b"\xff", 5000)

        def write_some(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
            if broken == "written" and offset > 4096:
                raise OSError(5, os.strerror(5))
            return super().write_some(fd, buffers, offset)

    with opened(data) as archive:
        if broken == "written":
            with pytest.raises(OSError, match="Input/output"):
                compact(archive, disk=Forgetful())
        else:
            assert packs[0] in compact(archive, disk=Forgetful()).left
        assert list_packs(data) == packs
        assert not list((data / PACKS).glob("*.new"))
        holds(archive, range(10, 20))


def test_deletions_outlive_what_they_deleted(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(20))
    delete_study(data, 0, 1)
    with opened(data) as archive:
        compact(archive)
        assert archive.view().counts()[Level.IMAGE] == 0
        with pytest.raises(KeyError):
            archive.read(sop_instance_uid(3))
    kinds = [kind for kind, _, _ in records(data)]
    assert kinds == [RecordKind.DELETION] * 2
    assert deletion(1, "1").origin is None


def test_a_record_of_another_data_set_is_not_sent_for_the_one_that_was_asked_for(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(20))
    with Archive.open(data, read_only=True) as other:
        entry = other.index.locate(sop_instance_uid(3))
        assert entry is not None
        delete_study(data, 0)
        with opened(data) as archive:
            compact(archive, dead=0.1)
        with pytest.raises(DamagedInstance):
            other.blobs.open(entry.location, instance=sop_instance_uid(3))


@pytest.mark.parametrize("prune", [True, False])
def test_a_backup_goes_on_after_all_packs_were_compacted(tmp_path: Path, prune: bool) -> None:
    data, target = make(tmp_path / "data", range(20)), tmp_path / "backup"
    assert Backup(data, target).run().complete
    delete_study(data, 0)
    with opened(data) as archive:
        old = compact(archive).removed
    report = Backup(data, target, prune=prune).run()
    assert report.complete
    assert (report.copied, report.pruned if prune else report.gone) == (1, old[:1])
    assert not restore(target, tmp_path / "new").missing
    with opened(tmp_path / "new") as archive:
        holds(archive, range(10, 20))  # the deletion is in the new pack
    with pytest.raises(BackupError, match="another archive"):
        Backup(make(tmp_path / "other", range(3)), target).run()


def test_packs_may_go_while_they_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(tmp_path / "data", range(20))
    make(data, range(20, 30))
    delete_study(data, 0)
    scrub = Scrub(data, repair=True)
    verify = Scrub._verify
    compacted: list[int] = []

    def compact_first(self: Scrub, pack: int) -> object:
        if not compacted:
            with opened(data) as archive:
                compacted.extend(compact(archive).removed)
        return verify(self, pack)

    monkeypatch.setattr(Scrub, "_verify", compact_first)
    report = scrub.run()
    assert len(compacted) == 3
    assert report.complete
    assert not report.findings


def test_the_status_tells_what_is_used_and_not_what_is_reserved(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with opened(data) as archive:
        fill(archive, range(5))
        used = archive.status()["pack_bytes"]
        (pack,) = list_packs(data)
        assert used < 1 << 20 < pack_path(data, pack).stat().st_size
    with opened(data) as archive:
        assert used < archive.status()["pack_bytes"] < used + 200  # and the table of records
