"""The seven protocol data units of the DICOM Upper Layer (PS3.8 9.3), as bytes and as frozen dataclasses.

Every PDU starts with one byte type, one reserved byte and the length of the rest in four bytes, big endian. A-ASSOCIATE
PDUs are read and written whole. P-DATA-TF never becomes an object: `machine` reads its fragments as they arrive, and
`frame_data_set` below puts headers between slices of the caller's data without copying them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from fastarchive.dicom.uids import APPLICATION_CONTEXT
from fastarchive.upperlayer.user_information import (
    UserInformation,
    decode_user_information,
    encode_user_information,
    join_item,
    malformed,
    read_uid,
    split_items,
    write_text,
)

A_ASSOCIATE_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, P_DATA_TF, A_RELEASE_RQ, A_RELEASE_RP, A_ABORT = range(1, 8)

PDU_HEADER = struct.Struct(">BxL")
"""Type and length of what follows."""
PDV_HEADER = struct.Struct(">LBB")
"""Length of what follows, presentation context id, message control header (PS3.8 9.3.5.1, Annex E.2)."""
DATA_HEADERS = struct.Struct(">BxLLBB")
"""Both in one, as every P-DATA-TF begins."""
COMMAND_FRAGMENT, LAST_FRAGMENT = 0x01, 0x02
"""Bits of the message control header: part of a command set (else of a data set); nothing of it follows."""
HEADERS_LENGTH = PDV_HEADER.size
"""What a P-DATA-TF's maximum length has to hold besides the fragment, when it holds one."""

_FIXED = struct.Struct(">HH16s16s32x")  # protocol version, reserved, called, calling AE title, reserved
_CONTEXT = struct.Struct(">BxBx")  # presentation context id, result (in A-ASSOCIATE-AC)
ACCEPTED, USER_REJECTION, NO_REASON, ABSTRACT_SYNTAX_NOT_SUPPORTED, TRANSFER_SYNTAXES_NOT_SUPPORTED = range(5)
"""Result of a presentation context (PS3.8 Table 9-18)."""


@dataclass(frozen=True, slots=True)
class ContextProposal:
    """A presentation context of A-ASSOCIATE-RQ (20H)."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContextResult:
    """The answer to one in A-ASSOCIATE-AC (21H); the transfer syntax means nothing unless `result` is 0."""

    id: int
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociateRequest:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2). AE titles without their padding, otherwise as sent."""

    called_ae: str
    calling_ae: str
    contexts: tuple[ContextProposal, ...]
    user_information: UserInformation
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociateAccept:
    """A-ASSOCIATE-AC (PS3.8 9.3.3). The titles repeat those of the request."""

    called_ae: str
    calling_ae: str
    contexts: tuple[ContextResult, ...]
    user_information: UserInformation
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1


