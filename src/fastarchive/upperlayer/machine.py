"""One association's protocol without its socket: bytes in, events out; intent in, bytes out.

`states` holds the table of PS3.8 that decides everything here; this module adds what the table leaves to the reader:
how bytes become PDUs, and PDUs the commands and data sets of DIMSE (PS3.7 6.3, PS3.8 Annex E).

How to use it: give received bytes to `receive_data` and go through the events; write what the other methods return to
the socket. When `state` is IDLE the socket is to be closed; in AWAITING_ASSOCIATE_RQ and AWAITING_CLOSE the ARTIM timer
runs. Nothing here waits, reads a clock, or keeps more than one command set or A-ASSOCIATE PDU in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Final

from fastarchive.upperlayer.commands import CommandError, decode_command
from fastarchive.upperlayer.errors import LocalProtocolError, RemoteProtocolError
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
from fastarchive.upperlayer.negotiation import Agreement, PresentationContext, agreement
from fastarchive.upperlayer.pdu import (
    A_ABORT,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_ASSOCIATE_RQ,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    COMMAND_FRAGMENT,
    DATA_HEADERS,
    LAST_FRAGMENT,
    P_DATA_TF,
    PDU,
    PDU_HEADER,
    PDV_HEADER,
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ReleaseRequest,
    ReleaseResponse,
    decode_pdu,
    encode_pdu,
)
from fastarchive.upperlayer.states import COLLISION_STATES, NEXT_STATES, TRANSITIONS, State, Trigger

USER, PROVIDER = 0, 2
"""Source of an A-ABORT (PS3.8 9.3.8)."""


class AbortReason(IntEnum):
    """Reason of an A-ABORT of the service provider (PS3.8 9.3.8)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


_TRIGGERS = {
    A_ASSOCIATE_RQ: Trigger.ASSOCIATE_RQ_PDU,
    A_ASSOCIATE_AC: Trigger.ASSOCIATE_AC_PDU,
    A_ASSOCIATE_RJ: Trigger.ASSOCIATE_RJ_PDU,
    P_DATA_TF: Trigger.P_DATA_PDU,
    A_RELEASE_RQ: Trigger.RELEASE_RQ_PDU,
    A_RELEASE_RP: Trigger.RELEASE_RP_PDU,
    A_ABORT: Trigger.ABORT_PDU,
}


# What the next received byte belongs to; plain numbers, because they are asked for with every fragment.
_PDU_HEADER: Final = 0
_PDU_BODY: Final = 1  # of anything but P-DATA-TF; collected whole
_PDV_HEADER: Final = 2
_FRAGMENT: Final = 3
_SKIPPED: Final = 4  # a PDU that the state table says to ignore

_ESTABLISHED: Final = State.ESTABLISHED


