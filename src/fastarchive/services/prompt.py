"""Plain instances answered without waking anybody: taken on by the callback that received their last byte, answered by
the one that learns of the disk. The work in between is done by threads that need no interpreter.

A message that does not go this way goes to :mod:`fastarchive.services.storage`, which has the reasons of every answer.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Final

from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE, encoding_of, is_deflated
from fastarchive.plain import MOST, Beginning, PlainInstances, Sender, Stored
from fastarchive.services.policy import is_storage
from fastarchive.services.responses import response_to
from fastarchive.services.storage import STALLED, Answer, answer_for_error, log_answer
from fastarchive.upperlayer.commands import CommandField, encode_command, store_success
from fastarchive.upperlayer.pdu import frame_command

if TYPE_CHECKING:
    from fastarchive.services.arrivals import Arrival
    from fastarchive.services.context import ServiceContext
    from fastarchive.upperlayer import Association, Command, Message, PresentationContext

__all__ = ["PromptAnswers", "PromptStores", "answer_promptly"]

_LONGEST_UID: Final = 64
_STEP: Final = 192 * 1024
"""Bytes of a data set that have to come until it is worth waking a thread for them."""
_LEAST_FRAGMENT: Final = 512
"""Bytes of a message a peer must take in one PDU; every C-STORE-RSP fits."""


class PromptStores:
    """The plain instances of one process that are on their way to the disk by the short way. For one event loop."""

    def __init__(self, context: ServiceContext, makers: int = 1) -> None:
        """makers: how many records are made at a time."""
        self.context = context
        self.plain: PlainInstances | None = context.archive.plain_instances(makers)
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[_UnderWay, None] = {}
        """In the order they came."""
        self._alarm: asyncio.TimerHandle | None = None
        if self.plain is not None:
            self._loop.add_reader(self.plain.bell, self._landed)

    def begin(self, one: _UnderWay) -> None:
        """An instance is on its way."""
        self._under_way[one] = None
        if self._alarm is None and self.context.limits.store_seconds:
            self._alarm = self._loop.call_later(self.context.limits.store_seconds, self._look)

    def close(self) -> None:
        """Listen no more. All associations are over."""
        if self.plain is not None:
            self._loop.remove_reader(self.plain.bell)

    def _look(self) -> None:
        """Answer for those that wait too long."""
        limit, now = self.context.limits.store_seconds, perf_counter()
        self._alarm = None
        for one in list(self._under_way):
            left = one.received + limit - now
            if left > 0:
                self._alarm = self._loop.call_later(left, self._look)
                break
            del self._under_way[one]
            one.give_up()

    def _landed(self) -> None:
        assert self.plain is not None
        for stored in self.plain.landed():
            self._under_way.pop(stored.token, None)
            stored.token.finish(stored)


class PromptAnswers:
    """The plain instances of one association."""

    __slots__ = ("_arriving", "_beginning", "_fed", "_senders", "association", "stores")

    def __init__(self, association: Association, stores: PromptStores) -> None:
        self.association = association
        self.stores = stores
        self._senders: dict[int, Sender | None] = {}
        self._arriving: Message | None = None
        """The message that was last seen arriving."""
        self._beginning: Beginning | None = None
        """What has been begun for it, if anything."""
        self._fed = 0
        """Bytes of it then."""

    def arrives(self, message: Message, size: int) -> None:
        """Some of a message has come, `size` bytes so far: begin with its record, or go on."""
        beginning = self._beginning
        if self._arriving is not message:
            if size < _STEP:
                return
            self.forget()
            self._arriving, self._fed = message, size
            sender = self._plain_sender(message)
            if sender is not None and self.stores.plain is not None:
                instance = message.command.affected_sop_instance
                self._beginning = self.stores.plain.begin(instance, message.pieces(), sender)
        elif beginning is not None and size - self._fed >= _STEP:
            self._fed = size
            if not beginning.add(message.pieces(beginning.count)):
                self._beginning = None

    def take(self, message: Message) -> bool:
        """Take a message on; False leaves it to the service."""
        beginning = self._beginning if self._arriving is message else None
        taken = self._take(message, beginning)
        self.forget()
        return taken

    def forget(self) -> None:
        """What has arrived of a message will not come to its end here, unless it has."""
        if self._beginning is not None:
            self._beginning.drop()
        self._arriving = self._beginning = None

    def _take(self, message: Message, beginning: Beginning | None) -> bool:
        stores = self.stores
        plain, context = stores.plain, stores.context
        sender = self._plain_sender(message)
        limit = context.limits.store_seconds
        if plain is None or sender is None or (limit and plain.stalled > limit):
            return False
        pieces = message.pieces()
        size = sum(map(len, pieces))
        if not 0 < size <= MOST:
            return False
        arrival = context.arrivals.begin()
        if not arrival.take(size):
            arrival.end()
            return False
        command = message.command
        one = _UnderWay(self, message.context.id, command, message.begun, arrival)
        try:
            taken = plain.offer(one, command.affected_sop_instance, pieces, sender, beginning)
        except OSError:  # it will be told again, and answered
            taken = False
        if taken:
            stores.begin(one)
        else:
            arrival.end()
        return taken

    def _plain_sender(self, message: Message) -> Sender | None:
        """What a message has in common with others that go this way; None if it doesn't."""
        command, presentation = message.command, message.context
        instance = command.affected_sop_instance
        if (
            command.field is not CommandField.C_STORE_RQ
            or not command.has_data_set
            or command.affected_sop_class != presentation.abstract_syntax
            or not 0 < len(instance) <= _LONGEST_UID
            or not instance.isascii()
        ):
            return None
        try:
            return self._senders[presentation.id]
        except KeyError:
            sender = self._senders[presentation.id] = self._sender(presentation)
            return sender

    def _sender(self, presentation: PresentationContext) -> Sender | None:
        """What its instances have in common; None if they don't go this way."""
        association, context = self.association, self.stores.context
        syntax = presentation.transfer_syntax
        if (
            not is_storage(presentation.abstract_syntax)
            or len(presentation.abstract_syntax) > _LONGEST_UID
            or encoding_of(syntax) != EXPLICIT_LITTLE
            or is_deflated(syntax)
            or context.character_sets.get(association.calling_ae)
            or association.longest_fragment < _LEAST_FRAGMENT
        ):
            return None
        try:
            return Sender(presentation.abstract_syntax, syntax, association.calling_ae, association.called_ae)
        except ValueError:
            return None


