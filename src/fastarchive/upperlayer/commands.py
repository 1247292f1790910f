"""DIMSE command sets (PS3.7 6.3, Annex E): one class for all of them, decoded and encoded by hand.

A command set is always Implicit VR Little Endian, elements in ascending order, (0000,0000) Command Group Length first
(PS3.7 6.3.1). The commands that come and go by the thousand, C-STORE-RQ, C-STORE-RSP and pending C-FIND-RSP, take a
short way.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

from fastarchive.upperlayer.pdu import DATA_HEADERS, frame_command


class CommandField(IntEnum):
    """Command Field (0000,0100), PS3.7 E.1. A response is its request with bit 15 set."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_GET_RQ = 0x0110
    N_GET_RSP = 0x8110
    N_SET_RQ = 0x0120
    N_SET_RSP = 0x8120
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130
    N_CREATE_RQ = 0x0140
    N_CREATE_RSP = 0x8140
    N_DELETE_RQ = 0x0150
    N_DELETE_RSP = 0x8150
    C_CANCEL_RQ = 0x0FFF

    @property
    def response(self) -> CommandField:
        """The field of the response to this request. Raises ValueError where there is none (C-CANCEL-RQ, responses)."""
        field = _FIELDS.get(self | 0x8000)
        if field is None or self & 0x8000:
            raise ValueError(f"there is no response to {self.name}")
        return field


class CommandError(ValueError):
    """A command set that cannot be decoded, or a value that no command set can hold."""


PENDING_STATUSES = frozenset({0xFF00, 0xFF01})
NO_DATA_SET = 0x0101  # Command Data Set Type (0000,0800); every other value says that a data set follows (PS3.7 E.1)
DATA_SET_FOLLOWS = 0x0001
_NO_DATA_SET = NO_DATA_SET.to_bytes(2, "little")


@dataclass(slots=True, kw_only=True)  # made by the thousand: a frozen one takes four times as long
class Command:
    """A command set, never changed once it is made. None and "" mean that the element is absent (or, when read, empty).

    Message ID (0000,0110) belongs to every request and Message ID Being Responded To (0000,0120) to every response
    and C-CANCEL-RQ, so these two are written by the kind of command and 0 is an ordinary value of them.
    """

    field: CommandField
    message_id: int = 0
    responding_to: int = 0
    affected_sop_class: str = ""
    requested_sop_class: str = ""
    affected_sop_instance: str = ""
    requested_sop_instance: str = ""
    status: int | None = None
    priority: int | None = None
    has_data_set: bool = False
    move_destination: str = ""
    move_originator: str = ""
    move_originator_message_id: int | None = None
    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""
    error_id: int | None = None
    event_type: int | None = None
    action_type: int | None = None
    attribute_identifiers: tuple[int, ...] = ()

    @property
    def is_response(self) -> bool:
        return bool(self.field & 0x8000)

    @property
    def is_request(self) -> bool:
        """True for everything that wants an answer: not for responses, not for C-CANCEL-RQ."""
        return not self.field & 0x8000 and self.field is not CommandField.C_CANCEL_RQ

    @property
    def is_pending(self) -> bool:
        return self.status in PENDING_STATUSES


# Elements by tag (group 0000): the attribute they fill and how they are written (PS3.7 Table E.1-1).
_UNSIGNED, _TAGS, _UID, _TITLE, _TEXT = range(5)
_ELEMENTS: dict[int, tuple[str, int]] = {
    0x0002: ("affected_sop_class", _UID),
    0x0003: ("requested_sop_class", _UID),
    0x0100: ("field", _UNSIGNED),
    0x0110: ("message_id", _UNSIGNED),
    0x0120: ("responding_to", _UNSIGNED),
    0x0600: ("move_destination", _TITLE),
    0x0700: ("priority", _UNSIGNED),
    0x0800: ("has_data_set", _UNSIGNED),
    0x0900: ("status", _UNSIGNED),
    0x0901: ("offending_elements", _TAGS),
    0x0902: ("error_comment", _TEXT),
    0x0903: ("error_id", _UNSIGNED),
    0x1000: ("affected_sop_instance", _UID),
    0x1001: ("requested_sop_instance", _UID),
    0x1002: ("event_type", _UNSIGNED),
    0x1005: ("attribute_identifiers", _TAGS),
    0x1008: ("action_type", _UNSIGNED),
    0x1020: ("remaining", _UNSIGNED),
    0x1021: ("completed", _UNSIGNED),
    0x1022: ("failed", _UNSIGNED),
    0x1023: ("warning", _UNSIGNED),
    0x1030: ("move_originator", _TITLE),
    0x1031: ("move_originator_message_id", _UNSIGNED),
}
_FIELDS = {int(field): field for field in CommandField}
_ELEMENT_HEADER = struct.Struct("<HHL")
_US = struct.Struct("<HHLH")


