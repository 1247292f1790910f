"""The requestor's side of one association without sockets: bytes in → events out, intent in → buffers out.

One request at a time is under way, as DIMSE works without an asynchronous window. Data sets that arrive by C-GET are
counted and dropped as they come, so that receiving costs the harness next to nothing; identifiers are kept.

States: *requested* → (A-ASSOCIATE-AC) → *open* → (A-RELEASE-RQ sent) → *releasing* → (A-RELEASE-RP) → *closed*.
A-ASSOCIATE-RJ and A-ABORT lead to *closed* from anywhere. PS3.8 9.2 and 9.3, PS3.7 9.3.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from bench.messages import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    C_FIND,
    C_GET,
    C_MOVE,
    C_STORE,
    DATA,
    NO_DATA_SET,
    RELEASE_RP,
    RELEASE_RQ,
    RESPONSE,
    Context,
    RequestError,
    Response,
    as_response,
    command_pdu,
    decode_accept,
    decode_command,
    encode_associate,
    encode_command,
    store_command_pdu,
    text_of,
)

Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Accepted:
    """The association is open; `syntaxes` are the transfer syntaxes of the accepted contexts, by context id."""

    syntaxes: dict[int, str]


@dataclass(frozen=True, slots=True)
class Ended:
    """The association is over: released, or rejected or aborted for `reason`."""

    reason: str = ""


@dataclass(slots=True)
class Answered:
    """A response to the request under way, with its identifier if it has one."""

    response: Response
    identifier: bytes


@dataclass(frozen=True, slots=True)
class Delivered:
    """A data set arrived by C-STORE during a C-GET and was dropped. `reply` is what to send: it says 0000."""

    sop_instance: str
    size: int
    reply: list[Buffer]


_STATUS = struct.pack("<HHLHHHL", 0x0000, 0x0800, 2, NO_DATA_SET, 0x0000, 0x0900, 2)
"""Command Data Set Type (0000,0800) that says none, then tag and length of Status (0000,0900)."""
_LENGTHS = struct.Struct(">2xLL").unpack_from
"""Of a PDU and of its first value."""

Event = Accepted | Ended | Answered | Delivered

_STORED = Answered(Response(0), b"")
"""What nearly every response means."""


class Conversation:
    """One association as the requestor sees it."""

    def __init__(self, contexts: Sequence[Context], *, calling: str = "BENCH", called: str = "ANY-SCP") -> None:
        self.proposed = tuple(contexts)
        self.hello = encode_associate(contexts, calling=calling, called=called)
        """The A-ASSOCIATE-RQ to send first."""
        self.state = "requested"
        self.fragment = 1 << 20
        """Longest fragment the peer takes, in bytes."""
        self._contexts: dict[tuple[str, str | None], int] = {}
        self._message_id = 0
        self._input = bytearray()
        self._command = b""
        self._identifier = b""
        self._stored: dict[int, bytes] = {}
        self._size = 0
        # Where we are inside a P-DATA-TF whose value is taken as it comes.
        self._pdu_left = 0
        self._value_left = 0
        self._context = 0
        self._control = 0
        self._storing = False

    # ---------------------------------------------------------------- out

    def context_of(self, abstract_syntax: str, transfer_syntax: str | None = None) -> int:
        """The id of an accepted context. Raises RequestError when there is none."""
        number = self._contexts.get((abstract_syntax, transfer_syntax))
        if number is None:
            raise RequestError(
                f"no context accepted for {abstract_syntax} with {transfer_syntax or 'any transfer syntax'}"
            )
        return number

    def store(
        self, sop_class: str, sop_instance: str, transfer_syntax: str, data_set: Sequence[Buffer]
    ) -> list[Buffer]:
        """C-STORE-RQ and the data set, given in pieces that are sent one after the other without being joined."""
        context = self.context_of(sop_class, transfer_syntax)
        command = store_command_pdu(context, sop_class, sop_instance, self._next_message_id())
        self._storing = True
        return [command, *self._data_pdus(context, data_set)]

    def find(self, model: str, identifier: bytes) -> list[Buffer]:
        """C-FIND-RQ."""
        return self._message(
            self.context_of(model), {0x0002: model, 0x0100: C_FIND, 0x0700: 0, 0x0800: 1}, [identifier]
        )

    def get(self, model: str, identifier: bytes) -> list[Buffer]:
        """C-GET-RQ."""
        return self._message(self.context_of(model), {0x0002: model, 0x0100: C_GET, 0x0700: 0, 0x0800: 1}, [identifier])

    def move(self, model: str, identifier: bytes, destination: str) -> list[Buffer]:
        """C-MOVE-RQ."""
        command: dict[int, int | str] = {0x0002: model, 0x0100: C_MOVE, 0x0600: destination, 0x0700: 0, 0x0800: 1}
        return self._message(self.context_of(model), command, [identifier])

    def release(self) -> bytes:
        """A-RELEASE-RQ."""
        self.state = "releasing"
        return struct.pack(">BxLL", RELEASE_RQ, 4, 0)

    def _next_message_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        self._storing = False
        return self._message_id

    def _message(self, context: int, command: dict[int, int | str], data_set: Sequence[Buffer]) -> list[Buffer]:
        command[0x0110] = self._next_message_id()
        return [command_pdu(context, encode_command(command)), *self._data_pdus(context, data_set)]

    def _data_pdus(self, context: int, data_set: Sequence[Buffer]) -> list[Buffer]:
        left = sum(map(len, data_set))
        fragment = self.fragment
        if left <= fragment:
            return [_data_head(context, left, 2), *filter(len, data_set)]
        out: list[Buffer] = []
        # Each PDU is filled to the peer's limit, across the pieces of the data set.
        room = 0
        for piece in data_set:
            size = len(piece)
            view = memoryview(piece)
            begin = 0
            while begin < size:
                if not room:
                    room = min(fragment, left)
                    left -= room
                    out.append(_data_head(context, room, 0 if left else 2))
                end = begin + room
                end = min(end, size)
                out.append(view[begin:end])
                room -= end - begin
                begin = end
        return out

    # ---------------------------------------------------------------- in

    def receive(self, data: Buffer) -> list[Event]:
        """What the bytes that arrived mean. Raises RequestError for bytes that make no sense."""
        if not self._input and self._storing and (status := _only_status(data)) is not None:
            return [_STORED if status == 0 else Answered(Response(status), b"")]
        self._input += data
        events: list[Event] = []
        offset = 0
        end = len(self._input)
        while offset < end:
            if self._pdu_left:
                taken = self._take_value(offset, end, events)
                if not taken:
                    break
                offset += taken
                continue
            if end - offset < 6:
                break
            kind, length = struct.unpack_from(">BxL", self._input, offset)
            if kind == DATA and self.state != "requested":
                self._pdu_left = length
                offset += 6
                continue
            if end - offset < 6 + length:
                break
            events += self._control_pdu(kind, bytes(self._input[offset + 6 : offset + 6 + length]))
            offset += 6 + length
        del self._input[:offset]
        return events

    def _control_pdu(self, kind: int, body: bytes) -> list[Event]:
        if kind == ASSOCIATE_AC and self.state == "requested":
            results, maximum = decode_accept(body)
            # PS3.8 D.1: 0 means that there is no limit.
            self.fragment = (maximum or 1 << 20) - 6
            if self.fragment <= 0:
                raise RequestError(f"the peer takes PDUs of {maximum} bytes only")
            syntaxes = {number: syntax for number, (result, syntax) in results.items() if result == 0}
            for number, syntax in syntaxes.items():
                abstract = self.proposed[number // 2].abstract_syntax
                self._contexts[abstract, syntax] = number
                self._contexts.setdefault((abstract, None), number)
            self.state = "open"
            return [Accepted(syntaxes)]
        if kind == RELEASE_RP and self.state == "releasing":
            self.state = "closed"
            return [Ended()]
        if kind == ASSOCIATE_RJ and self.state == "requested":
            self.state = "closed"
            return [Ended(f"rejected: {body[1:4].hex(' ')}")]
        if kind == ABORT:
            self.state = "closed"
            return [Ended(f"aborted: {body[2:4].hex(' ')}")]
        raise RequestError(f"PDU {kind:#04x} in state {self.state}")

    def _take_value(self, offset: int, end: int, events: list[Event]) -> int:
        """Consume a part of a P-DATA-TF; how many bytes, 0 to wait for more."""
        if not self._value_left:
            if end - offset < 6:
                return 0
            length, self._context, self._control = struct.unpack_from(">LBB", self._input, offset)
            if not 2 <= length <= self._pdu_left - 4:
                raise RequestError(f"a presentation data value of {length} bytes in {self._pdu_left}")
            self._value_left = length - 2
            self._pdu_left -= 6
            if not self._value_left:
                self._value_ended(events)
            return 6
        size = min(self._value_left, end - offset)
        if self._control & 1:
            self._command += self._input[offset : offset + size]
        elif not self._stored:
            self._identifier += self._input[offset : offset + size]
        else:
            self._size += size
        self._value_left -= size
        self._pdu_left -= size
        if not self._value_left:
            self._value_ended(events)
        return size

    def _value_ended(self, events: list[Event]) -> None:
        if not self._control & 2:
            return
        if self._control & 1:
            command = decode_command(self._command)
            whole = command.get(0x0800) == struct.pack("<H", NO_DATA_SET)
            if not whole:
                if _kind(command) == C_STORE:
                    self._stored = command
                return
            self._command = b""
            events.append(Answered(as_response(command), b""))
        elif self._stored:
            events.append(self._delivered())
        else:
            events.append(Answered(as_response(decode_command(self._command)), self._identifier))
            self._command = self._identifier = b""

    def _delivered(self) -> Delivered:
        command, size = self._stored, self._size
        self._stored, self._size, self._command = {}, 0, b""
        sop_instance = text_of(command, 0x1000)
        answer: dict[int, int | str] = {
            0x0002: text_of(command, 0x0002),
            0x0100: C_STORE | RESPONSE,
            0x0120: struct.unpack("<H", command[0x0110])[0],
            0x0800: NO_DATA_SET,
            0x0900: 0,
            0x1000: sop_instance,
        }
        return Delivered(sop_instance, size, [command_pdu(self._context, encode_command(answer))])


def _only_status(data: Buffer) -> int | None:
    """The status, when the bytes are one P-DATA-TF with one whole command set that ends a C-STORE; else None.

    Nearly all that ever arrives is that, and taking it apart would be most of what an operation costs.
    """
    pdu = bytes(data)
    size = len(pdu)
    if size < 32 or pdu[0] != DATA or pdu[11] != 3:
        return None
    length, value = _LENGTHS(pdu)
    if length != size - 6 or value != size - 10:
        return None
    place = pdu.find(_STATUS) + len(_STATUS)
    return pdu[place] | pdu[place + 1] << 8 if len(_STATUS) <= place <= size - 2 else None


@lru_cache(maxsize=1024)
def _data_head(context: int, size: int, last: int) -> bytes:
    """The header of a P-DATA-TF with one fragment of a data set (PS3.8 9.3.5). last: 2 for the last one, else 0."""
    return struct.pack(">BxLLBB", DATA, size + 6, size + 2, context, last)


def _kind(command: dict[int, bytes]) -> int:
    return int.from_bytes(command.get(0x0100, b""), "little")
