"""C-STORE: the status for everything that can happen to a data set."""

from __future__ import annotations

import errno
from concurrent.futures import Future
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from fastarchive.archive import Outcome, Receipt
from fastarchive.dicom.transfer_syntaxes import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN as DEFLATED
from fastarchive.metrics import Metrics, exposition
from fastarchive.services import storage
from fastarchive.services.arrivals import Arrivals
from fastarchive.services.context import Limits, open_context
from fastarchive.store.intake import SPILL, IntakeError
from fastarchive.store.writers import LogBroken, NoSpace
from fastarchive.upperlayer import AssociationAborted
from tests.services.fakes import CT, FakeArchive, FakeAssociation, FakeMessage, presentation, store_request


@pytest.fixture(autouse=True, params=[True, False], ids=["promptly", "in a thread"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small data sets are stored on the event loop, or by a thread where that takes more than a moment."""
    monkeypatch.setattr(FakeArchive, "promptly", request.param)


def store(
    archive: FakeArchive,
    message: FakeMessage,
    metrics: Metrics | None = None,
    *,
    arrivals: Arrivals | None = None,
    limits: Limits | None = None,
    closed: bool = True,
) -> FakeAssociation:
    association: Any = FakeAssociation()
    opened: Any = archive
    request: Any = message

    async def main() -> None:
        own = metrics or Metrics(("CT1",))
        with open_context(opened, metrics=own, arrivals=arrivals, limits=limits) as context:
            await storage.handle(association, request, context)

    anyio.run(main)
    fake: FakeAssociation = association
    assert all(bool(intake.closed) is closed for intake in archive.intakes)
    assert not message.left
    return fake


def test_S1_success_is_answered_when_the_archive_says_it_is_durable() -> None:
    archive, metrics = FakeArchive(), Metrics(("CT1",))
    association = store(archive, store_request(), metrics)
    ((context_id, response, data_set),) = association.sent
    assert (context_id, data_set) == (1, None)
    assert (response.status, response.responding_to, response.affected_sop_instance) == (0x0000, 5, "1.2.3")
    assert archive.intakes[0].data == b"dataset"
    assert archive.intakes[0].identity == {
        "transfer_syntax": "1.2.840.10008.1.2.1",
        "sop_class": "1.2.840.10008.5.1.4.1.1.2",
        "sop_instance": "1.2.3",
        "calling_ae": "CT1",
        "called_ae": "FASTARCHIVE",
        "character_set": "",
    }
    text = exposition(metrics).decode()
    assert 'fastarchive_store_instances_total{calling_ae="CT1",outcome="stored"} 1.0' in text
    assert "fastarchive_store_received_bytes_total 7.0" in text
    for stage in ("receive", "digest", "compress", "sync", "acknowledge"):
        assert f'fastarchive_store_stage_seconds_count{{stage="{stage}"}} 1.0' in text


def test_small_data_sets_are_stored_without_a_thread_unless_that_takes_more_than_a_moment() -> None:
    archive = FakeArchive()
    store(archive, store_request())
    assert (archive.prompt, archive.threaded) == ((1, 0) if archive.promptly else (0, 1))


def test_large_and_deflated_data_sets_are_stored_by_a_thread() -> None:
    archive = FakeArchive()
    store(archive, store_request([bytes(storage._SMALL), b"1"]))
    store(archive, FakeMessage(presentation(CT, DEFLATED), store_request().command, [b"deflated"]))
    assert (archive.prompt, archive.threaded) == (0, 2)


def test_S3_an_identical_instance_sent_again_is_a_success() -> None:
    assert store(FakeArchive(Outcome.ALREADY_PRESENT), store_request()).statuses == [0x0000]


def test_S3_other_content_under_a_known_uid_is_refused_and_says_so() -> None:
    association = store(FakeArchive(Outcome.CONFLICT_KEPT_FIRST), store_request())
    (_, response, _) = association.sent[0]
    assert response.status == 0xA900
    assert "kept" in response.error_comment
    assert len(response.error_comment) <= 64


@pytest.mark.parametrize("kind", ["missing-uid", "bad-uid", "mismatch"])
def test_S2_a_data_set_that_is_not_what_the_request_says_gets_A900(kind: str) -> None:
    error = IntakeError(kind, "SOPInstanceUID differs from the request's", 0x00080018)
    (_, response, _) = store(FakeArchive(error=error), store_request()).sent[0]
    assert response.status == 0xA900
    assert response.error_comment == "SOPInstanceUID differs from the request's"
    assert response.offending_elements == (0x00080018,)


def test_S2_a_data_set_nobody_can_read_gets_C000() -> None:
    error = IntakeError("malformed", "the data set ends inside its header")
    assert store(FakeArchive(error=error), store_request()).statuses == [0xC000]


@pytest.mark.parametrize(
    "error",
    [NoSpace("full"), OSError(errno.ENOSPC, "full"), OSError(errno.EDQUOT, "quota"), OSError(errno.ENOMEM, "memory")],
)
def test_S2_no_space_gets_A700(error: Exception) -> None:
    assert store(FakeArchive(error=error), store_request()).statuses == [0xA700]
    assert store(FakeArchive(late_error=error), store_request()).statuses == [0xA700]


@pytest.mark.parametrize(
    "error", [LogBroken("EIO"), OSError(errno.EIO, "broken"), OSError(errno.EROFS, "ro"), ValueError("SMITH^JOHN")]
)
def test_S3_everything_else_that_goes_wrong_gets_0110(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    association = store(FakeArchive(late_error=error), store_request())
    assert association.statuses == [0x0110]
    assert "SMITH" not in caplog.text
    assert "SMITH" not in association.sent[0][1].error_comment


def test_S2_a_full_spool_in_the_middle_is_answered_after_the_whole_data_set() -> None:
    archive = FakeArchive(drain_error=OSError(errno.ENOSPC, "full"))
    message = store_request([b"x" * SPILL, b"y" * SPILL, b"z" * SPILL])
    assert store(archive, message).statuses == [0xA700]


def test_a_large_data_set_is_never_held_whole() -> None:
    archive = FakeArchive()
    store(archive, store_request([b"x" * 2**20] * 40))
    assert archive.intakes[0].most_pending <= SPILL + 2**20


def test_the_more_data_sets_arrive_the_less_each_holds() -> None:
    arrivals = Arrivals(memory=4 * SPILL)
    assert arrivals.share == SPILL
    others = [arrivals.begin() for _ in range(63)]
    archive = FakeArchive()
    store(archive, store_request([b"x" * 2**16] * 40), arrivals=arrivals)
    assert archive.intakes[0].most_pending <= SPILL // 16 + 2**16
    for other in others:
        other.end()
    assert arrivals.under_way == arrivals.held == 0


def test_without_room_it_goes_to_the_spool_first() -> None:
    arrivals = Arrivals(memory=SPILL)
    arrivals.begin().add(SPILL - 2**20)
    archive = FakeArchive()
    assert store(archive, store_request([b"x" * 2**18] * 40), arrivals=arrivals).statuses == [0x0000]
    assert archive.intakes[0].most_pending <= 2**20
    assert arrivals.held == SPILL - 2**20


def test_S2_without_room_for_long_it_is_refused_with_A700_and_read_to_its_end() -> None:
    arrivals = Arrivals(memory=SPILL, patience=0.02)
    other = arrivals.begin()
    other.add(SPILL)
    metrics = Metrics(("CT1",))
    message = store_request([b"x" * 2**18] * 4)
    association = store(FakeArchive(), message, metrics, arrivals=arrivals)
    assert association.statuses == [0xA700]
    assert "too much" in association.sent[0][1].error_comment
    assert 'fastarchive_store_instances_total{calling_ae="CT1",outcome="no-room"} 1.0' in exposition(metrics).decode()
    assert arrivals.held == SPILL
    other.end()
    assert store(FakeArchive(), store_request([b"x" * 2**18] * 4), arrivals=arrivals).statuses == [0x0000]


def test_S2_a_disk_that_does_not_answer_gets_A700_after_a_while() -> None:
    future: Future[Receipt] = Future()
    archive = FakeArchive(pending=future)
    arrivals = Arrivals()
    association = store(archive, store_request(), arrivals=arrivals, limits=Limits(store_seconds=0.02), closed=False)
    assert association.statuses == [0xA700]
    assert "disk" in association.sent[0][1].error_comment
    # The log still has the record: its memory is counted, and given back when the disk is done with it.
    assert archive.intakes[0].closed == 0
    assert arrivals.held == len(b"dataset")
    future.set_exception(LogBroken("at last"))
    assert archive.intakes[0].closed == 1


def test_S2_while_the_disk_does_not_answer_nobody_waits_for_it() -> None:
    archive = FakeArchive(stalled=31.0)
    association = store(archive, store_request())
    assert association.statuses == [0xA700]
    assert archive.intakes == []


def test_S3_another_sop_class_than_the_contexts_gets_0122() -> None:
    association = store(FakeArchive(), store_request(affected_sop_class="1.2.840.10008.5.1.4.1.1.4"))
    assert association.statuses == [0x0122]
    assert association.sent[0][1].offending_elements == (0x00000002,)


def test_S3_a_request_without_instance_uid_gets_0117() -> None:
    assert store(FakeArchive(), store_request(affected_sop_instance="")).statuses == [0x0117]


def test_S2_a_request_without_data_set_gets_C000() -> None:
    assert store(FakeArchive(), store_request([], has_data_set=False)).statuses == [0xC000]


def test_S8_move_originator_is_accepted() -> None:
    message = store_request(move_originator="WORKSTATION", move_originator_message_id=9)
    assert store(FakeArchive(), message).statuses == [0x0000]


def test_a_uid_that_is_no_text_of_the_default_repertoire_is_answered_all_the_same() -> None:
    message = store_request(affected_sop_instance="1.2.\xe9")
    error = IntakeError("bad-uid", "SOPInstanceUID is not a UID", 0x00080018)
    assert store(FakeArchive(error=error), message).statuses == [0xA900]


def test_an_association_that_ends_in_the_middle_acknowledges_nothing_and_leaves_nothing_open() -> None:
    class Broken(FakeMessage):
        async def chunks(self) -> Any:
            yield b"first half"
            raise AssociationAborted("lost")

    archive = FakeArchive()
    whole = store_request()
    message: Any = Broken(whole.context, whole.command)
    association: Any = FakeAssociation()
    opened: Any = archive

    async def main() -> None:
        with open_context(opened) as context, pytest.raises(AssociationAborted):
            await storage.handle(association, message, context)

    anyio.run(main)
    assert association.sent == []
    assert archive.intakes[0].closed == 1


def test_a_handler_that_is_cancelled_anywhere_leaves_no_intake_open() -> None:
    for steps in range(12):
        archive = FakeArchive()
        message: Any = store_request([b"x" * SPILL, b"y" * SPILL, b"z"])
        association: Any = FakeAssociation()
        opened: Any = archive

        async def main(
            steps: int = steps, opened: Any = opened, message: Any = message, peer: Any = association
        ) -> None:
            with open_context(opened) as context:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(storage.handle, peer, message, context)
                    for _ in range(steps):
                        await anyio.lowlevel.checkpoint()
                    tasks.cancel_scope.cancel()

        anyio.run(main)  # leaving the context waits for what the threads were given
        assert all(intake.closed for intake in archive.intakes), steps
