"""Sending stored instances as C-STORE sub-operations: the next request leaves the moment the last one is answered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from fastarchive.services.context import ServiceContext
from fastarchive.services.conversion import ConversionError
from fastarchive.services.reading import Pieces, ReadAhead, note_unreadable
from fastarchive.services.status import SUCCESS
from fastarchive.services.suboperations import Instance, Outcome
from fastarchive.store.blobs import DamagedInstance
from fastarchive.upperlayer import (
    Association,
    AssociationAborted,
    Command,
    CommandField,
    PresentationContext,
    StoreRequests,
    StoreTemplates,
)

__all__ = ["Done", "Originator", "Sender"]

_log: Final = logging.getLogger(__name__)

_MEDIUM_PRIORITY: Final = 0x0000
_UNEXPECTED_PDU: Final = (2, 2)

Done = Callable[[Instance, Outcome], bytes | None]
"""Is told how an instance went, at once; returns what is to be sent before the next one, in PDUs, None for no more."""
Parts = list[bytes | memoryview]


class Originator(NamedTuple):
    """Who asked for a C-MOVE: what its sub-operations say they are for (R7)."""

    ae_title: str
    message_id: int


class _UnexpectedMessage(AssociationAborted):
    """What came is not the response that is due."""


class Sender:
    """Sends instances over one association; whichever way a single one fails, the others are sent.

    `carrier` is the association to the destination of a C-MOVE, or the very association of a C-GET.
    `service` is "C-MOVE" or "C-GET".
    """

    def __init__(
        self,
        carrier: Association,
        context: ServiceContext,
        service: str,
        done: Done,
        originator: Originator | None = None,
    ) -> None:
        self._carrier = carrier
        self._context = context
        self._done = done
        self._originator = originator
        self._message_id = 0
        self._service = service
        self._templates: dict[int, StoreTemplates] = {}
        """Of each presentation context."""
        self._stopped = False
        self._first = b""
        """What is to be sent before the next instance."""
        self._large: tuple[Instance, PresentationContext] | None = None
        """An instance whose turn it is, to be read while it is sent."""
        self._under_way: tuple[Instance, StoreTemplates] | None = None
        self.responses = 0
        """Answers the other side gave: as long as it is 0 there is no sign that it works at all."""

    async def send(self, instances: Sequence[Instance]) -> None:
        """Send `instances` one after another, until there are no more or whoever is told of them wants no more.

        Raises AssociationError when the association is over; the instance after the last one told of was under way
        then.
        """
        limit = self._context.limits.response_seconds
        ahead = ReadAhead(self._context, self._carrier, instances)

        def answered(command: Command | None) -> Parts | None:
            return self._answered(command, ahead)

        try:
            while not self._stopped and await ahead.wait():
                following = self._following(ahead)
                if following is not None:
                    await self._carrier.exchange(following, answered, limit)
                if self._first:
                    first, self._first = self._first, b""
                    await self._carrier.send_framed(first)
                if self._large is not None:
                    (instance, presentation), self._large = self._large, None
                    await self._send_large(instance, presentation)
        except _UnexpectedMessage:
            await self._carrier.abort(*_UNEXPECTED_PDU)
            raise
        finally:
            ahead.close()

    def _answered(self, command: Command | None, ahead: ReadAhead) -> Parts | None:
        """The response to the request under way, None: the one expected; the next one, if it can be sent at once."""
        assert self._under_way is not None
        instance, templates = self._under_way
        if command is None:
            self.responses += 1
            self._tell(instance, Outcome.COMPLETED)
        else:
            outcome = self._outcome(command)
            if command.status == SUCCESS:
                templates.learn(self._carrier.heard(), self._message_id, instance.sop_instance)
            self._tell(instance, outcome)
        return self._following(ahead)

    def _following(self, ahead: ReadAhead) -> Parts | None:
        """The next request in PDUs, and before it what has to be sent before."""
        while not self._stopped and (prepared := ahead.next()) is not None:
            instance, ready = prepared
            if ready is None:
                self._tell(instance, Outcome.FAILED)
            elif ready.pdus is None:
                self._large = instance, ready.presentation
                return None
            else:
                templates = self._templates_of(ready.presentation)
                head, expected = templates.exchange(self._next_message_id(), instance.sop_instance)
                self._carrier.expect(expected)
                self._under_way = instance, templates
                self._context.metrics.count_sent(self._service, ready.size)
                first, self._first = self._first, b""
                if isinstance(ready.pdus, list):
                    return [first + head, *ready.pdus]
                message = ready.pdus.message(head)
                ahead.leaves(ready.pdus, len(first) + len(message))
                return [first, message] if first else [message]
        return None

    def _tell(self, instance: Instance, outcome: Outcome) -> None:
        first = self._done(instance, outcome)
        if first is None:
            self._stopped = True
        else:
            self._first += first

    def _templates_of(self, presentation: PresentationContext) -> StoreTemplates:
        templates = self._templates.get(presentation.id)
        if templates is None:
            requests = self._requests(presentation.abstract_syntax)
            templates = StoreTemplates(presentation.id, self._carrier.longest_fragment, requests)
            self._templates[presentation.id] = templates
        return templates

    def _requests(self, sop_class: str) -> StoreRequests:
        originator = self._originator
        return StoreRequests(
            sop_class,
            priority=_MEDIUM_PRIORITY,
            move_originator=originator.ae_title if originator else "",
            move_originator_message_id=originator.message_id if originator else None,
        )

    def _next_message_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    async def _send_large(self, instance: Instance, presentation: PresentationContext) -> None:
        """One C-STORE request and its response, as the transport has room for it."""
        carrier = self._carrier
        request = self._requests(instance.sop_class).encode(self._next_message_id(), instance.sop_instance)
        pieces = Pieces(self._context, instance, presentation.transfer_syntax)
        try:
            await carrier.send_encoded(presentation.id, request, pieces.read())
        except (DamagedInstance, ConversionError, OSError) as error:
            # Half a data set can't be taken back: without an end to it the association is of no more use.
            note_unreadable(self._context, instance, error)
            await carrier.abort()
            raise AssociationAborted("a data set could not be sent to its end") from error
        self._context.metrics.count_sent(self._service, pieces.size)
        response = await carrier.receive(self._context.limits.response_seconds)
        if response is None:
            raise AssociationAborted("released in place of a response")
        self._tell(instance, self._outcome(response.command))

    def _outcome(self, response: Command) -> Outcome:
        """How the sub-operation ended. Raises _UnexpectedMessage for what is no response to it."""
        if response.field is not CommandField.C_STORE_RSP or response.responding_to != self._message_id:
            raise _UnexpectedMessage("something else in place of a response")
        self.responses += 1
        outcome = Outcome.of(response.status)
        if outcome is Outcome.FAILED:
            _log.warning("sub-operation refused by its destination: status %04XH", response.status or 0)
        return outcome
