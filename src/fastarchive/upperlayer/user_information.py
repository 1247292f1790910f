"""User information of A-ASSOCIATE, item 50H and its sub-items (PS3.8 Annex D, PS3.7 Annex D.3.3)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastarchive.upperlayer.errors import LocalProtocolError, RemoteProtocolError

INVALID_PARAMETER = 6
"""Reason of A-ABORT: invalid PDU parameter value (PS3.8 9.3.8)."""


@dataclass(frozen=True, slots=True)
class RoleSelection:
    """SCP/SCU Role Selection (54H, PS3.7 D.3.3.4): roles of the *requestor* for one SOP class."""

    sop_class: str
    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class CommonExtendedNegotiation:
    """SOP Class Common Extended Negotiation (57H, PS3.7 D.3.3.6)."""

    sop_class: str
    service_class: str
    related_general_sop_classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """User Identity of the requestor (58H, PS3.7 D.3.3.7): type 1 user name, 2 user name and passcode, 3 Kerberos,
    4 SAML, 5 JWT. Secrets, so repr() does not show them."""

    type: int
    primary: bytes
    secondary: bytes = b""
    response_requested: bool = False

    def __repr__(self) -> str:
        return f"UserIdentity(type={self.type})"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserInformation:
    """All user information of one A-ASSOCIATE PDU."""

    maximum_length: int = 0
    """Longest P-DATA-TF variable field the sender of this takes, bytes; 0: no limit (51H, PS3.8 D.1)."""
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    operations_window: tuple[int, int] | None = None
    """Operations (invoked, performed) by the sender at once, 0: no limit (53H); None: one at a time."""
    roles: tuple[RoleSelection, ...] = ()
    extended: Mapping[str, bytes] = field(default_factory=dict)
    """Service-class application information by SOP class (56H)."""
    common_extended: tuple[CommonExtendedNegotiation, ...] = ()
    user_identity: UserIdentity | None = None
    server_response: bytes | None = None
    """Answer to a user identity (59H); only in A-ASSOCIATE-AC."""


_ITEM = struct.Struct(">BBH")
_TWO_LENGTHS = struct.Struct(">HH")


def malformed(message: str) -> RemoteProtocolError:
    """The error for a PDU whose parameters make no sense."""
    return RemoteProtocolError(message, source=2, reason=INVALID_PARAMETER)


def split_items(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """The (type, value) items from `start` on (PS3.8 9.3.2): one byte type, one reserved, two bytes length, value.

    Raises RemoteProtocolError when an item reaches past the end.
    """
    position, end = start, len(data)
    while position < end:
        if end - position < 4:
            raise malformed("an item header is cut short")
        kind, _, length = _ITEM.unpack_from(data, position)
        position += 4
        if position + length > end:
            raise malformed(f"item {kind:02X}H reaches past what holds it")
        yield kind, data[position : position + length]
        position += length


def join_item(kind: int, value: bytes, second: int = 0) -> bytes:
    """One item; `second` is the reserved byte. Raises LocalProtocolError when `value` exceeds the 16-bit length."""
    if len(value) > 0xFFFF:
        raise LocalProtocolError(f"item {kind:02X}H would hold {len(value)} bytes, the most is 65535")
    return _ITEM.pack(kind, second, len(value)) + value


def read_uid(value: bytes) -> str:
    """A UID as text; padding, which the standard does not allow here but some peers send, is dropped."""
    return value.decode("latin-1").strip(" \0")


def write_text(text: str) -> bytes:
    """Raises LocalProtocolError for characters outside ISO 646 (PS3.8 9.3.1)."""
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        raise LocalProtocolError("text of an association is limited to ISO 646") from None


def _prefixed(value: bytes, position: int = 0) -> tuple[bytes, int]:
    """A field with a two byte length before it, and the position after it."""
    if position + 2 > len(value):
        raise malformed("a user information field has no length")
    (length,) = struct.unpack_from(">H", value, position)
    stop = position + 2 + length
    if stop > len(value):
        raise malformed("a user information field reaches past its item")
    return value[position + 2 : stop], stop


def _prefix(value: bytes) -> bytes:
    if len(value) > 0xFFFF:
        raise LocalProtocolError(f"a user information field of {len(value)} bytes, the most is 65535")
    return len(value).to_bytes(2, "big") + value


def decode_user_information(data: bytes) -> UserInformation:
    """Read the value of item 50H. Sub-items of unknown type are passed over (PS3.8 9.3.1).

    Raises RemoteProtocolError.
    """
    values: dict[str, Any] = {}
    roles: list[RoleSelection] = []
    extended: dict[str, bytes] = {}
    common: list[CommonExtendedNegotiation] = []
    for kind, value in split_items(data):
        if kind == 0x51:
            if len(value) != 4:
                raise malformed("maximum length is not 4 bytes")
            values["maximum_length"] = int.from_bytes(value, "big")
        elif kind == 0x52:
            values["implementation_class_uid"] = read_uid(value)
        elif kind == 0x53:
            if len(value) != 4:
                raise malformed("asynchronous operations window is not 4 bytes")
            values["operations_window"] = _TWO_LENGTHS.unpack(value)
        elif kind == 0x54:
            uid, position = _prefixed(value)
            if len(value) < position + 2:
                raise malformed("role selection without roles")
            roles.append(RoleSelection(read_uid(uid), value[position] == 1, value[position + 1] == 1))
        elif kind == 0x55:
            values["implementation_version_name"] = value.decode("latin-1").strip(" \0")
        elif kind == 0x56:
            uid, position = _prefixed(value)
            extended[read_uid(uid)] = value[position:]
        elif kind == 0x57:
            common.append(_decode_common_extended(value))
        elif kind == 0x58:
            if len(value) < 2:
                raise malformed("user identity is cut short")
            primary, position = _prefixed(value, 2)
            secondary, _ = _prefixed(value, position)
            values["user_identity"] = UserIdentity(value[0], primary, secondary, value[1] == 1)
        elif kind == 0x59:
            values["server_response"] = _prefixed(value)[0]
    return UserInformation(roles=tuple(roles), extended=extended, common_extended=tuple(common), **values)


def _decode_common_extended(value: bytes) -> CommonExtendedNegotiation:
    sop_class, position = _prefixed(value)
    service_class, position = _prefixed(value, position)
    block, _ = _prefixed(value, position)
    related: list[str] = []
    position = 0
    while position < len(block):
        uid, position = _prefixed(block, position)
        related.append(read_uid(uid))
    return CommonExtendedNegotiation(read_uid(sop_class), read_uid(service_class), tuple(related))


def encode_user_information(information: UserInformation) -> bytes:
    """Write item 50H. Raises LocalProtocolError for what does not fit."""
    parts = [join_item(0x51, information.maximum_length.to_bytes(4, "big"))]
    if information.implementation_class_uid:
        parts.append(join_item(0x52, write_text(information.implementation_class_uid)))
    if information.operations_window is not None:
        parts.append(join_item(0x53, _TWO_LENGTHS.pack(*information.operations_window)))
    parts += [
        join_item(0x54, _prefix(write_text(role.sop_class)) + bytes((role.scu, role.scp))) for role in information.roles
    ]
    if information.implementation_version_name:
        parts.append(join_item(0x55, write_text(information.implementation_version_name)))
    for sop_class, application in information.extended.items():
        parts.append(join_item(0x56, _prefix(write_text(sop_class)) + application))
    for item in information.common_extended:
        related = b"".join(_prefix(write_text(uid)) for uid in item.related_general_sop_classes)
        uids = _prefix(write_text(item.sop_class)) + _prefix(write_text(item.service_class))
        parts.append(join_item(0x57, uids + _prefix(related)))
    identity = information.user_identity
    if identity is not None:
        head = bytes((identity.type, identity.response_requested))
        parts.append(join_item(0x58, head + _prefix(identity.primary) + _prefix(identity.secondary)))
    if information.server_response is not None:
        parts.append(join_item(0x59, _prefix(information.server_response)))
    return join_item(0x50, b"".join(parts))