def decode_command(data: bytes | bytearray) -> Command:
    """Read a command set (Implicit VR Little Endian). Elements this class does not know are passed over, as are the
    retired ones (PS3.7 E.2); the group length is not believed.

    Raises CommandError when an element is cut short or has an impossible length, when an element of another group
    appears, or when Command Field (0000,0100) or Command Data Set Type (0000,0800) is missing or unknown.
    """
    return decode_store_request(data) or _decode_store_response(data) or _decode_any(data)


def _tag(number: int) -> bytes:
    return re.escape(struct.pack("<HH", 0, number))


_SHORT = rb"\x02\x00\x00\x00"
_UID_VALUE = rb"(.)\x00\x00\x00([0-9.]{1,64}\x00?)"
_STORE_REQUEST = re.compile(
    _tag(0x0000) + rb"\x04\x00\x00\x00...."
    + _tag(0x0002) + _UID_VALUE
    + _tag(0x0100) + _SHORT + rb"\x01\x00"
    + _tag(0x0110) + _SHORT + rb"(..)"
    + _tag(0x0700) + _SHORT + rb"(..)"
    + _tag(0x0800) + _SHORT + rb"(..)"
    + _tag(0x1000) + _UID_VALUE,
    re.DOTALL,
)  # fmt: skip
"""(0000,0000), (0000,0002), C-STORE-RQ, (0000,0110), (0000,0700), (0000,0800), (0000,1000): as everybody writes it."""


def decode_store_request(data: bytes | bytearray) -> Command | None:
    """A C-STORE-RQ with the elements that every one has and no others; None for everything else."""
    found = _STORE_REQUEST.fullmatch(data)
    if found is None:
        return None
    class_length, sop_class, message_id, priority, data_set_type, instance_length, sop_instance = found.groups()
    if class_length[0] != len(sop_class) or instance_length[0] != len(sop_instance):
        return None
    return Command(
        field=CommandField.C_STORE_RQ,
        message_id=message_id[0] | message_id[1] << 8,
        affected_sop_class=sop_class.rstrip(b"\0").decode(),
        affected_sop_instance=sop_instance.rstrip(b"\0").decode(),
        priority=priority[0] | priority[1] << 8,
        has_data_set=data_set_type != _NO_DATA_SET,
    )


_STORE_RESPONSE = re.compile(
    _tag(0x0000) + rb"\x04\x00\x00\x00...."
    + rb"(?:" + _tag(0x0002) + _UID_VALUE + rb")?"
    + _tag(0x0100) + _SHORT + rb"\x01\x80"
    + _tag(0x0120) + _SHORT + rb"(..)"
    + _tag(0x0800) + _SHORT + rb"\x01\x01"
    + _tag(0x0900) + _SHORT + rb"(..)"
    + rb"(?:" + _tag(0x1000) + _UID_VALUE + rb")?",
    re.DOTALL,
)  # fmt: skip
"""(0000,0000), C-STORE-RSP, (0000,0120), no data set, (0000,0900), and mostly (0000,0002) and (0000,1000) as well."""


def _decode_store_response(data: bytes | bytearray) -> Command | None:
    """A C-STORE-RSP with the elements that most have and no others; None for everything else."""
    found = _STORE_RESPONSE.fullmatch(data)
    if found is None:
        return None
    class_length, sop_class, responding_to, status, instance_length, sop_instance = found.groups(b"")
    if (sop_class and class_length[0] != len(sop_class)) or (sop_instance and instance_length[0] != len(sop_instance)):
        return None
    return Command(
        field=CommandField.C_STORE_RSP,
        responding_to=responding_to[0] | responding_to[1] << 8,
        affected_sop_class=sop_class.rstrip(b"\0").decode(),
        affected_sop_instance=sop_instance.rstrip(b"\0").decode(),
        status=status[0] | status[1] << 8,
    )


