"""Taking a small data set in without waiting for anything: done in a moment, or not begun at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from fastarchive.admission import ConflictPolicies, Outcome, Policy, Receipt
from fastarchive.archive import Archive
from fastarchive.store import follow
from fastarchive.store.encoding import EncodedRecord
from fastarchive.store.intake import Intake, IntakeError
from fastarchive.store.log import Log
from fastarchive.store.record import Location
from fastarchive.store.writers import LogBroken
from tests.conflicting import EXPLICIT, UID, named, records, store
from tests.server.instances import small_instance, sop_instance_uid
from tests.store.lines import needs_library


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive.open(tmp_path / "archive", write_index=False) as opened:
        yield opened


def intake_of(archive: Archive, data: bytes) -> Intake:
    intake = archive.receive(transfer_syntax=EXPLICIT, calling_ae="CT1")
    intake.write(data)
    return intake


def promptly(archive: Archive, data: bytes) -> Future[Receipt] | None:
    return archive.submit_promptly(intake_of(archive, data))


def outcome(archive: Archive, data: bytes) -> Outcome:
    future = promptly(archive, data)
    assert future is not None
    return future.result(30).outcome


def test_S1_what_was_taken_in_promptly_is_durable_and_the_same_bytes(archive: Archive) -> None:
    for number in range(5):
        assert outcome(archive, small_instance(number)) is Outcome.STORED
    for number in range(5):
        assert archive.read(sop_instance_uid(number)).read() == small_instance(number)


def test_S3_the_same_data_set_again_is_a_success_and_stored_once(archive: Archive) -> None:
    store(archive, small_instance(1))
    before = records(archive)
    assert outcome(archive, small_instance(1)) is Outcome.ALREADY_PRESENT
    assert records(archive) == before


@pytest.mark.parametrize("policy", list(Policy))
def test_S3_another_data_set_under_a_known_uid_is_not_for_a_moment(tmp_path: Path, policy: Policy) -> None:
    with Archive.open(tmp_path, conflicts=ConflictPolicies(policy)) as archive:
        store(archive, small_instance(1))
        intake = intake_of(archive, named("OTHER^NAME"))
        before = records(archive)
        assert archive.submit_promptly(intake) is None
        assert records(archive) == before
        settled = archive.submit(intake).result(30)  # which looks at the same intake again
        assert settled.outcome is not Outcome.ALREADY_PRESENT
        stored = named("OTHER^NAME") if policy is Policy.REPLACE else small_instance(1)
        assert archive.read(UID).read() == stored


def test_S7_an_instance_that_is_just_being_stored_is_waited_for_by_others(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended: Future[Location] = Future()

    def append(log: Log, encoded: EncodedRecord) -> Future[Location]:
        return appended

    with monkeypatch.context() as patch:
        patch.setattr(Log, "append", append)
        first = promptly(archive, small_instance(1))
    assert first is not None
    second = intake_of(archive, small_instance(1))
    assert archive.submit_promptly(second) is None
    followed = archive.submit(second)
    appended.set_exception(LogBroken("the disk is gone"))
    for future in (first, followed):
        with pytest.raises(LogBroken):
            future.result(30)
    assert outcome(archive, small_instance(1)) is Outcome.STORED  # nothing of the failure is left


def test_an_index_that_another_thread_has_is_not_waited_for(archive: Archive) -> None:
    taken, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with archive.index._lock:
            taken.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(30)
    intake = intake_of(archive, small_instance(1))
    assert archive.submit_promptly(intake) is None
    leave.set()
    thread.join(30)
    assert archive.submit(intake).result(30).outcome is Outcome.STORED


def test_a_log_of_which_much_is_to_be_read_is_left_to_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "scout", lambda folder, noted: None)
    with (
        Archive.open(tmp_path, write_index=False) as one,
        Archive.open(tmp_path, write_index=False, recover_packs=False) as other,
    ):
        for number in range(101):
            assert store(one, small_instance(number)).outcome is Outcome.STORED
        assert promptly(other, small_instance(101)) is None
        assert outcome(other, small_instance(7)) is Outcome.ALREADY_PRESENT  # a step further each time


@needs_library
def test_a_uid_that_nothing_of_the_log_is_of_needs_none_of_it_read(tmp_path: Path) -> None:
    with (
        Archive.open(tmp_path, write_index=False) as one,
        Archive.open(tmp_path, write_index=False, recover_packs=False) as other,
    ):
        for number in range(101):
            assert store(one, small_instance(number)).outcome is Outcome.STORED
        assert outcome(other, small_instance(101)) is Outcome.STORED  # however new the pack is
        assert promptly(other, small_instance(7)) is None  # of which there is much to be read
        assert outcome(other, small_instance(7)) is Outcome.ALREADY_PRESENT


def test_a_new_commit_of_the_index_is_left_to_a_thread(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "archive") as indexed:
        store(indexed, small_instance(1))
    with Archive.open(tmp_path / "archive", write_index=False) as archive:
        intake = intake_of(archive, small_instance(2))
        assert archive.submit_promptly(intake) is None
        assert archive.submit(intake).result(30).outcome is Outcome.STORED
        assert outcome(archive, small_instance(3)) is Outcome.STORED


def test_other_patients_are_not_looked_for_in_a_moment(tmp_path: Path) -> None:
    with Archive.open(tmp_path, conflicts=ConflictPolicies(quarantine_other_patients=True)) as archive:
        assert promptly(archive, small_instance(1)) is None


def test_S2_a_data_set_that_is_refused_leaves_nothing_behind(archive: Archive) -> None:
    with pytest.raises(IntakeError):
        promptly(archive, b"\x08\x00\x18\x00UI\x04\x001.2")
    assert outcome(archive, small_instance(1)) is Outcome.STORED


def test_an_append_that_fails_at_once_leaves_nothing_behind(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(log: Log, encoded: EncodedRecord) -> Future[Location]:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Log, "append", fail)
        with pytest.raises(MemoryError):
            promptly(archive, small_instance(1))
    assert outcome(archive, small_instance(1)) is Outcome.STORED
