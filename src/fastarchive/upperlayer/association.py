"""An association as a service sees it: receive messages, send messages, release, abort."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence

from fastarchive.upperlayer.commands import Command, encode_command
from fastarchive.upperlayer.connection import Connection
from fastarchive.upperlayer.delivery import Prompt
from fastarchive.upperlayer.errors import AssociationAborted, LocalProtocolError
from fastarchive.upperlayer.messages import Message
from fastarchive.upperlayer.negotiation import Agreement, PresentationContext
from fastarchive.upperlayer.pdu import fragment_length, frame_command, frame_data_set
from fastarchive.upperlayer.states import State
from fastarchive.upperlayer.user_information import UserIdentity

__all__ = ["Association", "Message"]

Piece = bytes | memoryview

_BATCH = 1024 * 1024
"""Most bytes of a data set handed to the transport before waiting for room."""
_LONGEST_FRAGMENT = 1024 * 1024
"""Longest P-DATA-TF we send to a peer that sets no limit."""


class Association:
    """An established association, acceptor's or requestor's; made by `acceptor.serve` and `requestor.connect`.

    Not for several threads. One task at a time may receive; sending is serialised message by message.
    """

    def __init__(self, connection: Connection, agreed: Agreement, peer: tuple[str, int]) -> None:
        information = agreed.request.user_information
        self.calling_ae: str = agreed.request.calling_ae
        self.called_ae: str = agreed.request.called_ae
        self.peer = peer
        self.contexts: Mapping[int, PresentationContext] = agreed.contexts
        """Accepted presentation contexts by id."""
        self.is_requestor: bool = connection.machine.is_requestor
        self.extended_negotiation: Mapping[str, bytes] = agreed.extended
        """Application information the acceptor returned, by SOP class (PS3.7 D.3.3.5)."""
        self.user_identity: UserIdentity | None = information.user_identity
        self.peer_maximum_length: int = agreed.peer_maximum_length
        """Longest P-DATA-TF the peer takes, in bytes; 0: no limit (PS3.8 D.1)."""
        self.operations_window: tuple[int, int] = agreed.operations_window
        """Operations (invoked, performed) at once by this side; 0: no limit."""
        peer_information = agreed.accept.user_information if self.is_requestor else information
        self.peer_implementation: tuple[str, str] = (
            peer_information.implementation_class_uid,
            peer_information.implementation_version_name,
        )
        """The peer's implementation class UID and version name."""
        self._connection = connection
        self.longest_fragment: int = fragment_length(self.peer_maximum_length, _LONGEST_FRAGMENT)
        """Most bytes of a message in one PDV."""
        self._sending = asyncio.Lock()
        self._message: Message | None = None
        self.prompt: Prompt | None = None
        """Is offered every request that is not large and has come to its end, while receive() waits; those it takes on,
        receive() never gives."""

    def context_for(self, abstract_syntax: str, transfer_syntax: str | None = None) -> PresentationContext | None:
        """The first accepted context of that abstract syntax (and transfer syntax, if given) in which we may be SCU."""
        for context in self.contexts.values():
            if abstract_syntax != context.abstract_syntax or not context.as_scu:
                continue
            if transfer_syntax is None or transfer_syntax == context.transfer_syntax:
                return context
        return None

    @property
    def is_open(self) -> bool:
        """Whether messages may still be sent."""
        return self._connection.inbox.error is None

    @property
    def release_requested(self) -> bool:
        """The peer wants to end the association, and is owed nothing but the answers under way."""
        return self._connection.inbox.release_requested

    @property
    def given(self) -> int:
        """Bytes that were handed over to be sent so far."""
        return self._connection.out.sent

    @property
    def taken(self) -> int:
        """Those of them that the network has taken: their memory is not looked at any more."""
        return self._connection.out.sent - self._connection.out.unsent

    def cancelled(self, message_id: int) -> bool:
        """Whether the peer has cancelled (C-CANCEL-RQ) the request of that Message ID now under way. Seen as it
        arrives, also while nobody receives; it never becomes a message."""
        return message_id in self._connection.inbox.cancelled

    async def receive(self, idle_limit: float | None = None) -> Message | None:
        """The next request or response; None when the peer has released (and has been answered).

        A long data set may still be arriving; what the service leaves unread of it is dropped by the next receive().
        `idle_limit`: seconds of silence allowed, instead of Timeouts.idle (acceptor) or Timeouts.response (requestor).
        Raises AssociationAborted, AssociationTimeout.
        """
        if self._message is not None:
            self._message.discard()
            self._message = None
        connection = self._connection
        may_end = idle_limit is None and not self.is_requestor  # else the service is within an operation
        if idle_limit is None:
            idle_limit = connection.timeouts.response if self.is_requestor else connection.timeouts.idle
        while True:
            message = connection.inbox.take()
            if message is not None:
                self._message = message
                return message
            if connection.inbox.release_requested and not connection.machine.within_message:
                connection.answer_release()
                return None
            await connection.wait(idle_limit, between_operations=may_end, prompt=self.prompt if may_end else None)

    async def send(
        self,
        context_id: int,
        command: Command,
        data_set: Piece | Iterable[Piece] | AsyncIterable[Piece] | None = None,
    ) -> None:
        """Send one message; returns when the transport has room again.

        `data_set` in one piece or in pieces, of any length and encoded in the context's transfer syntax. A list or
        tuple of pieces goes to the transport at once, an iterator piece by piece as there is room. Nothing is copied,
        so a memoryview must show bytes that never change. A message once begun and not finished (an exception from the
        pieces, a cancellation) aborts the association, which would be of no use any more.
        Raises LocalProtocolError, AssociationAborted, AssociationTimeout, CommandError.
        """
        if command.has_data_set is (data_set is None):
            raise LocalProtocolError("the command says otherwise about a data set than what is to be sent")
        await self.send_encoded(context_id, encode_command(command), data_set)

    async def send_encoded(
        self,
        context_id: int,
        command: bytes,
        data_set: Piece | Iterable[Piece] | AsyncIterable[Piece] | None,
    ) -> None:
        """As send(), for a command set that is encoded already and says rightly whether a data set follows."""
        if context_id not in self.contexts:
            raise LocalProtocolError(f"presentation context {context_id} was not accepted")
        async with self._sending:
            self._may_send()
            head = frame_command(context_id, command, self.longest_fragment)
            if data_set is None:
                self._connection.out.write([head])
            elif isinstance(data_set, Piece) and len(data_set) <= _BATCH:
                self._connection.out.write(
                    [head, *frame_data_set(context_id, data_set, self.longest_fragment, last=True)]
                )
            elif isinstance(data_set, (list, tuple)) and sum(map(len, data_set)) <= _BATCH:
                parts: list[Piece] = [head]
                final = len(data_set) - 1
                for number, piece in enumerate(data_set):
                    parts += frame_data_set(context_id, piece, self.longest_fragment, last=number == final)
                self._connection.out.write(parts)
            else:
                try:
                    await self._send_pieces(context_id, head, data_set)
                except BaseException:
                    self._connection.abort()
                    raise
            await self._connection.out.drain()

    async def _send_pieces(
        self, context_id: int, head: bytes, data_set: Piece | Iterable[Piece] | AsyncIterable[Piece]
    ) -> None:
        connection, longest = self._connection, self.longest_fragment
        parts: list[Piece] = [head]
        pending: Piece = b""  # kept back, because only the last one is marked as such
        async for piece in _pieces(data_set):
            if pending:
                parts += frame_data_set(context_id, pending, longest, last=False)
                connection.out.write(parts)
                parts = []
                await connection.out.drain()
            pending = piece
        parts += frame_data_set(context_id, pending, longest, last=True)
        connection.out.write(parts)

    def answer(self, response: bytes) -> None:
        """Answer what `prompt` took on, with a message in PDUs; nothing happens when the association is over."""
        self._connection.answer(response)

    async def send_framed(self, messages: bytes) -> None:
        """Send messages that are in PDUs already (:func:`frame_message`, with `longest_fragment`), in one write: for
        streams of C-FIND answers. Raises AssociationAborted, AssociationTimeout."""
        async with self._sending:
            self._may_send()
            self._connection.out.write([messages])
            await self._connection.out.drain()

    def expect(self, response: bytes) -> None:
        """Of a `response` in a PDU, if it is what comes next, exchange() tells with None; an empty one is none."""
        self._connection.expected = response

    def heard(self) -> bytes:
        """What the last read from the network brought, for who is told of a response."""
        return self._connection.heard()

    async def exchange(
        self, message: Sequence[Piece], answered: Callable[[Command | None], Sequence[Piece] | None], limit: float
    ) -> None:
        """Requests one after another, each sent the moment the response to the one before arrives: for streams of
        sub-operations, none of which is worth a turn of a task.

        `message` is in PDUs already (:func:`frame_command`, :func:`frame_data_set`, with `longest_fragment`).
        `answered` is called with whatever command comes, or None for the one that was expected (:meth:`expect`), on the
        event loop, and returns the next message; None ends the exchange, and so does what it raises, which is raised
        here. `limit`: seconds the peer may be silent.
        Raises AssociationAborted, AssociationTimeout.
        """
        connection, inbox = self._connection, self._connection.inbox
        following: Sequence[Piece] | None = message
        failure: Exception | None = None

        def hear(command: Command | None) -> None:
            nonlocal following, failure
            try:
                following = answered(command)
                if following is not None and not connection.out.is_full and sum(map(len, following)) <= _BATCH:
                    if command is not None:  # else the association is on
                        self._may_send()
                    connection.out.write(following)
                    return
            except Exception as error:  # it is raised in the task that waits
                following, failure = None, error
            inbox.listener = None

        async with self._sending:
            try:
                while following is not None:
                    self._may_send()
                    connection.out.write(following)
                    inbox.listener = hear
                    await connection.out.drain()
                    while inbox.listener is not None and (early := inbox.take()) is not None:
                        hear(early.command)
                    while inbox.listener is not None:
                        await connection.wait(limit, between_operations=False)
                        if inbox.release_requested and not connection.machine.within_message:
                            connection.answer_release()
                            raise AssociationAborted("released in place of a response")
                    await connection.out.drain()
            finally:
                inbox.listener = None
                connection.expected = b""
        if failure is not None:
            raise failure

    def _may_send(self) -> None:
        error = self._connection.inbox.error
        if error is not None:
            raise error.with_traceback(None)
        self._connection.machine.send_data()

    async def release(self) -> None:
        """Release in order and close. Nothing happens to an association that is over already.
        Raises AssociationTimeout when the peer does not answer."""
        await self._connection.release()

    async def abort(self, source: int = 0, reason: int = 0) -> None:
        """A-ABORT (PS3.8 9.3.8: source 0 the service user, 2 the service provider with a reason) and close. Nothing
        happens to an association that is over already."""
        if self._connection.machine.state is not State.IDLE:
            self._connection.abort(source, reason)


async def _pieces(
    data_set: Piece | Iterable[Piece] | AsyncIterable[Piece],
) -> AsyncIterator[Piece]:
    if isinstance(data_set, Piece):
        view = memoryview(data_set)
        for start in range(0, len(view), _BATCH):
            yield view[start : start + _BATCH]
    elif isinstance(data_set, AsyncIterable):
        async for piece in data_set:
            if piece:
                yield piece
    else:
        for piece in data_set:
            if piece:
                yield piece
