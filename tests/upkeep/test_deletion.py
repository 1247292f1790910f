"""Deletion: gone from the next query on, in every process and from every index; stored again when it is sent again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from fastarchive.archive import Archive, NoSuchInstance, Outcome
from fastarchive.dicom.attributes import Level
from fastarchive.dicom.data_sets import walk
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE
from fastarchive.store.follow import Follower
from fastarchive.store.record import RecordKind
from fastarchive.upkeep import deletion, holds
from fastarchive.upkeep.backup import Backup
from fastarchive.upkeep.deletion import ClockBehind, OnHold, Plan, make_plan
from fastarchive.upkeep.reindex import rebuild
from fastarchive.upkeep.restore import restore
from fastarchive.upkeep.selection import select
from tests.server.harness import RunningArchive, eventually
from tests.server.instances import small_instance, sop_instance_uid
from tests.upkeep.filled import EXPLICIT_LITTLE as EXPLICIT_LITTLE_UID
from tests.upkeep.filled import fill, make, series_uid, study_uid
from tests.upkeep.filled import holds as archive_holds

NUMBERS = set(range(30))


def plan_of(data: Path, level: Level, *names: str) -> Plan:
    with Archive.open(data, read_only=True) as archive:
        view = archive.view()
        return make_plan(view, select(view, level, names))


def delete(data: Path, level: Level, *names: str, mirror: Path | None = None) -> int:
    return deletion.delete(data, plan_of(data, level, *names), reason="a test", operator="tester", mirror=mirror)


def check(data: Path, numbers: Iterable[int]) -> None:
    """The same answers from the index there is with its tail, from the tail alone, and from indexes made anew."""
    wanted = set(numbers)
    with Archive.open(data, read_only=True) as archive:
        archive_holds(archive, wanted)
        keywords = ["StudyInstanceUID", "NumberOfStudyRelatedInstances"]
        counts = {row[keywords[0]]: int(row[keywords[1]]) for row in archive.find("STUDY", {}, keywords)}
        assert counts == Counter(study_uid(number // 10) for number in wanted)
        assert len(list(archive.find("PATIENT"))) == len(list(archive.find("SERIES"))) == len(counts)
        for number in NUMBERS - wanted:
            with pytest.raises(NoSuchInstance):
                archive.read(sop_instance_uid(number))


def check_everywhere(data: Path, numbers: Iterable[int]) -> None:
    check(data, numbers)
    (data / "index").rename(data / "index.aside")
    check(data, numbers)  # all of it is tail
    (data / "index.aside").rename(data / "index")
    rebuild(data)
    check(data, numbers)


@pytest.fixture(params=["indexed", "tail"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Thirty instances in three studies, in the index or only in the tail of the log."""
    if request.param == "indexed":
        return make(tmp_path / "data", range(30))
    with Archive.open(tmp_path / "data", write_index=False) as archive:
        fill(archive, range(30))
    (tmp_path / "data" / "index").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("level", "names", "left"),
    [
        (Level.IMAGE, [sop_instance_uid(3), sop_instance_uid(17)], NUMBERS - {3, 17}),
        (Level.SERIES, [series_uid(1)], NUMBERS - set(range(10, 20))),
        (Level.STUDY, [study_uid(0), study_uid(2)], range(10, 20)),
        (Level.PATIENT, ["P1"], NUMBERS - set(range(10, 20))),
    ],
)
def test_deleted_is_gone_at_every_level(data: Path, level: Level, names: list[str], left: Iterable[int]) -> None:
    with Archive.open(data, read_only=True) as archive:
        archive_holds(archive, NUMBERS)
        assert delete(data, level, *names) == len(names)
        archive_holds(archive, left)  # a reader that was there before
    check_everywhere(data, left)


def test_the_plan_says_what_goes(data: Path) -> None:
    plan = plan_of(data, Level.IMAGE, sop_instance_uid(3), sop_instance_uid(4), sop_instance_uid(14), "1.2.3")
    assert (len(plan.studies), plan.series, plan.instances) == (2, 2, 3)
    with Archive.open(data, read_only=True) as archive:
        assert plan.bytes == sum(archive.read(sop_instance_uid(number)).location.size for number in (3, 4, 14))
    assert plan.missing == ("1.2.3",)
    assert plan.studies[study_uid(0)].patient == "P0"
    check(data, NUMBERS)