def _decode_any(data: bytes | bytearray) -> Command:
    values: dict[str, Any] = {}
    position, end = 0, len(data)
    unpack = _ELEMENT_HEADER.unpack_from
    while position < end:
        if end - position < 8:
            raise CommandError("command set ends inside an element header")
        group, number, length = unpack(data, position)
        position += 8
        if group != 0:
            raise CommandError("element of another group in a command set")
        stop = position + length
        if stop > end:
            raise CommandError("command set ends inside an element value")
        known = _ELEMENTS.get(number)
        if known is not None and length:
            name, kind = known
            if kind == _UNSIGNED:
                if length != 2:
                    raise CommandError(f"element (0000,{number:04X}) is not one 16-bit value")
                values[name] = data[position] | data[position + 1] << 8
            elif kind == _UID:
                values[name] = data[position:stop].decode("latin-1").rstrip("\0 ")
            elif kind == _TAGS:
                if length % 4:
                    raise CommandError(f"element (0000,{number:04X}) does not hold whole tags")
                words = struct.unpack_from(f"<{length // 2}H", data, position)
                values[name] = tuple(
                    group << 16 | element for group, element in zip(words[::2], words[1::2], strict=True)
                )
            else:
                values[name] = data[position:stop].decode("latin-1").strip("\0 ")
        position = stop
    field = _FIELDS.get(values.get("field", -1))
    if field is None:
        raise CommandError("command field is missing or unknown")
    if "has_data_set" not in values:
        raise CommandError("command data set type is missing")
    values["field"] = field
    values["has_data_set"] = values["has_data_set"] != NO_DATA_SET
    return Command(**values)


def _unsigned(number: int, value: int) -> bytes:
    try:
        return _US.pack(0, number, 2, value)
    except struct.error:
        raise CommandError(f"{value} is not a 16-bit value for (0000,{number:04X})") from None


def _uid(number: int, uid: str) -> bytes:
    return _short_uid(number, uid) if len(uid) <= 64 else _encoded_uid(number, uid)


def _encoded_uid(number: int, uid: str) -> bytes:
    value = _ascii(number, uid)
    value += b"\0" * (len(value) & 1)
    return _ELEMENT_HEADER.pack(0, number, len(value)) + value


_short_uid = lru_cache(maxsize=4096)(_encoded_uid)
"""UIDs longer than they may be come from a peer that means ill, and would fill the memory if they were kept."""


def _text(number: int, text: str) -> bytes:
    value = _ascii(number, text)
    value += b" " * (len(value) & 1)
    return _ELEMENT_HEADER.pack(0, number, len(value)) + value


def _ascii(number: int, text: str) -> bytes:
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        raise CommandError(f"(0000,{number:04X}) holds characters outside the default repertoire") from None


def _tags(number: int, tags: tuple[int, ...]) -> bytes:
    value = b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in tags)
    return _ELEMENT_HEADER.pack(0, number, len(value)) + value


def encode_command(command: Command) -> bytes:
    """Write a command set. Error Comment is cut to its 64 characters (PS3.7 Table E.1-1, VR LO).

    Raises CommandError for a value out of its range or text outside the default repertoire.
    """
    c = command
    if c.field in _PLAIN_RESPONSES and c.status is not None and not _needs_the_long_way(c):
        return _encode_plain_response(c)
    parts = []
    for number, (name, kind) in _ELEMENTS.items():
        value = getattr(c, name)
        if name == "message_id":
            if c.is_request:
                parts.append(_unsigned(number, value))
        elif name == "responding_to":
            if not c.is_request:
                parts.append(_unsigned(number, value))
        elif name == "has_data_set":
            parts.append(_unsigned(number, DATA_SET_FOLLOWS if value else NO_DATA_SET))
        elif value is None or value in ("", ()):
            continue
        elif kind == _UNSIGNED:
            parts.append(_unsigned(number, value))
        elif kind == _UID:
            parts.append(_uid(number, value))
        elif kind == _TAGS:
            parts.append(_tags(number, value))
        else:
            parts.append(_text(number, value[:64] if kind == _TEXT else value))
    body = b"".join(parts)
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


