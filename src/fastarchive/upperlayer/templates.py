"""C-STORE requests by the thousand and the responses to them (PS3.7 9.3.1), written and recognised by their templates.

Requests of one association and SOP class differ in Message ID and SOP Instance UID only, and a peer says Success in the
same words each time. So a request is joined from pieces, and a response is not read but compared with the one expected.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from fastarchive.upperlayer.commands import StoreRequests
from fastarchive.upperlayer.pdu import (
    COMMAND_FRAGMENT,
    DATA_HEADERS,
    HEADERS_LENGTH,
    LAST_FRAGMENT,
    P_DATA_TF,
    frame_command,
)

__all__ = ["StoreTemplates"]

_ELEMENT: Final = struct.Struct("<HHL")
_MESSAGE_ID: Final = _ELEMENT.pack(0, 0x0110, 2)
_RESPONDING_TO: Final = _ELEMENT.pack(0, 0x0120, 2)


class _Template(NamedTuple):
    """What is always the same: before the Message ID, after it, and after the UID."""

    start: bytes
    middle: bytes
    end: bytes


class StoreTemplates:
    """Those of one presentation context. A template is good for UIDs of one length."""

    def __init__(self, context_id: int, longest: int, requests: StoreRequests) -> None:
        """longest: bytes of a command set in one PDU, as for :func:`frame_command`."""
        self._context_id = context_id
        self._longest = longest
        self._writer = requests
        self._requests: dict[int, _Template] = {}
        self._responses: dict[int, _Template] = {}

    def exchange(self, message_id: int, sop_instance: str) -> tuple[bytes, bytes]:
        """The request in PDUs, as :func:`frame_command` gives it, and the response in a PDU that would say Success as
        the peer does, empty as long as that isn't known. Raises CommandError."""
        uid = _padded(sop_instance)
        number = message_id.to_bytes(2, "little")
        template = self._requests.get(len(uid))
        if template is None:
            framed = frame_command(self._context_id, self._writer.encode(message_id, sop_instance), self._longest)
            template = _template(framed, self._context_id, _MESSAGE_ID + number, uid)
            if template is None:
                return framed, b""
            self._requests[len(uid)] = template
        response = self._responses.get(len(uid))
        expected = b"" if response is None else b"".join((response.start, number, response.middle, uid, response.end))
        return b"".join((template.start, number, template.middle, uid, template.end)), expected

    def learn(self, response: bytes, message_id: int, sop_instance: str) -> None:
        """What was read last is a response to that request, and says Success."""
        uid = _padded(sop_instance)
        if len(uid) not in self._responses:
            number = _RESPONDING_TO + message_id.to_bytes(2, "little")
            template = _template(response, self._context_id, number, uid)
            if template is not None:
                self._responses[len(uid)] = template


def _padded(uid: str) -> bytes:
    value = uid.encode()
    return value + b"\0" if len(value) & 1 else value


def _template(framed: bytes, context_id: int, number: bytes, uid: bytes) -> _Template | None:
    """The template of a command set in one PDU with one PDV, which holds one element with this Message ID and one with
    this SOP Instance UID after it; None for what is laid out differently."""
    length = len(framed)
    last = COMMAND_FRAGMENT | LAST_FRAGMENT
    if length < DATA_HEADERS.size or DATA_HEADERS.unpack_from(framed) != (
        P_DATA_TF,
        length - HEADERS_LENGTH,
        length - DATA_HEADERS.size + 2,
        context_id,
        last,
    ):
        return None
    instance = _ELEMENT.pack(0, 0x1000, len(uid)) + uid
    if framed.count(number) != 1 or framed.count(instance) != 1:
        return None
    after_number = framed.index(number) + len(number)
    after_uid = framed.index(instance) + len(instance)
    if after_uid - len(uid) < after_number:
        return None
    return _Template(framed[: after_number - 2], framed[after_number : after_uid - len(uid)], framed[after_uid:])