def test_sent_again_it_is_stored_again_and_may_be_deleted_again(data: Path) -> None:
    for _ in range(2):
        delete(data, Level.STUDY, study_uid(1))
        check(data, NUMBERS - set(range(10, 20)))
        with Archive.open(data) as archive:
            receipt = archive.store(small_instance(12), transfer_syntax=EXPLICIT_LITTLE_UID)
            assert receipt.outcome is Outcome.STORED
            again = archive.store(small_instance(12), transfer_syntax=EXPLICIT_LITTLE_UID)
            assert again.outcome is Outcome.ALREADY_PRESENT
        check_everywhere(data, NUMBERS - set(range(10, 20)) | {12})


def test_the_record_keeps_why_and_who(data: Path) -> None:
    delete(data, Level.STUDY, study_uid(1))
    with Follower(data) as follower:
        (record,) = (record for _, record in follower.poll(100) if record.kind is RecordKind.DELETION)
    values = {element.tag: element.value for element in walk(record.attributes, EXPLICIT_LITTLE)}
    assert values[deletion.TEXT_VALUE].strip() == b"a test"
    assert values[deletion.OPERATORS_NAME].strip() == b"tester"
    with pytest.raises(ValueError, match="reason"):
        deletion.delete(data, plan_of(data, Level.STUDY, study_uid(0)), reason=" ")


def test_a_hold_outranks_a_deletion(data: Path) -> None:
    assert [hold.study for hold in holds.add(data, [study_uid(1), study_uid(1)], "case 17")] == [study_uid(1)]
    assert holds.add(data, [study_uid(1)], "again") == []
    assert holds.read(data)[study_uid(1)].reason == "case 17"
    for level, name in (
        (Level.PATIENT, "P1"),
        (Level.STUDY, study_uid(1)),
        (Level.SERIES, series_uid(1)),
        (Level.IMAGE, sop_instance_uid(11)),
    ):
        with pytest.raises(OnHold):
            delete(data, level, name, study_uid(0), sop_instance_uid(3))
    check(data, NUMBERS)
    assert len(holds.remove(data, [study_uid(1), study_uid(2)])) == 1
    delete(data, Level.PATIENT, "P1")
    check(data, NUMBERS - set(range(10, 20)))


def test_holds_that_cannot_be_read_stop_every_deletion(data: Path) -> None:
    (data / "holds.json").write_text("{")
    with pytest.raises(holds.HoldsUnreadable):
        delete(data, Level.STUDY, study_uid(1))
    check(data, NUMBERS)


def test_a_clock_set_back_is_noticed(data: Path) -> None:
    plan = plan_of(data, Level.STUDY, study_uid(1))
    plan.newest = time.time_ns() + 3_600_000_000_000
    with pytest.raises(ClockBehind):
        deletion.delete(data, plan, reason="a test")
    plan.newest = time.time_ns() + 20_000_000
    deletion.delete(data, plan, reason="a test")
    check(data, NUMBERS - set(range(10, 20)))


def test_a_mirror_and_a_backup_have_the_deletion_and_the_holds(tmp_path: Path) -> None:
    data, mirror = tmp_path / "data", tmp_path / "mirror"
    mirror.mkdir()
    with Archive.open(data, mirror=mirror) as archive:
        fill(archive, range(30))
        delete(data, Level.STUDY, study_uid(1), mirror=mirror)
        holds.add(data, [study_uid(2)], "case 17")
        Backup(data, tmp_path / "backup").run()
    check(mirror, NUMBERS - set(range(10, 20)))
    restore(tmp_path / "backup", tmp_path / "new")
    rebuild(tmp_path / "new")
    check(tmp_path / "new", NUMBERS - set(range(10, 20)))
    assert list(holds.read(tmp_path / "new")) == [study_uid(2)]


def test_while_the_archive_runs(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(30))
    with RunningArchive(data, workers=1) as running:

        def instances() -> int:
            return int(running.status()["archive"]["instances"])

        assert instances() == 30
        delete(data, Level.STUDY, study_uid(1))
        assert instances() == 20
        with Archive.open(data, read_only=True) as archive:
            eventually("the deletion is in the index", lambda: archive.view().tail_length == 0)
            archive_holds(archive, NUMBERS - set(range(10, 20)))
