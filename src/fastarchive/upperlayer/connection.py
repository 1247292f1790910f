"""A socket under a Machine: reads into events, intent into writes, flow control of what is read, and every timer.

An asyncio BufferedProtocol, because its callbacks cost half of what byte streams cost; anyio is above it. POSIX event
loops only: they fill the buffer and report it in one go, so all connections of a server share one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from math import inf
from typing import cast

import anyio

from fastarchive.upperlayer.deadlines import Deadlines
from fastarchive.upperlayer.delivery import Delivery, Prompt
from fastarchive.upperlayer.errors import (
    AssociationAborted,
    AssociationRejected,
    AssociationTimeout,
    RemoteProtocolError,
)
from fastarchive.upperlayer.events import (
    Aborted,
    AssociationEstablished,
    AssociationRefused,
    AssociationRequested,
    CommandReceived,
    ConnectionLost,
    DataReceived,
    Event,
    Released,
    ReleaseRequested,
)
from fastarchive.upperlayer.machine import PROVIDER, Machine
from fastarchive.upperlayer.messages import Crowd, Inbox
from fastarchive.upperlayer.negotiation import Agreement
from fastarchive.upperlayer.options import PROGRESS, Limits, Timeouts
from fastarchive.upperlayer.outflow import Outflow
from fastarchive.upperlayer.pdu import AssociateReject, AssociateRequest
from fastarchive.upperlayer.states import State

READ_BUFFER_SIZE = 272 * 1024
"""Half a CT slice, which would need a third read for its last bytes if this were the power of two. Fits a processor's
second level cache, whence the fragments are copied out at once."""
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux only

_OPEN = (State.ESTABLISHED, State.AWAITING_LOCAL_RELEASE)  # data may arrive, or be sent

Decide = Callable[[AssociateRequest], Agreement | AssociateReject]


def read_buffer() -> memoryview:
    """A buffer for Connections of one event loop to share."""
    return memoryview(bytearray(READ_BUFFER_SIZE))


class Connection(asyncio.BufferedProtocol):
    """One connection from its first byte to the close of its socket. Everything runs on the event loop.

    `decide` answers an A-ASSOCIATE-RQ (acceptor only). `crowd` is what its server's connections have in common.
    """

    def __init__(
        self,
        sock: socket.socket,
        machine: Machine,
        *,
        buffer: memoryview,
        timeouts: Timeouts,
        limits: Limits,
        decide: Decide | None = None,
        crowd: Crowd | None = None,
    ) -> None:
        self.machine = machine
        self.timeouts = timeouts
        self.agreement: Agreement | None = None
        self.outcome = "lost"
        self.received = 0
        self._crowd = crowd or Crowd(limits.together)
        self.inbox = Inbox(limit=limits.unconsumed, on_consumed=self._consumed, crowd=self._crowd)
        loop = asyncio.get_running_loop()
        self.established: asyncio.Future[Agreement | None] = loop.create_future()
        """The agreement; None when there will be none (rejected, aborted, lost: see `inbox.error`, `rejection`)."""
        self.rejection: AssociationRejected | None = None
        self.closed: asyncio.Future[None] = loop.create_future()
        """Done when the socket is closed."""
        self._loop = loop
        self._socket = sock
        self._buffer = buffer
        self._limit = limits.unconsumed
        self._least = min(limits.least, limits.unconsumed)
        self._decide = decide
        self._transport: asyncio.Transport | None = None
        self._reading_paused = False
        self._released: asyncio.Future[None] | None = None
        self._read_mark = 0  # received at the last progress
        self._last_read = 0  # bytes
        self._within_message = False
        self._idle_limit = inf
        self._quiet_limit = inf
        self._between_operations = False
        self.expected = b""
        """A command in a PDU of which the listener is told None, if it comes next and in one piece."""
        self._deadlines = Deadlines(loop, self._expire)
        self.out = Outflow(self.inbox, self._deadlines, timeouts.write)
        self._delivery = Delivery(self.inbox, machine, self.out, self._deadlines)

    # -- callbacks of the event loop --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not derived from asyncio's
        self.out.begin(self._transport)
        with contextlib.suppress(OSError):  # the peer may be gone already
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.machine.state is State.AWAITING_ASSOCIATE_RQ:
            self._deadlines.set_reading("artim", self.timeouts.artim)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += nbytes
        if nbytes == len(self.expected) and self._buffer[:nbytes] == self.expected and self._hear_expected():
            return
        self._last_read = nbytes
        if self._delivery.takes(self._buffer[:nbytes]):
            return
        try:
            for event in self.machine.receive_data(self._buffer[:nbytes]):
                self._handle(event)
        except RemoteProtocolError as error:
            self.out.put(error.reply)
            self._end(AssociationAborted(str(error), source=error.source, reason=error.reason), "protocol-error")
        self._after_read()

    def _hear_expected(self) -> bool:
        """What was read is the command that is expected, if a command can come now."""
        inbox = self.inbox
        if inbox.listener is None or not self.machine.is_at_rest:
            return False
        self.expected = b""
        inbox.listener(None)
        self._set_idle_deadline()
        inbox.wake()
        return True

    def heard(self) -> bytes:
        """What the last read brought, for a listener that is told of it."""
        return bytes(self._buffer[: self._last_read])

    def eof_received(self) -> bool:
        return False  # the transport closes itself; connection_lost follows

    def connection_lost(self, exc: Exception | None) -> None:
        for event in self.machine.connection_lost():
            self._handle(event)
        self.inbox.fail(AssociationAborted("connection closed", source=PROVIDER, by_peer=True))
        self.inbox.leave()
        self._settle()
        self.out.resume()
        self._deadlines.stop()
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self.out.pause()

    def resume_writing(self) -> None:
        self.out.resume()

    # -- events of the machine --------------------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        match event:
            case DataReceived():
                self.inbox.add_data(event.data, event.last)
            case CommandReceived():
                self.inbox.add_command(event.context, event.command)
            case AssociationRequested() if self._decide is not None:
                answer = self._decide(event.request)
                if isinstance(answer, AssociateReject):
                    self.out.put(self.machine.reject(answer))
                    self._refuse(answer)
                else:
                    self.out.put(self.machine.accept(answer))
                    self._establish(answer)
            case AssociationEstablished():
                self._establish(event.agreement)
            case AssociationRefused():
                self._refuse(event.reject)
            case ReleaseRequested(collision):
                self.inbox.release_requested = True
                if collision and self.machine.is_requestor:
                    self.out.put(self.machine.answer_release())
            case Released():
                if self.machine.state is State.COLLISION_ACCEPTOR_AWAITING_LOCAL:
                    self.out.put(self.machine.answer_release())
                self._end(AssociationAborted("association released"), "released")
            case Aborted():
                error = AssociationAborted(
                    "aborted by the peer", source=event.source, reason=event.reason, by_peer=True
                )
                self._end(error, "peer-aborted")
            case ConnectionLost():
                self._end(AssociationAborted("connection lost", source=PROVIDER, by_peer=True), "lost")

    def _establish(self, agreed: Agreement) -> None:
        self.agreement = agreed
        self._deadlines.set_reading("", inf)
        if not self.established.done():
            self.established.set_result(agreed)

    def _refuse(self, reject: AssociateReject) -> None:
        self.rejection = AssociationRejected(reject.result, reject.source, reject.reason)
        self._end(AssociationAborted("association rejected"), "rejected")

    def _end(self, error: AssociationAborted, outcome: str) -> None:
        """The association is over; what is left is to close. The first reason counts."""
        if self.inbox.error is None:
            self.outcome = outcome
        self.inbox.fail(error)
        self._settle()
        self.out.wake()
        self._close_when_due()

    def _settle(self) -> None:
        if not self.established.done():
            self.established.set_result(None)
        if self._released is not None and not self._released.done():
            self._released.set_result(None)

    def _close_when_due(self) -> None:
        """Close the socket when the state table says so, else give the peer ARTIM to do it."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._deadlines.set_reading("artim", self.timeouts.artim)
        if self.machine.state is State.IDLE:
            transport.close()  # after what is still to be written, but no later than ARTIM
        else:
            self._resume_reading()  # to see the peer close; the machine takes no more data

    # -- reading ----------------------------------------------------------------------------------------------------

    def _after_read(self) -> None:
        machine, inbox = self.machine, self.inbox
        if inbox.error is not None:
            self._close_when_idle()
            return
        if machine.state is State.IDLE:  # an A-ABORT before there was an association (PS3.8 Table 9-10, AA-2)
            self._end(AssociationAborted("aborted by the peer", by_peer=True), "peer-aborted")
            return
        within_message = machine.within_message
        if within_message and _QUICKACK is not None:
            # Without it a sender with Nagle's algorithm on waits 40 ms for our delayed ACK before its last segment.
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        if inbox.unconsumed > self._least and (inbox.unconsumed > self._limit or self._crowd.held > self._crowd.limit):
            self._pause_reading()
        elif machine.state in _OPEN:
            if within_message:
                if not self._within_message or self.received - self._read_mark >= PROGRESS:
                    self._read_mark = self.received
                    self._deadlines.set_reading("dimse", self.timeouts.dimse)
            elif self._within_message or inbox.is_waiting:
                self._set_idle_deadline()
        self._within_message = within_message
        self._delivery.deliver()

    def answer(self, response: bytes) -> None:
        """The answer to a message that was taken on promptly, in PDUs."""
        self._delivery.is_answering = False
        if self.inbox.error is not None:
            return
        if self.machine.state is not State.ESTABLISHED:
            self.machine.send_data()
        self.out.put(response)
        if not self._reading_paused and not self.machine.within_message:
            self._set_idle_deadline()
        self._delivery.deliver()

    def _close_when_idle(self) -> None:
        if self.machine.state is State.IDLE:
            self._close_when_due()

    def _pause_reading(self) -> None:
        if not self._reading_paused and self._transport is not None:
            self._reading_paused = self.inbox.paused = True
            self._transport.pause_reading()
            self._deadlines.set_reading("", inf)  # it is not the peer that keeps us waiting

    def _resume_reading(self) -> None:
        if self._reading_paused and self._transport is not None:
            self._reading_paused = self.inbox.paused = False
            self._read_mark = self.received
            if self.machine.within_message and self.machine.state in _OPEN:
                self._deadlines.set_reading("dimse", self.timeouts.dimse)
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def _consumed(self) -> None:
        if self._reading_paused:
            crowded = self._crowd.held > self._crowd.limit
            if self.inbox.unconsumed <= (self._least if crowded else self._limit) // 2:
                self._resume_reading()

    async def wait(self, idle_limit: float, *, between_operations: bool, prompt: Prompt | None = None) -> None:
        """Until the inbox is worth looking at; silence of `idle_limit` seconds ends the association, and that of
        end_when_quiet() too if the wait is `between_operations`. Meanwhile `prompt` is offered messages that are whole.

        Raises AssociationAborted, AssociationTimeout.
        """
        self._idle_limit, self._between_operations, self._delivery.prompt = idle_limit, between_operations, prompt
        if not self.machine.within_message:
            self._set_idle_deadline()
        try:
            await self.inbox.wait()
        finally:
            self._idle_limit, self._between_operations, self._delivery.prompt = inf, False, None
            if self._deadlines.reading == "idle":
                self._deadlines.set_reading("", inf)

    def end_when_quiet(self, seconds: float) -> None:
        """From now on silence between operations ends the association after `seconds`."""
        self._quiet_limit = seconds
        if self._deadlines.reading == "idle":
            self._set_idle_deadline()

    def _set_idle_deadline(self) -> None:
        """Idle time starts now, if the service waits for a message."""
        if self._delivery.is_answering:
            return
        quiet_limit = self._quiet_limit if self._between_operations else inf
        self._deadlines.set_reading("idle", min(self._idle_limit, quiet_limit))

    # -- establishing and ending ------------------------------------------------------------------------------------

    async def request(self, request: AssociateRequest) -> Agreement:
        """Propose an association. Raises AssociationRejected, AssociationAborted, AssociationTimeout."""
        self.out.put(self.machine.request(request))
        self._deadlines.set_reading("acse", self.timeouts.acse)
        agreed = await self.established
        if agreed is None:
            if self.rejection is not None:
                raise self.rejection
            assert self.inbox.error is not None
            raise self.inbox.error.with_traceback(None)
        return agreed

    async def release(self) -> None:
        """A-RELEASE, or the answer to the peer's; returns when the association is over, however it ended."""
        state = self.machine.state
        if state is State.AWAITING_LOCAL_RELEASE:
            self.answer_release()
        elif state is State.ESTABLISHED:
            self._released = self._loop.create_future()
            self.out.put(self.machine.release())
            self.inbox.close()
            self._resume_reading()
            self._deadlines.set_reading("acse", self.timeouts.acse)
            await self._released

    def answer_release(self) -> None:
        """Answer the peer's A-RELEASE-RQ; it is for the peer to close."""
        self.out.put(self.machine.answer_release())
        self._end(AssociationAborted("association released"), "released")

    def abort(self, source: int = 0, reason: int = 0, *, error: AssociationAborted | None = None) -> None:
        """A-ABORT if there is an association to abort; every wait ends with `error`."""
        self.out.put(self.machine.abort(source, reason))
        outcome = "timeout" if isinstance(error, AssociationTimeout) else "aborted"
        self._end(error or AssociationAborted("aborted by us", source=source, reason=reason), outcome)

    async def finish(self, patience: float) -> None:
        """Leave nothing behind: abort what is not over, give the peer `patience` seconds to close, then close.

        Cancelling it ends the patience and nothing else: the socket is closed when this returns or raises.
        """
        if self._transport is None:
            self._socket.close()
            return
        if self.inbox.error is None:
            self.abort()
        if self.machine.state is State.IDLE or self._transport.is_closing():
            self._transport.close()
        try:
            await asyncio.wait([self.closed], timeout=patience)
        finally:
            if not self.closed.done():
                self._transport.abort()
                with anyio.CancelScope(shield=True):
                    await self.closed

    # -- timers -----------------------------------------------------------------------------------------------------

    def _expire(self, timer: str) -> None:
        if timer == "write":
            if not self.out.goes_on():
                self.abort(PROVIDER, error=AssociationTimeout("write"))
        elif timer == "artim":
            self.machine.artim_expired()
            if self.inbox.error is None:
                self._end(AssociationTimeout("artim"), "timeout")
            if self._transport is not None:
                self._transport.abort()
        elif timer == "idle" and self._between_operations and self._quiet_limit < self._idle_limit:
            self.abort(PROVIDER, error=AssociationAborted("we are stopping", source=PROVIDER))
        else:
            self.abort(PROVIDER, error=AssociationTimeout(timer))