_GROUP_LENGTH = struct.Struct("<HHLL")
_PLAIN_RESPONSES = frozenset({CommandField.C_STORE_RSP, CommandField.C_FIND_RSP, CommandField.C_ECHO_RSP})
# (0000,0100) Command Field, (0000,0120) Message ID Being Responded To, (0000,0800) and (0000,0900) in one stroke.
_PLAIN = struct.Struct("<" + "HHLH" * 4)


def _needs_the_long_way(c: Command) -> bool:
    return bool(
        c.error_comment
        or c.offending_elements
        or c.requested_sop_class
        or c.requested_sop_instance
        or c.move_destination
        or c.move_originator
        or c.attribute_identifiers
    ) or not (
        c.priority
        is c.move_originator_message_id
        is c.remaining
        is c.completed
        is c.failed
        is c.warning
        is c.error_id
        is c.event_type
        is c.action_type
        is None
    )


def _encode_plain_response(c: Command) -> bytes:
    try:
        middle = _PLAIN.pack(
            *(0, 0x0100, 2, c.field),
            *(0, 0x0120, 2, c.responding_to),
            *(0, 0x0800, 2, DATA_SET_FOLLOWS if c.has_data_set else NO_DATA_SET),
            *(0, 0x0900, 2, c.status),
        )
    except struct.error:
        raise CommandError("a message id or status is not a 16-bit value") from None
    body = _uid(0x0002, c.affected_sop_class) + middle if c.affected_sop_class else middle
    if c.affected_sop_instance:
        uid = _ascii(0x1000, c.affected_sop_instance)
        uid += b"\0" * (len(uid) & 1)
        body += _ELEMENT_HEADER.pack(0, 0x1000, len(uid)) + uid
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


@lru_cache(maxsize=1024)
def _success_frame(context_id: int, sop_class: str, length: int) -> tuple[bytes, bytes]:
    """What comes before and after the Message ID in the P-DATA-TF with the C-STORE-RSP that says Success, up to the SOP
    Instance UID of `length` bytes."""
    before = _uid(0x0002, sop_class) + _unsigned(0x0100, CommandField.C_STORE_RSP) + _ELEMENT_HEADER.pack(0, 0x0120, 2)
    after = _unsigned(0x0800, NO_DATA_SET) + _unsigned(0x0900, 0) + _ELEMENT_HEADER.pack(0, 0x1000, length)
    body = len(before) + 2 + len(after) + length
    group = _GROUP_LENGTH.pack(0, 0, 4, body)
    return frame_command(context_id, bytes(body + len(group)), 1 << 16)[: DATA_HEADERS.size] + group + before, after


def store_success(context_id: int, sop_class: str, sop_instance: str, message_id: int) -> bytes:
    """A C-STORE-RSP with status Success (PS3.7 9.3.1.2) in one P-DATA-TF, as frame_command() would give it. UIDs of at
    most 64 characters of the default repertoire."""
    uid = sop_instance.encode("ascii")
    if len(uid) & 1:
        uid += b"\0"
    before, after = _success_frame(context_id, sop_class, len(uid))
    return b"".join((before, message_id.to_bytes(2, "little"), after, uid))


class StoreRequests:
    """C-STORE-RQ command sets (PS3.7 9.3.1.1) that differ in Message ID and SOP Instance UID only, by the thousand.

    `move_originator` and its Message ID belong to the sub-operations of a C-MOVE. Raises CommandError as
    encode_command() would.
    """

    def __init__(
        self,
        affected_sop_class: str,
        *,
        priority: int,
        move_originator: str = "",
        move_originator_message_id: int | None = None,
    ) -> None:
        self._head = _uid(0x0002, affected_sop_class) + _unsigned(0x0100, CommandField.C_STORE_RQ)
        self._middle = _unsigned(0x0700, priority) + _unsigned(0x0800, DATA_SET_FOLLOWS)
        self._tail = _text(0x1030, move_originator) if move_originator else b""
        if move_originator_message_id is not None:
            self._tail += _unsigned(0x1031, move_originator_message_id)

    def encode(self, message_id: int, affected_sop_instance: str) -> bytes:
        """The command set, which says that a data set follows."""
        instance = _encoded_uid(0x1000, affected_sop_instance)
        body = b"".join((self._head, _unsigned(0x0110, message_id), self._middle, instance, self._tail))
        return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body