class _UnderWay:
    """An instance on its way to the disk, and what is to be answered."""

    __slots__ = (
        "_answered",
        "_arrival",
        "_association",
        "_command",
        "_context_id",
        "_size",
        "begun",
        "received",
    )

    def __init__(
        self, association: PromptAnswers, context_id: int, command: Command, begun: float, arrival: Arrival
    ) -> None:
        self._association = association
        self._context_id = context_id
        self._command = command
        self._arrival = arrival
        self._size = arrival.held
        self._answered = False
        self.begun = begun
        self.received = perf_counter()

    def finish(self, stored: Stored) -> None:
        """It is durable, or was not stored."""
        context = self._association.stores.context
        self._arrival.end()
        if self._answered:
            return
        if stored.error is not None:
            self._refuse(answer_for_error(stored.error))
            return
        association, command, metrics = self._association.association, self._command, context.metrics
        association.answer(
            store_success(self._context_id, command.affected_sop_class, stored.sop_instance, command.message_id)
        )
        metrics.store_digest.observe(stored.digest)
        metrics.store_compress.observe(stored.compress)
        metrics.store_sync.observe(stored.sync)
        self._observe("stored")

    def give_up(self) -> None:
        """It takes too long; what becomes of it is not known."""
        self._answered = True
        self._refuse(STALLED)

    def _refuse(self, answer: Answer) -> None:
        association, command = self._association.association, self._command
        response = encode_command(response_to(command, answer.status, comment=answer.comment))
        association.answer(frame_command(self._context_id, response, association.longest_fragment))
        self._observe(answer.outcome)
        log_answer(association, answer)

    def _observe(self, outcome: str) -> None:
        association, metrics = self._association.association, self._association.stores.context.metrics
        metrics.store_receive.observe(self.received - self.begun)
        metrics.store_acknowledge.observe(perf_counter() - self.received)
        metrics.count_instance(outcome, association.calling_ae, self._size)


def answer_promptly(association: Association, stores: PromptStores) -> PromptAnswers | None:
    """Let the plain instances of an association go the short way, where there is one. Whoever takes a message the other
    way, or ends the association, is to call :meth:`PromptAnswers.forget`."""
    if stores.plain is None:
        return None
    association.prompt = answers = PromptAnswers(association, stores)
    return answers
