"""Storage service class: C-STORE (PS3.4 Annex B).

The data set flows into an intake as it arrives, in bounded memory, and with all others in the memory there is for them
together. The work on it, from the digest to the compressed record handed to the log, is one job of a worker thread, or
of the event loop if the data set is small. The response is sent when the record is on stable storage (S1): Success for
a new instance and for one that is there already, a failure for everything that was not stored. What becomes of a
different data set with the UID of a stored one is for a policy to say, and the answer to tell (S3).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from errno import EDQUOT, EIO, EMFILE, ENFILE, ENOMEM, ENOSPC, EROFS
from functools import partial
from time import perf_counter
from typing import Final, NamedTuple

from fastarchive.archive import Outcome, Receipt
from fastarchive.dicom.transfer_syntaxes import is_deflated
from fastarchive.services import status
from fastarchive.services.arrivals import NoRoom
from fastarchive.services.context import ServiceContext
from fastarchive.services.faults import log_unexpected
from fastarchive.services.keeper import Keeper
from fastarchive.services.responses import caller_of, response_to
from fastarchive.store.intake import Intake, IntakeError
from fastarchive.store.writers import LogBroken, NoSpace
from fastarchive.upperlayer import Association, AssociationError, Command, Message, PresentationContext

__all__ = ["STALLED", "Answer", "answer_for_error", "handle", "log_answer"]

_log: Final = logging.getLogger(__name__)

_SMALL: Final = 64 << 10
"""Bytes of a data set up to which the work on it is less than to hand it to a thread and get it back."""

_AFFECTED_SOP_CLASS: Final = 0x0000_0002
_AFFECTED_SOP_INSTANCE: Final = 0x0000_1000
_DISK_FAILED: Final = frozenset({EIO, EROFS})
_OUT_OF_RESOURCES: Final = frozenset({ENOSPC, EDQUOT, EMFILE, ENFILE, ENOMEM})


class Answer(NamedTuple):
    """What the sender is told, and the word the instance is counted under."""

    status: int
    outcome: str
    comment: str = ""
    offending_elements: tuple[int, ...] = ()


_ANSWERS: Final[Mapping[Outcome, Answer]] = {
    Outcome.STORED: Answer(status.SUCCESS, "stored"),
    Outcome.ALREADY_PRESENT: Answer(status.SUCCESS, "already-present"),
    Outcome.CONFLICT_KEPT_FIRST: Answer(
        status.DATA_SET_DOES_NOT_MATCH, "conflict", "UID is stored with other content; the first one is kept"
    ),
    Outcome.CONFLICT_ON_HOLD: Answer(
        status.DATA_SET_DOES_NOT_MATCH, "conflict", "UID is stored with other content, on hold; that is kept"
    ),
    Outcome.REPLACED: Answer(status.SUCCESS, "replaced", "UID was stored with other content; this one replaced it"),
    Outcome.QUARANTINED: Answer(
        status.COERCION, "quarantined", "UID is stored with other content; this one is in quarantine"
    ),
    Outcome.REJECTED: Answer(
        status.DATA_SET_DOES_NOT_MATCH, "refused", "a rejection note in the archive rejects this instance"
    ),
    Outcome.OTHER_PATIENT: Answer(
        status.COERCION, "quarantined", "patient differs from the study's; this one is in quarantine"
    ),
}
_TAKEN: Final = frozenset({status.SUCCESS, status.COERCION})
_NO_SPACE: Final = Answer(status.OUT_OF_RESOURCES, "no-space", "out of resources, nothing was stored")
_NO_ROOM: Final = Answer(status.OUT_OF_RESOURCES, "no-room", "too much is arriving at once, nothing was stored")
STALLED: Final = Answer(status.OUT_OF_RESOURCES, "stalled", "the disk does not answer, send it again later")
_LOG_BROKEN: Final = Answer(status.PROCESSING_FAILURE, "failed", "writing failed, nothing was stored")
_FAILED: Final = Answer(status.PROCESSING_FAILURE, "failed", "internal error, nothing was stored")


async def handle(association: Association, message: Message, context: ServiceContext) -> None:
    """Store one instance and answer (S1 to S3, S8 to S10); never raises for what the data set holds.

    Raises AssociationError when the association ends first; nothing was acknowledged then.
    """
    metrics = context.metrics
    chunks = _Counted(message.chunks())
    started = perf_counter()
    answer = _refusal(message.command, message.context)
    if answer is None:
        answer = await _store(association, message, context, chunks, started)
    await chunks.drop()  # of a refused data set; it has to be read before the answer
    received = chunks.ended or started
    response = response_to(
        message.command, answer.status, comment=answer.comment, offending_elements=answer.offending_elements
    )
    await association.send(message.context.id, response)
    metrics.store_receive.observe(received - started)
    metrics.store_acknowledge.observe(perf_counter() - received)
    metrics.count_instance(answer.outcome, association.calling_ae, chunks.size)
    log_answer(association, answer)


def log_answer(association: Association, answer: Answer) -> None:
    """A line in the log for what was not simply stored."""
    if answer.status not in _TAKEN:
        _log.warning("C-STORE from %s refused: %04XH %s", caller_of(association), answer.status, answer.comment)
    elif answer.comment:
        _log.info("C-STORE from %s: %s", caller_of(association), answer.comment)


async def _store(
    association: Association, message: Message, context: ServiceContext, chunks: _Counted, started: float
) -> Answer:
    """Take the data set in and wait until it is durable; every error but the association's becomes an answer."""
    archive, limit = context.archive, context.limits.store_seconds
    if limit and archive.log_status().stalled > limit:
        return STALLED
    intake = archive.receive(
        transfer_syntax=message.context.transfer_syntax,
        sop_class=message.command.affected_sop_class,
        sop_instance=message.command.affected_sop_instance,
        calling_ae=association.calling_ae,
        called_ae=association.called_ae,
        character_set=context.character_sets.get(association.calling_ae, ""),
    )
    arrivals, threads = context.arrivals, context.ingest
    arrival = arrivals.begin()
    keeper = Keeper(intake, arrival.end, threads)
    try:
        async for chunk in chunks:
            if not arrival.take(len(chunk)):
                await threads.run(keeper.drain, limit=limit)
                arrival.keep(intake.held)
                await arrival.wait(len(chunk))
            intake.write(chunk)
            if intake.pending >= arrivals.share:
                await threads.run(keeper.drain, limit=limit)
                arrival.keep(intake.held)
        durable = keeper.submit_promptly(archive) if _is_small(intake) else None
        if durable is not None:
            receipt = await threads.wait(durable, limit=limit)
        else:
            receipt = await threads.run_then_wait(partial(keeper.submit, archive), limit=limit)
    except AssociationError:
        raise
    except Exception as error:  # the sender gets a status for whatever went wrong
        return answer_for_error(error)
    finally:
        keeper.leave()
    _observe_stages(context, receipt)
    return _ANSWERS[receipt.outcome]


