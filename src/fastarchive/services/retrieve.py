"""Retrieve services: C-MOVE and C-GET of the Query/Retrieve information models (PS3.4 C.4.2, C.4.3).

Both list the instances that are meant, send each as a C-STORE sub-operation and keep the peer informed. They differ in
where the instances go: over associations of our own to a configured peer, or back over the one the request came on.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Final

import anyio

from fastarchive.archive import Archive
from fastarchive.dicom.attributes import model_of
from fastarchive.dicom.transfer_syntaxes import encoding_of
from fastarchive.query.identifier import IdentifierError
from fastarchive.query.retrieve import RetrieveRequest, instances, parse_retrieve
from fastarchive.services import status
from fastarchive.services.context import Peer, ServiceContext
from fastarchive.services.faults import comment_of, log_unexpected
from fastarchive.services.responses import caller_of, refuse
from fastarchive.services.sending import Originator, Sender
from fastarchive.services.suboperations import Instance, Outcome, Tally, Voyage, failed_list, plan_voyages
from fastarchive.upperlayer import (
    Association,
    AssociationError,
    AssociationRejected,
    DataSetTooLarge,
    Message,
    ProposedContext,
    Timeouts,
    connect,
    encode_command,
    frame_command,
)

__all__ = ["handle_get", "handle_move"]

_log: Final = logging.getLogger(__name__)

_MOVE_DESTINATION: Final = 0x0000_0600
_STILL_ALIVE: Final = 2.0
"""Seconds after which a C-MOVE sends a pending response though nothing has changed (R9)."""
_PATIENCE: Final = 1.0
"""Seconds a sub-operation under way may still take after a C-CANCEL."""
_LOOK_AGAIN: Final = 0.05
"""Seconds between looks at whether there is something to report."""


async def handle_move(association: Association, message: Message, context: ServiceContext) -> None:
    """Answer one C-MOVE: send the instances to the Move Destination, a configured peer (R1 to R10, R12)."""
    destination = message.command.move_destination
    peer = context.peers.get(destination)
    if peer is None:
        await refuse(
            association,
            message,
            status.MOVE_DESTINATION_UNKNOWN,
            "Move Destination is not a configured peer",
            offending_elements=(_MOVE_DESTINATION,),
        )
        return
    retrieval = await _Retrieval.begin(association, message, context, "C-MOVE")
    if retrieval is not None:
        problem = await _move(retrieval, destination, peer)
        if problem:
            _log.warning("C-MOVE to %s (%s): %s", destination, peer, problem)
        await retrieval.finish(problem)


async def handle_get(association: Association, message: Message, context: ServiceContext) -> None:
    """Answer one C-GET: send the instances back over the same association (R2 to R6, R9 to R12)."""
    retrieval = await _Retrieval.begin(association, message, context, "C-GET")
    if retrieval is None:
        return

    def done(instance: Instance, outcome: Outcome) -> bytes | None:
        retrieval.count(instance, outcome)
        return None if retrieval.cancelled else retrieval.report_due()

    sender = Sender(association, context, "C-GET", done)
    if not retrieval.cancelled:
        await sender.send(retrieval.instances)
    await retrieval.finish("" if sender.responses else "no instance could be sent on this association")


class _Retrieval:
    """One C-MOVE or C-GET under way: what is to be sent, what was, and what the peer was told."""

    def __init__(
        self, association: Association, message: Message, context: ServiceContext, service: str, found: list[Instance]
    ) -> None:
        self.association = association
        self.context = context
        self.request = message.command
        self.service = service
        self.instances = found
        self.tally = Tally(len(found))
        self._presentation = message.context
        self._started = perf_counter()
        self._reported: float | None = None
        self._reported_remaining = len(found)

    @classmethod
    async def begin(
        cls, association: Association, message: Message, context: ServiceContext, service: str
    ) -> _Retrieval | None:
        """Read the identifier and list the instances; None if the request has been answered with a failure."""
        known = model_of(message.context.abstract_syntax)
        if known is None or message.command.affected_sop_class != message.context.abstract_syntax:
            comment = "Affected SOP Class UID is not that of the context"
            await refuse(association, message, status.SOP_CLASS_NOT_SUPPORTED, comment)
            return None
        encoding = encoding_of(message.context.transfer_syntax)
        really_in = context.character_sets.get(association.calling_ae)
        try:
            identifier = await message.data_set(context.limits.identifier)
            found = await context.queries.run(
                lambda: _list_instances(context.archive, parse_retrieve(identifier, encoding, known[0], really_in))
            )
        except DataSetTooLarge:
            await refuse(association, message, status.UNABLE_TO_COUNT_MATCHES, "the identifier is too large")
        except IdentifierError as error:
            offending = tuple(error.offending)
            await refuse(association, message, error.status, error.comment, offending_elements=offending)
        except AssociationError:
            raise
        except Exception as error:  # the peer gets a status for whatever went wrong
            log_unexpected(_log, service, error)
            context.metrics.unexpected_errors.labels(service=service).inc()
            await refuse(association, message, status.UNABLE_TO_COUNT_MATCHES, "internal error")
        else:
            return cls(association, message, context, service, found)
        return None

    @property
    def cancelled(self) -> bool:
        """Whether the peer has sent a C-CANCEL for this request (R10)."""
        return self.association.cancelled(self.request.message_id)

    def count(self, instance: Instance, outcome: Outcome) -> None:
        """Count a sub-operation that is done."""
        self.tally.count(instance, outcome)
        self.context.metrics.count_suboperation(self.service, outcome.value)

    def count_failed(self, rest: Iterable[Instance]) -> None:
        """Count sub-operations that can't be performed any more."""
        for instance in rest:
            self.count(instance, Outcome.FAILED)

    def report_due(self) -> bytes:
        """A pending response in PDUs, after the first sub-operation and then at the interval (R9); else nothing."""
        now = perf_counter()
        remaining = self.tally.remaining
        if self._reported is None:
            due = remaining != self._reported_remaining
            since = now - self._started
        else:
            since = now - self._reported
            due = remaining != self._reported_remaining and since >= self.context.limits.pending_interval
        if not remaining or not (due or since >= _STILL_ALIVE):
            return b""
        self._reported, self._reported_remaining = now, remaining
        response = encode_command(self.tally.response(self.request, status.PENDING))
        return frame_command(self._presentation.id, response, self.association.longest_fragment)

    async def finish(self, comment: str = "") -> None:
        """Send the final response; `comment` says why, should every sub-operation have failed."""
        tally = self.tally
        code = status.CANCELLED if self.cancelled and tally.remaining else tally.final_status()
        identifier = None
        if tally.failed_instances:
            identifier = failed_list(tally.failed_instances, encoding_of(self._presentation.transfer_syntax))
        response = tally.response(
            self.request,
            code,
            comment=comment_of(comment) if code == status.UNABLE_TO_PERFORM_SUBOPERATIONS else "",
            has_data_set=identifier is not None,
        )
        await self.association.send(self._presentation.id, response, identifier)
        seconds = perf_counter() - self._started
        self.context.metrics.retrieve_duration.labels(service=self.service).observe(seconds)
        _log.info(
            "%s for %s: %d sent, %d with warning, %d failed, %d left in %.2f s, %04XH",
            self.service,
            caller_of(self.association),
            tally.completed,
            tally.warning,
            tally.failed,
            tally.remaining,
            seconds,
            code,
        )