class Machine:
    """The protocol of one association, on either side.

    `maximum_length`: longest P-DATA-TF we take (0: any), as we advertise it; `command_limit` and `association_limit`:
    longest command set and A-ASSOCIATE PDU in bytes.
    """

    def __init__(
        self,
        *,
        is_requestor: bool,
        maximum_length: int = 131072,
        command_limit: int = 64 * 1024,
        association_limit: int = 1024 * 1024,
    ) -> None:
        self.is_requestor = is_requestor
        self.state = State.IDLE
        self.contexts: Mapping[int, PresentationContext] = {}
        self.maximum_length = maximum_length or 0xFFFFFFFF
        self._command_limit = command_limit
        self._association_limit = association_limit
        self._request: AssociateRequest | None = None
        self._deaf = False  # framing is lost or the association over: what still comes means nothing
        self._reading = _PDU_HEADER
        self._partial = bytearray()  # of a header or body that is not yet whole
        self._pdu_type = 0
        self._pdu_left = 0  # bytes of the PDU not yet read, without those of the fragment being read
        self._fragment_left = 0
        self._fragment_control = 0
        self._command = bytearray()
        self._command_context = 0  # context of a command set that is not yet whole
        self._data_context = 0  # context of the data set that is due
        self._step(Trigger.ASSOCIATE_REQUEST if is_requestor else Trigger.TRANSPORT_INDICATED)

    # -- intent in, bytes out ---------------------------------------------------------------------------------------

    def request(self, request: AssociateRequest) -> bytes:
        """A-ASSOCIATE request, once connected."""
        data = encode_pdu(request)
        self._local(Trigger.TRANSPORT_CONFIRMED)
        self._request = request
        return data

    def accept(self, agreed: Agreement) -> bytes:
        """A-ASSOCIATE response, accepting."""
        data = encode_pdu(agreed.accept)
        self._local(Trigger.ACCEPT)
        self.contexts = agreed.contexts
        return data

    def reject(self, reject: AssociateReject) -> bytes:
        """A-ASSOCIATE response, rejecting."""
        self._local(Trigger.REJECT)
        return encode_pdu(reject)

    def send_data(self) -> None:
        """P-DATA request: whether data may be sent now. The PDUs are the caller's to frame (`pdu.frame_…`)."""
        self._local(Trigger.SEND_DATA)

    def release(self) -> bytes:
        """A-RELEASE request."""
        self._local(Trigger.RELEASE)
        return encode_pdu(ReleaseRequest())

    def answer_release(self) -> bytes:
        """A-RELEASE response."""
        self._local(Trigger.RELEASE_ANSWER)
        return encode_pdu(ReleaseResponse())

    def abort(self, source: int = USER, reason: int = 0) -> bytes:
        """A-ABORT request, in any state; nothing to send when there is no association any more, or not yet."""
        if (Trigger.ABORT, self.state) not in TRANSITIONS:
            if self.state is State.AWAITING_ASSOCIATE_RQ:
                self.state = State.IDLE
            return b""
        self._deaf = True
        return encode_pdu(Abort(source, reason)) if self._step(Trigger.ABORT) == "AA-1" else b""

    def artim_expired(self) -> None:
        """The ARTIM timer ran out: the connection is to be closed."""
        if (Trigger.ARTIM_EXPIRED, self.state) in TRANSITIONS:
            self._step(Trigger.ARTIM_EXPIRED)

    def _local(self, trigger: Trigger) -> None:
        if (trigger, self.state) not in TRANSITIONS:
            raise LocalProtocolError(f"{trigger.name} is not possible in state {self.state.name}")
        self._step(trigger)

    def _step(self, trigger: Trigger) -> str:
        """Go the way the table says; the action is returned for the caller to carry out."""
        action = TRANSITIONS[trigger, self.state]
        self.state = COLLISION_STATES[self.is_requestor] if action == "AR-8" else State(NEXT_STATES[action])
        return action

    # -- bytes in, events out ---------------------------------------------------------------------------------------

    @property
    def within_message(self) -> bool:
        """Whether the peer has begun a PDU or message that is not yet whole."""
        return bool(self._data_context or self._command_context or self._reading or self._partial)

    @property
    def is_at_rest(self) -> bool:
        """Whether the association is on and the next byte begins a message."""
        return self.state is _ESTABLISHED and not self.within_message

    def connection_lost(self) -> Iterator[Event]:
        """The transport connection is closed."""
        if (Trigger.TRANSPORT_CLOSED, self.state) in TRANSITIONS and self._step(Trigger.TRANSPORT_CLOSED) == "AA-4":
            yield ConnectionLost()

    def receive_data(self, data: memoryview) -> Iterator[Event]:
        """Events of received bytes, in order. Go through them to the end before the next call; what of `data` is needed
        later is copied.

        Raises RemoteProtocolError, in its place after the events before it, with the A-ABORT to send. Nothing that
        follows is understood any more then.
        """
        position, end = 0, len(data)
        while position < end and not self._deaf:
            reading = self._reading
            if reading == _FRAGMENT:
                if self._fragment_control & COMMAND_FRAGMENT:
                    stop = min(position + self._fragment_left, end)
                    self._fragment_left -= stop - position
                    self._command += data[position:stop]
                    if not self._fragment_left:
                        yield from self._end_fragment()
                else:
                    stop, pieces = self._gather(data, position, end)
                    whole = not self._fragment_left
                    last = whole and bool(self._fragment_control & LAST_FRAGMENT)
                    if last:
                        self._data_context = 0
                    yield DataReceived(bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces), last)
                    if whole:
                        self._after_fragment()
                position = stop
            elif reading == _PDU_HEADER and end - position >= DATA_HEADERS.size and self._takes_data(data, position):
                position += DATA_HEADERS.size
                if not self._fragment_left:
                    yield from self._end_fragment()
            elif reading in (_PDU_BODY, _SKIPPED):
                stop = min(position + self._pdu_left, end)
                self._pdu_left -= stop - position
                if reading == _PDU_BODY:
                    self._partial += data[position:stop]
                position = stop
                if not self._pdu_left:
                    self._reading = _PDU_HEADER
                    if reading == _PDU_BODY:
                        body = bytes(self._partial)
                        self._partial.clear()
                        yield from self._receive_pdu(body)
            else:  # both headers have six bytes
                header: memoryview | bytearray = data[position : position + 6 - len(self._partial)]
                position += len(header)
                if self._partial or len(header) < 6:
                    self._partial += header
                    if len(self._partial) < 6:
                        break
                    header, self._partial = self._partial, bytearray()
                if reading == _PDU_HEADER:
                    self._begin_pdu(*PDU_HEADER.unpack(header))
                else:
                    self._begin_fragment(*PDV_HEADER.unpack(header))
                    if not self._fragment_left:
                        yield from self._end_fragment()

    def _gather(self, data: memoryview, position: int, end: int) -> tuple[int, list[memoryview]]:
        """What there is of the data set from `position` within a fragment on, over all PDUs that hold nothing but the
        next fragment of it, and where that ends. Whatever comes differently is left to the others here to judge."""
        left, control, context_id = self._fragment_left, self._fragment_control, self._data_context
        pieces: list[memoryview] = []
        while True:
            start, position = position, min(position + left, end)
            pieces.append(data[start:position])
            left -= position - start
            if left or control or self._pdu_left or end - position < DATA_HEADERS.size:
                break
            kind, length, fragment, context, following = DATA_HEADERS.unpack_from(data, position)
            if (
                kind != P_DATA_TF
                or length > self.maximum_length
                or fragment + 4 != length
                or fragment <= 2
                or context != context_id
                or following & COMMAND_FRAGMENT
                or self.state is not _ESTABLISHED
            ):
                break
            position += DATA_HEADERS.size
            left, control = fragment - 2, following
        self._fragment_left, self._fragment_control = left, control
        return position, pieces

    def _takes_data(self, data: memoryview, position: int) -> bool:
        """Whether a P-DATA-TF is next, as nearly always while an association is on; its first PDV is begun then. Raises
        RemoteProtocolError. What else it may be is for _begin_pdu() to see."""
        kind, length, fragment, context_id, control = DATA_HEADERS.unpack_from(data, position)
        if (
            kind != P_DATA_TF
            or length < PDV_HEADER.size
            or length > self.maximum_length
            or self._partial
            or self.state is not _ESTABLISHED
        ):
            return False
        self._pdu_type, self._pdu_left = kind, length
        self._begin_fragment(fragment, context_id, control)
        return True

    def _begin_pdu(self, kind: int, length: int) -> None:
        trigger = _TRIGGERS.get(kind)
        if trigger is None:
            raise self._violation("unrecognized PDU type", AbortReason.UNRECOGNIZED_PDU)
        self._pdu_type, self._pdu_left = kind, length
        if trigger is Trigger.P_DATA_PDU:
            if length > self.maximum_length:
                raise self._violation("P-DATA-TF longer than our maximum length", AbortReason.INVALID_PARAMETER)
            # Judged before its body is read; the other PDUs are judged whole.
            if self.state is not State.ESTABLISHED and not self._expects(trigger):
                self._reading = _SKIPPED if length else _PDU_HEADER
            elif length:
                self._reading = _PDV_HEADER
            return
        if length > self._association_limit or (length != 4 and kind not in (A_ASSOCIATE_RQ, A_ASSOCIATE_AC)):
            raise self._violation("PDU of an impossible length", AbortReason.INVALID_PARAMETER)
        if not length:
            raise self._violation("empty PDU", AbortReason.INVALID_PARAMETER)
        self._reading = _PDU_BODY

    def _begin_fragment(self, length: int, context_id: int, control: int) -> None:
        if length < 2 or length + 4 > self._pdu_left:
            raise self._violation("fragment reaches past its PDU", AbortReason.INVALID_PARAMETER)
        self._pdu_left -= length + 4
        self._fragment_left = length - 2
        self._fragment_control = control
        self._reading = _FRAGMENT
        if context_id not in self.contexts:
            raise self._violation("fragment of a context that was not accepted", AbortReason.INVALID_PARAMETER)
        if not control & COMMAND_FRAGMENT:
            if context_id != self._data_context:
                raise self._violation("data set where a command is due", AbortReason.UNEXPECTED_PARAMETER)
        elif self._data_context:
            raise self._violation("command before the end of a data set", AbortReason.UNEXPECTED_PARAMETER)
        elif self._command_context and self._command_context != context_id:
            raise self._violation("command continued in another context", AbortReason.UNEXPECTED_PARAMETER)
        elif len(self._command) + self._fragment_left > self._command_limit:
            raise self._violation("command set too long", AbortReason.INVALID_PARAMETER)
        else:
            self._command_context = context_id

    def _after_fragment(self) -> None:
        if not self._pdu_left:
            self._reading = _PDU_HEADER
        elif self._pdu_left < PDV_HEADER.size:
            raise self._violation("bytes after the last fragment of a PDU", AbortReason.INVALID_PARAMETER)
        else:
            self._reading = _PDV_HEADER

    def _end_fragment(self) -> Iterator[Event]:
        """A fragment of a command, or an empty one, is whole."""
        last = bool(self._fragment_control & LAST_FRAGMENT)
        if not self._fragment_control & COMMAND_FRAGMENT:
            if last:
                self._data_context = 0
                yield DataReceived(b"", True)
        elif last:
            context = self.contexts[self._command_context]
            try:
                command = decode_command(self._command)
            except CommandError as error:
                raise self._violation(str(error), AbortReason.INVALID_PARAMETER) from error
            self._command.clear()
            self._command_context = 0
            if command.has_data_set:
                self._data_context = context.id
            yield CommandReceived(context, command)
        self._after_fragment()

    def _receive_pdu(self, body: bytes) -> Iterator[Event]:
        """Any PDU but P-DATA-TF, whole."""
        trigger = _TRIGGERS[self._pdu_type]
        if not self._expects(trigger):
            return
        if (self._data_context or self._command_context) and trigger is not Trigger.ABORT_PDU:
            raise self._violation("the association changes within a message", AbortReason.UNEXPECTED_PDU)
        try:
            pdu = decode_pdu(self._pdu_type, body)
        except RemoteProtocolError as error:
            raise self._violation(str(error), error.reason) from error
        action = self._step(trigger)
        event = self._perform(action, pdu)
        if self.state is State.IDLE:
            self._deaf = True
        if event is not None:
            yield event

    def _expects(self, trigger: Trigger) -> bool:
        """Whether the table wants this PDU acted on; False: it is to be ignored. Raises for one out of order."""
        action = TRANSITIONS.get((trigger, self.state), "AA-6")
        if action in ("AA-1", "AA-7", "AA-8"):
            message = f"{trigger.name} in state {self.state.name}"
            self._step(trigger)
            self._deaf = True
            reply = encode_pdu(Abort(PROVIDER, AbortReason.UNEXPECTED_PDU))
            raise RemoteProtocolError(message, source=PROVIDER, reason=AbortReason.UNEXPECTED_PDU, reply=reply)
        return action != "AA-6"

    def _perform(self, action: str, pdu: PDU) -> Event | None:
        match pdu:
            case AssociateRequest():
                return AssociationRequested(pdu)
            case AssociateAccept() if self._request is not None:
                agreed = agreement(self._request, pdu, is_requestor=True)
                self.contexts = agreed.contexts
                return AssociationEstablished(agreed)
            case AssociateReject():
                return AssociationRefused(pdu)
            case ReleaseRequest():
                return ReleaseRequested(collision=action == "AR-8")
            case ReleaseResponse():
                return Released()
            case Abort() if action == "AA-3":
                return Aborted(pdu.source, pdu.reason)
            case _:
                return None  # AA-2: the connection is closed without a word to the user

    def _violation(self, message: str, reason: int) -> RemoteProtocolError:
        """The peer sent what cannot be understood (event 19): an error for the caller to raise. Its A-ABORT names the
        service provider as source in every state, also where Table 9-9 would have the user's (AA-1): the user did
        nothing, and the reason is of use to who reads the peer's log."""
        self._deaf = True
        reply = b""
        if (Trigger.INVALID_PDU, self.state) in TRANSITIONS:
            self._step(Trigger.INVALID_PDU)
            reply = encode_pdu(Abort(PROVIDER, reason))
        return RemoteProtocolError(message, source=PROVIDER, reason=reason, reply=reply)
