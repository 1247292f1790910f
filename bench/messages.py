"""PDUs and DIMSE messages as a requestor writes and reads them: pure functions over bytes (PS3.7 9.3, PS3.8 9.3).

Only what a load harness needs, and nothing shared with the archive that is measured.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from bench.encoding import EXPLICIT_LITTLE, IMPLEMENTATION_CLASS_UID

VERIFICATION = "1.2.840.10008.1.1"
PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"

_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

C_STORE, C_GET, C_FIND, C_MOVE, C_ECHO, C_CANCEL = 0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0FFF
RESPONSE = 0x8000
NO_DATA_SET = 0x0101
PENDING = (0xFF00, 0xFF01)


class RequestError(ConnectionError):
    """The peer rejected, aborted or closed the association, or sent what makes no sense."""


@dataclass(frozen=True, slots=True)
class Context:
    """A presentation context to propose. `scp` asks for the role of acceptor in it too (C-GET, PS3.7 D.3.3.4)."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...] = (EXPLICIT_LITTLE,)
    scp: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """A DIMSE response without data set."""

    status: int
    comment: str = ""
    command: dict[int, bytes] = field(default_factory=dict)

    def number(self, element: int) -> int | None:
        """The value of a US element of the command set (0000,eeee), None when it is absent."""
        value = self.command.get(element)
        return struct.unpack("<H", value)[0] if value else None


def item(kind: int, body: bytes) -> bytes:
    """An item of an A-ASSOCIATE PDU (PS3.8 9.3.2)."""
    return struct.pack(">BxH", kind, len(body)) + body


def encode_associate(
    contexts: Sequence[Context], *, calling: str = "BENCH", called: str = "ANY-SCP", maximum_length: int = 131072
) -> bytes:
    """An A-ASSOCIATE-RQ PDU (PS3.8 9.3.2)."""
    body = struct.pack(">Hxx16s16s32x", 1, called.ljust(16).encode(), calling.ljust(16).encode())
    body += item(0x10, _APPLICATION_CONTEXT)
    for number, context in enumerate(contexts):
        syntaxes = b"".join(item(0x40, uid.encode()) for uid in context.transfer_syntaxes)
        abstract = item(0x30, context.abstract_syntax.encode())
        body += item(0x20, struct.pack(">Bxxx", 2 * number + 1) + abstract + syntaxes)
    user = item(0x51, struct.pack(">L", maximum_length)) + item(0x52, IMPLEMENTATION_CLASS_UID.encode())
    for abstract_syntax in dict.fromkeys(context.abstract_syntax for context in contexts if context.scp):
        uid = abstract_syntax.encode()
        user += item(0x54, struct.pack(">H", len(uid)) + uid + b"\x00\x01")
    user += item(0x55, b"BENCH")
    body += item(0x50, user)
    return struct.pack(">BxL", ASSOCIATE_RQ, len(body)) + body


def decode_accept(body: bytes) -> tuple[dict[int, tuple[int, str]], int]:
    """From an A-ASSOCIATE-AC: {context id: (result, transfer syntax)} and the peer's maximum length (PS3.8 9.3.3)."""
    contexts: dict[int, tuple[int, str]] = {}
    maximum_length = 0
    offset = 68
    while offset + 4 <= len(body):
        kind, length = struct.unpack_from(">BxH", body, offset)
        item = body[offset + 4 : offset + 4 + length]
        if kind == 0x21:
            contexts[item[0]] = (item[2], item[8:].decode("ascii", "replace").rstrip("\0 "))
        elif kind == 0x50:
            inner = 0
            while inner + 4 <= len(item):
                part, size = struct.unpack_from(">BxH", item, inner)
                if part == 0x51:
                    maximum_length = struct.unpack_from(">L", item, inner + 4)[0]
                inner += 4 + size
        offset += 4 + length
    return contexts, maximum_length


def encode_command(elements: dict[int, int | str]) -> bytes:
    """A command set (group 0000, Implicit VR Little Endian) from {element number: US value or UID/AE text}."""
    body = b""
    for number in sorted(elements):
        value = elements[number]
        if isinstance(value, int):
            encoded = struct.pack("<H", value)
        else:
            encoded = value.encode("ascii")
            if len(encoded) % 2:
                encoded += b" " if number == 0x0600 else b"\0"
        body += struct.pack("<HHL", 0, number, len(encoded)) + encoded
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def command_pdu(context: int, command: bytes) -> bytes:
    """A P-DATA-TF PDU with a whole command set (PS3.8 9.3.5, E.2)."""
    size = len(command)
    return struct.pack(">BxLLBB", DATA, size + 6, size + 2, context, 3) + command


_STORE_MIDDLE = encode_command({0x0700: 0, 0x0800: 1})[12:] + struct.pack("<HH", 0, 0x1000)


@lru_cache(maxsize=1024)
def _store_command_start(context: int, sop_class: str, uid_size: int) -> bytes:
    """What all PDUs begin with that hold a C-STORE-RQ for this SOP class and a SOP Instance UID of so many bytes."""
    body = encode_command({0x0002: sop_class, 0x0100: C_STORE})[12:] + struct.pack("<HHL", 0, 0x0110, 2)
    length = len(body) + 2 + len(_STORE_MIDDLE) + 4 + uid_size
    return command_pdu(context, struct.pack("<HHLL", 0, 0, 4, length) + body + bytes(length - len(body)))[
        : 12 + 12 + len(body)
    ]


def store_command_pdu(context: int, sop_class: str, sop_instance: str, message_id: int) -> bytes:
    """A P-DATA-TF PDU with the command set of a C-STORE-RQ (PS3.7 9.3.1.1), from parts encoded once."""
    uid = sop_instance.encode("ascii")
    if len(uid) & 1:
        uid += b"\0"
    size = len(uid)
    start = _store_command_start(context, sop_class, size)
    return b"".join((start, message_id.to_bytes(2, "little"), _STORE_MIDDLE, size.to_bytes(4, "little"), uid))


def decode_command(data: bytes) -> dict[int, bytes]:
    """{element number: value bytes} of a command set."""
    elements = {}
    offset = 0
    while offset + 8 <= len(data):
        _, number, length = struct.unpack_from("<HHL", data, offset)
        elements[number] = data[offset + 8 : offset + 8 + length]
        offset += 8 + length
    return elements


def text_of(command: dict[int, bytes], number: int) -> str:
    """The value of a UI, AE or LO element of a command set; empty when it is absent."""
    return command.get(number, b"").decode("ascii", "replace").rstrip("\0 ")


def as_response(command: dict[int, bytes]) -> Response:
    """A command set as a response. Raises RequestError for a request."""
    if 0x0900 not in command:
        raise RequestError("a request where a response was due")
    return Response(struct.unpack("<H", command[0x0900])[0], text_of(command, 0x0902), command)