def _list_instances(archive: Archive, request: RetrieveRequest) -> list[Instance]:
    """In a worker thread: all instances meant, as little of each as sending it takes."""
    return [
        Instance(document.sop_class, document.instance, document.transfer_syntax, document.length, document.location)
        for page in instances(request, archive.index.view())
        for document in page
    ]


async def _move(retrieval: _Retrieval, destination: str, peer: Peer) -> str:
    """Send everything to `peer`, while the pending responses go their own way; returns what went wrong, if anything.

    Should the association the request came on end meanwhile, so does the sending.
    """
    over = anyio.Event()
    sailing = anyio.CancelScope()
    problem = ""
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_report_until, over, retrieval, sailing)
            with sailing:
                for voyage in plan_voyages(retrieval.instances):
                    if retrieval.cancelled:
                        break
                    problem = await _sail(retrieval, destination, peer, voyage) or problem
            over.set()
    except ExceptionGroup as group:
        raise _first(group) from None
    return problem


async def _report_until(over: anyio.Event, retrieval: _Retrieval, sailing: anyio.CancelScope) -> None:
    """Send pending responses when they are due, until `over`.

    After a C-CANCEL a sub-operation that doesn't come to its end soon is given up with its association (R10).
    """
    pause = min(retrieval.context.limits.pending_interval, _LOOK_AGAIN)
    patience = anyio.current_time() + _PATIENCE
    while not over.is_set():
        if report := retrieval.report_due():
            await retrieval.association.send_framed(report)
        if not retrieval.cancelled:
            patience = anyio.current_time() + _PATIENCE
        elif anyio.current_time() > patience:
            sailing.cancel()
        with anyio.move_on_after(pause):
            await over.wait()


async def _sail(retrieval: _Retrieval, destination: str, peer: Peer, voyage: Voyage) -> str:
    """Send the instances of one voyage; an association that broke is opened again if it had worked at all."""
    waiting = deque(voyage.instances)
    problem = ""
    while waiting and not retrieval.cancelled:
        answered = len(waiting)
        problem = await _send_to(retrieval, destination, peer, voyage.contexts, waiting)
        if problem and len(waiting) >= answered - 1:  # nothing came of it but, perhaps, one failure
            retrieval.count_failed(waiting)
            break
    return problem


async def _send_to(
    retrieval: _Retrieval,
    destination: str,
    peer: Peer,
    contexts: Sequence[ProposedContext],
    waiting: deque[Instance],
) -> str:
    """Send what is `waiting` over one association and take from it what is done; returns what went wrong, if anything.

    The instance that was under way when an association broke counts as failed: nobody knows what became of it.
    """
    context = retrieval.context
    originator = Originator(comment_of(retrieval.association.calling_ae), retrieval.request.message_id)

    def done(instance: Instance, outcome: Outcome) -> bytes | None:
        waiting.popleft()
        retrieval.count(instance, outcome)
        return None if retrieval.cancelled else b""

    try:
        async with connect(
            peer.host,
            peer.port,
            calling_ae=context.ae_title,
            called_ae=destination,
            contexts=contexts,
            maximum_length=context.limits.maximum_pdu,
            timeouts=Timeouts(acse=context.limits.connect_seconds, response=context.limits.response_seconds),
        ) as carrier:
            context.metrics.requested_open.inc()
            try:
                await Sender(carrier, context, "C-MOVE", done, originator).send(tuple(waiting))
            except AssociationError:
                retrieval.count(waiting.popleft(), Outcome.FAILED)
                raise
            finally:
                context.metrics.requested_open.dec()
    except AssociationRejected as error:
        return f"destination refused the association ({error.result}/{error.source}/{error.reason})"
    except AssociationError:
        return "the association with the destination was lost"
    except OSError:
        return "the destination is not reachable"
    return ""


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """One of the errors in a group, however deep."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