@dataclass(frozen=True, slots=True)
class AssociateReject:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4): result 1 permanent, 2 transient; source 1 service user, 2 and 3 provider."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """A-RELEASE-RQ (PS3.8 9.3.6)."""


@dataclass(frozen=True, slots=True)
class ReleaseResponse:
    """A-RELEASE-RP (PS3.8 9.3.7)."""


@dataclass(frozen=True, slots=True)
class Abort:
    """A-ABORT (PS3.8 9.3.8): source 0 service user, 2 service provider; reason counts for source 2 only."""

    source: int
    reason: int


PDU = AssociateRequest | AssociateAccept | AssociateReject | ReleaseRequest | ReleaseResponse | Abort


def decode_pdu(kind: int, body: bytes) -> PDU:
    """Read what follows the six byte header of any PDU but P-DATA-TF. Reserved fields are not looked at (PS3.8 9.3.1).

    Raises RemoteProtocolError (reason 6, invalid PDU parameter value; 1, unrecognized PDU).
    """
    if kind in (A_ASSOCIATE_RQ, A_ASSOCIATE_AC):
        return _decode_associate(kind, body)
    if len(body) != 4:
        raise malformed(f"PDU {kind:02X}H has {len(body)} bytes instead of 4")
    if kind == A_ASSOCIATE_RJ:
        return AssociateReject(body[1], body[2], body[3])
    if kind == A_RELEASE_RQ:
        return ReleaseRequest()
    if kind == A_RELEASE_RP:
        return ReleaseResponse()
    return Abort(body[2], body[3])


def _decode_associate(kind: int, body: bytes) -> AssociateRequest | AssociateAccept:
    if len(body) < _FIXED.size:
        raise malformed("an A-ASSOCIATE PDU is cut short")
    version, _, called, calling = _FIXED.unpack_from(body)
    application_context = ""
    user_information: UserInformation | None = None
    proposals: list[ContextProposal] = []
    results: list[ContextResult] = []
    for item, value in split_items(body, _FIXED.size):
        if item == 0x10:
            application_context = read_uid(value)
        elif item == 0x20 and kind == A_ASSOCIATE_RQ:
            proposals.append(_decode_proposal(value))
        elif item == 0x21 and kind == A_ASSOCIATE_AC:
            results.append(_decode_result(value))
        elif item == 0x50:
            user_information = decode_user_information(value)
    identifiers = [context.id for context in proposals] or [context.id for context in results]
    if len(set(identifiers)) != len(identifiers):
        raise malformed("a presentation context id is used twice")
    common = {
        "called_ae": _read_title(called),
        "calling_ae": _read_title(calling),
        "user_information": user_information or UserInformation(),
        "application_context": application_context,
        "protocol_version": version,
    }
    if kind == A_ASSOCIATE_RQ:
        return AssociateRequest(contexts=tuple(proposals), **common)
    return AssociateAccept(contexts=tuple(results), **common)


def _decode_proposal(value: bytes) -> ContextProposal:
    if len(value) < 4 or not value[0] & 1:
        raise malformed("a presentation context without an odd id")
    abstract_syntax = ""
    transfer_syntaxes: list[str] = []
    for item, uid in split_items(value, 4):
        if item == 0x30:
            abstract_syntax = read_uid(uid)
        elif item == 0x40:
            transfer_syntaxes.append(read_uid(uid))
    return ContextProposal(value[0], abstract_syntax, tuple(transfer_syntaxes))


def _decode_result(value: bytes) -> ContextResult:
    if len(value) < 4:
        raise malformed("a presentation context result is cut short")
    transfer_syntax = ""
    for item, uid in split_items(value, 4):
        if item == 0x40:
            transfer_syntax = read_uid(uid)
    return ContextResult(value[0], value[2], transfer_syntax)


def _read_title(value: bytes) -> str:
    return value.decode("latin-1").rstrip("\0").strip(" ")


def _write_title(title: str) -> bytes:
    return write_text(title).ljust(16)[:16]


def encode_pdu(pdu: PDU) -> bytes:
    """Write a PDU. Raises LocalProtocolError for what does not fit."""
    match pdu:
        case AssociateRequest():
            contexts = b"".join(_encode_proposal(context) for context in pdu.contexts)
            return _encode_associate(A_ASSOCIATE_RQ, pdu, contexts)
        case AssociateAccept():
            contexts = b"".join(_encode_result(context) for context in pdu.contexts)
            return _encode_associate(A_ASSOCIATE_AC, pdu, contexts)
        case AssociateReject():
            return PDU_HEADER.pack(A_ASSOCIATE_RJ, 4) + bytes((0, pdu.result, pdu.source, pdu.reason))
        case ReleaseRequest():
            return PDU_HEADER.pack(A_RELEASE_RQ, 4) + bytes(4)
        case ReleaseResponse():
            return PDU_HEADER.pack(A_RELEASE_RP, 4) + bytes(4)
        case Abort():
            return PDU_HEADER.pack(A_ABORT, 4) + bytes((0, 0, pdu.source, pdu.reason))


def _encode_associate(kind: int, pdu: AssociateRequest | AssociateAccept, contexts: bytes) -> bytes:
    fixed = _FIXED.pack(pdu.protocol_version, 0, _write_title(pdu.called_ae), _write_title(pdu.calling_ae))
    application = join_item(0x10, write_text(pdu.application_context))
    body = fixed + application + contexts + encode_user_information(pdu.user_information)
    return PDU_HEADER.pack(kind, len(body)) + body


def _encode_proposal(context: ContextProposal) -> bytes:
    syntaxes = [join_item(0x40, write_text(uid)) for uid in context.transfer_syntaxes]
    abstract = join_item(0x30, write_text(context.abstract_syntax))
    return join_item(0x20, _CONTEXT.pack(context.id, 0) + abstract + b"".join(syntaxes))


def _encode_result(context: ContextResult) -> bytes:
    syntax = join_item(0x40, write_text(context.transfer_syntax))
    return join_item(0x21, _CONTEXT.pack(context.id, context.result) + syntax)


def fragment_length(peer_maximum: int, ours: int = 1 << 20) -> int:
    """Longest fragment to put into one P-DATA-TF for a peer that takes `peer_maximum` bytes (0: any, so `ours`)."""
    longest = min(peer_maximum, ours) if peer_maximum else ours
    return (max(longest, HEADERS_LENGTH + 2) - HEADERS_LENGTH) & ~1


def frame_command(context_id: int, command: bytes, longest: int) -> bytes:
    """P-DATA-TF PDUs with a whole command set, one PDV each, of at most `longest` bytes of it."""
    if len(command) <= longest:
        return _frame_header(context_id, len(command), COMMAND_FRAGMENT | LAST_FRAGMENT) + command
    parts: list[bytes] = []
    for start in range(0, len(command), longest):
        piece = command[start : start + longest]
        last = LAST_FRAGMENT if start + longest >= len(command) else 0
        parts += (_frame_header(context_id, len(piece), COMMAND_FRAGMENT | last), piece)
    return b"".join(parts)


def frame_data_set(context_id: int, data: bytes | memoryview, longest: int, *, last: bool) -> list[bytes | memoryview]:
    """Headers and slices of `data`, to be written one after the other: P-DATA-TF PDUs of one PDV of at most `longest`
    bytes. `last` marks the end of the data set. Nothing is copied."""
    total = len(data)
    if total <= longest:
        return [_frame_header(context_id, total, LAST_FRAGMENT if last else 0), data]
    view = memoryview(data)
    header = _frame_header(context_id, longest, 0)
    whole = (total - 1) // longest  # at least one byte is left for the last
    parts: list[bytes | memoryview] = []
    for start in range(0, whole * longest, longest):
        parts.append(header)
        parts.append(view[start : start + longest])
    parts.append(_frame_header(context_id, total - whole * longest, LAST_FRAGMENT if last else 0))
    parts.append(view[whole * longest :])
    return parts


def frame_message(context_id: int, command: bytes, data_set: bytes | None, longest: int) -> bytes:
    """P-DATA-TF PDUs with a whole message, its command set encoded; it must say rightly whether a data set follows."""
    framed = frame_command(context_id, command, longest)
    return framed if data_set is None else b"".join([framed, *frame_data_set(context_id, data_set, longest, last=True)])


def _frame_header(context_id: int, length: int, control: int) -> bytes:
    return DATA_HEADERS.pack(P_DATA_TF, length + 6, length + 2, context_id, control)
