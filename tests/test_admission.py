"""Who may take a SOP Instance UID that is taken: nobody twice, and another data set only where a policy says so."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path

import pytest

from fastarchive.admission import ConflictPolicies, Outcome, Policy
from fastarchive.archive import Archive
from fastarchive.dicom.part10 import encode_file_head
from fastarchive.store.encoding import EncodedRecord
from fastarchive.store.intake import SPILL
from fastarchive.store.log import Log
from fastarchive.store.record import Location, RecordKind
from fastarchive.store.writers import LogBroken
from tests.conflicting import BIG, DEFLATED, EXPLICIT, IMPLICIT, UID, in_syntax, named, names, records, store
from tests.server.instances import SECONDARY_CAPTURE, small_instance
from tests.upkeep.filled import study_uid

REPLACE = ConflictPolicies(Policy.REPLACE)
LARGE = SPILL + 2_000_000


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive.open(tmp_path / "archive") as opened:
        yield opened


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, BIG, DEFLATED])
def test_S3_the_same_data_set_in_another_encoding_is_a_success_and_stored_once(
    archive: Archive, transfer_syntax: str
) -> None:
    first = store(archive, small_instance(1))
    before = records(archive)
    again = store(archive, in_syntax(small_instance(1), transfer_syntax), transfer_syntax=transfer_syntax)
    assert (again.outcome, again.location) == (Outcome.ALREADY_PRESENT, first.location)
    other = in_syntax(named("OTHER^NAME"), transfer_syntax)
    assert store(archive, other, transfer_syntax=transfer_syntax).outcome is Outcome.CONFLICT_KEPT_FIRST
    assert records(archive) == before


def test_S3_what_is_sent_again_is_neither_compressed_nor_written(archive: Archive) -> None:
    assert "compress" in store(archive, small_instance(1)).timings
    before = records(archive)
    for _ in range(3):
        timings = store(archive, small_instance(1)).timings
        assert "digest" in timings
        assert not {"compress", "sync", "write"} & timings.keys()
    assert records(archive) == before


def large_file(folder: Path, name: str, transfer_syntax: str) -> Path:
    path = folder / f"{transfer_syntax}.dcm"
    data = in_syntax(named(name, pixels=LARGE), transfer_syntax)
    path.write_bytes(encode_file_head(transfer_syntax, SECONDARY_CAPTURE, UID) + data)
    return path


def test_S3_a_large_one_sent_again_is_stored_once_too(archive: Archive, tmp_path: Path) -> None:
    path = large_file(tmp_path, "SMITH^ANNA", EXPLICIT)
    assert archive.import_file(path).outcome is Outcome.STORED
    before = records(archive)
    assert archive.import_file(path).outcome is Outcome.ALREADY_PRESENT
    assert archive.import_file(large_file(tmp_path, "SMITH^ANNA", BIG)).outcome is Outcome.ALREADY_PRESENT
    assert archive.import_file(large_file(tmp_path, "SMITH^ADAM", BIG)).outcome is Outcome.CONFLICT_KEPT_FIRST
    assert records(archive) == before


def test_S3_a_large_one_that_replaces_another_is_read_back_byte_for_byte(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "archive", conflicts=REPLACE) as archive:
        archive.import_file(large_file(tmp_path, "SMITH^ANNA", EXPLICIT))
        assert archive.import_file(large_file(tmp_path, "SMITH^ADAM", BIG)).outcome is Outcome.REPLACED
        assert archive.read(UID).read() == in_syntax(named("SMITH^ADAM", pixels=LARGE), BIG)


def test_S3_replace_puts_the_new_data_set_in_the_place_of_the_old_one(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "archive", conflicts=REPLACE) as archive:
        for number in (1, 11):
            store(archive, small_instance(number))
        for name in ("FIRST^NAME", "SECOND^NAME", "FIRST^NAME"):
            assert store(archive, named(name)).outcome is Outcome.REPLACED
            assert archive.read(UID).read() == named(name)
            assert names(archive) == [name]
            assert archive.status()["instances"] == 2
            assert store(archive, named(name)).outcome is Outcome.ALREADY_PRESENT
        kept = [record for _, record in records(archive) if record.sop_instance == UID]
        assert [record.kind for record in kept].count(RecordKind.INSTANCE) == 4  # nothing is overwritten
    shutil.rmtree(tmp_path / "archive" / "index")
    with Archive.open(tmp_path / "archive") as archive:
        assert archive.read(UID).read() == named("FIRST^NAME")
        assert names(archive, 1) == ["FIRST^NAME"]
        assert archive.status()["instances"] == 2


def test_S3_the_policy_is_that_of_the_sender(tmp_path: Path) -> None:
    policies = ConflictPolicies(Policy.KEEP_FIRST, {"PACS": Policy.REPLACE})
    with Archive.open(tmp_path / "archive", conflicts=policies) as archive:
        store(archive, small_instance(1))
        assert store(archive, named("CT^1"), calling_ae="CT1").outcome is Outcome.CONFLICT_KEPT_FIRST
        assert store(archive, named("PACS^1"), calling_ae="PACS").outcome is Outcome.REPLACED
        assert names(archive) == ["PACS^1"]


def test_S3_what_is_on_hold_is_not_replaced(tmp_path: Path) -> None:
    policies = ConflictPolicies(Policy.REPLACE, holds=lambda: nullcontext({study_uid(0)}))
    with Archive.open(tmp_path / "archive", conflicts=policies) as archive:
        for number in (1, 11):
            store(archive, small_instance(number))
        before = records(archive)
        assert store(archive, named("OTHER^NAME")).outcome is Outcome.CONFLICT_ON_HOLD
        assert records(archive) == before
        assert store(archive, named("OTHER^NAME", number=11)).outcome is Outcome.REPLACED


@pytest.mark.parametrize("failing", [RecordKind.INSTANCE, RecordKind.DELETION])
def test_S3_a_replacement_cut_short_leaves_what_was_there(
    tmp_path: Path, failing: RecordKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Log.append

    def fail(log: Log, encoded: EncodedRecord) -> Future[Location]:
        if encoded.record.kind is not failing:
            return append(log, encoded)
        future: Future[Location] = Future()
        future.set_exception(LogBroken("the disk is gone"))
        return future

    with Archive.open(tmp_path / "archive", conflicts=REPLACE) as archive:
        store(archive, small_instance(1))
        with monkeypatch.context() as patch:
            patch.setattr(Log, "append", fail)
            with pytest.raises(LogBroken):
                store(archive, named("OTHER^NAME"))
        assert archive.read(UID).read() == small_instance(1)
    shutil.rmtree(tmp_path / "archive" / "index")
    with Archive.open(tmp_path / "archive", conflicts=REPLACE) as archive:
        assert archive.read(UID).read() == small_instance(1)
        assert store(archive, named("OTHER^NAME")).outcome is Outcome.REPLACED  # its sender tries again
        assert archive.read(UID).read() == named("OTHER^NAME")
        assert archive.status()["instances"] == 1


def test_S3_an_instance_from_the_future_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Archive.open(tmp_path / "archive", conflicts=REPLACE) as archive:
        with monkeypatch.context() as patch:
            future = time.time_ns() + 10**12
            patch.setattr("time.time_ns", lambda: future)
            store(archive, small_instance(1))
        assert store(archive, named("OTHER^NAME")).outcome is Outcome.REPLACED
        assert archive.read(UID).read() == named("OTHER^NAME")


def at_once(sends: list[tuple[Archive, bytes]]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    start = threading.Barrier(len(sends))

    def send(archive: Archive, data: bytes) -> None:
        start.wait()
        outcomes.append(store(archive, data).outcome)

    threads = [threading.Thread(target=send, args=each) for each in sends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes


@pytest.mark.parametrize("known", [True, False])
def test_S7_many_contend_for_one_uid_and_one_of_them_has_it_everywhere(tmp_path: Path, known: bool) -> None:
    contents = [named(f"NAME^{number}") for number in range(4)]
    with (
        Archive.open(tmp_path / "archive", conflicts=REPLACE) as one,
        Archive.open(tmp_path / "archive", conflicts=REPLACE, write_index=False, recover_packs=False) as other,
    ):
        if known:
            store(one, small_instance(1))
        outcomes = at_once([(archive, content) for content in contents for archive in (one, other)])
        assert set(outcomes) <= {Outcome.STORED, Outcome.REPLACED, Outcome.ALREADY_PRESENT}
        assert Outcome.REPLACED in outcomes
        winner = one.read(UID).read()
        assert winner in contents
        assert other.read(UID).read() == winner
        assert one.status()["instances"] == other.status()["instances"] == 1
    shutil.rmtree(tmp_path / "archive" / "index")
    with Archive.open(tmp_path / "archive") as again:
        assert again.read(UID).read() == winner


def test_S7_one_data_set_from_two_processes_in_one_moment_is_one_instance(tmp_path: Path) -> None:
    with (
        Archive.open(tmp_path / "archive") as one,
        Archive.open(tmp_path / "archive", write_index=False, recover_packs=False) as other,
    ):
        for number in range(20):
            outcomes = at_once([(archive, small_instance(number)) for archive in (one, other, one, other)])
            assert set(outcomes) <= {Outcome.STORED, Outcome.ALREADY_PRESENT}
        assert one.status()["instances"] == other.status()["instances"] == 20