def _is_small(intake: Intake) -> bool:
    """Whether the work on a data set is less than to hand it to a thread and get it back."""
    return intake.length <= _SMALL and not is_deflated(intake.transfer_syntax)


class _Counted:
    """The chunks of a data set, counted; can be taken up again where a reader left off."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.size = 0
        self.ended: float | None = None
        """When the last byte was taken, on the clock of perf_counter()."""

    def __aiter__(self) -> _Counted:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            if self.ended is None:
                self.ended = perf_counter()
            raise
        self.size += len(chunk)
        return chunk

    async def drop(self) -> None:
        """Read what is left to the end."""
        async for _ in self:
            pass


def _refusal(command: Command, presentation: PresentationContext) -> Answer | None:
    """What is wrong with the command itself, before a byte of the data set is looked at (S3)."""
    if command.affected_sop_class != presentation.abstract_syntax:
        return Answer(
            status.SOP_CLASS_NOT_SUPPORTED,
            "refused",
            "Affected SOP Class UID is not that of the context",
            (_AFFECTED_SOP_CLASS,),
        )
    if not command.affected_sop_instance:
        return Answer(
            status.INVALID_SOP_INSTANCE, "refused", "Affected SOP Instance UID is missing", (_AFFECTED_SOP_INSTANCE,)
        )
    if not command.has_data_set:
        return Answer(status.CANNOT_UNDERSTAND, "refused", "the request has no data set")
    return None


def answer_for_error(error: Exception) -> Answer:
    """The status for a data set that was not stored (S2); unforeseen errors get a line in the log."""
    if isinstance(error, IntakeError):
        code = status.CANNOT_UNDERSTAND if error.kind == "malformed" else status.DATA_SET_DOES_NOT_MATCH
        return Answer(code, "refused", error.comment, () if error.tag is None else (error.tag,))
    if isinstance(error, NoSpace) or (isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES):
        return _NO_SPACE
    if isinstance(error, LogBroken):
        return _LOG_BROKEN
    if isinstance(error, NoRoom):
        return _NO_ROOM
    if isinstance(error, TimeoutError) and not error.errno:
        return STALLED
    if isinstance(error, OSError) and error.errno in _DISK_FAILED:
        _log.error("the spool can't be written: %s", error.strerror)
        return _LOG_BROKEN
    log_unexpected(_log, "C-STORE", error)
    return _FAILED


def _observe_stages(context: ServiceContext, receipt: Receipt) -> None:
    """Observe what the threads measured; a stage that did not happen (no sync for a re-send) is not observed."""
    metrics = context.metrics
    for stage, histogram in (
        ("digest", metrics.store_digest),
        ("compress", metrics.store_compress),
        ("sync", metrics.store_sync),
    ):
        seconds = receipt.timings.get(stage)
        if seconds is not None:
            histogram.observe(seconds)
