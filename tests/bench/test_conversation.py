"""The requestor without sockets, driven with bytes alone and read by pynetdicom."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.pdu import P_DATA_TF

from bench.conversation import Accepted, Answered, Conversation, Delivered, Ended, Event
from bench.messages import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    C_FIND,
    C_GET,
    C_STORE,
    DATA,
    NO_DATA_SET,
    RELEASE_RP,
    RESPONSE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    Context,
    RequestError,
    Response,
    command_pdu,
    encode_command,
    store_command_pdu,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def accept(*ids: int, maximum: int = 128) -> bytes:
    body = bytes(68)
    for number in ids:
        syntax = struct.pack(">BxH", 0x40, len(EXPLICIT)) + EXPLICIT.encode()
        body += struct.pack(">BxHBxxx", 0x21, 4 + len(syntax), number) + syntax
    body += struct.pack(">BxHBxHL", 0x50, 8, 0x51, 4, maximum)
    return struct.pack(">BxL", ASSOCIATE_AC, len(body)) + body


def opened(*contexts: Context, maximum: int = 128) -> Conversation:
    conversation = Conversation(contexts)
    (event,) = conversation.receive(accept(*(2 * n + 1 for n in range(len(contexts))), maximum=maximum))
    assert isinstance(event, Accepted)
    return conversation


def message(context: int, command: dict[int, int | str], data_set: bytes | None = None, piece: int = 50) -> bytes:
    """A message in PDUs with values of at most `piece` bytes."""
    encoded = encode_command(command)
    out = b""
    for kind, content in ((1, encoded), (0, data_set)):
        if content is None:
            continue
        for offset in range(0, max(len(content), 1), piece):
            part = content[offset : offset + piece]
            control = kind | (2 if offset + piece >= len(content) else 0)
            value = struct.pack(">LBB", len(part) + 2, context, control) + part
            out += struct.pack(">BxL", DATA, len(value)) + value
    return out


def answer(status: int, kind: int = C_FIND, identifier: bytes | None = None) -> bytes:
    command: dict[int, int | str] = {0x0100: kind | RESPONSE, 0x0120: 1, 0x0900: status}
    command[0x0800] = NO_DATA_SET if identifier is None else 1
    return message(1, command, identifier)


def messages_of(wire: bytes) -> list[Any]:
    """What pynetdicom reads out of P-DATA-TF PDUs."""
    found = []
    dimse = DIMSEMessage()
    while wire:
        length = struct.unpack_from(">L", wire, 2)[0]
        pdu = P_DATA_TF()
        pdu.decode(wire[: 6 + length])
        wire = wire[6 + length :]
        assert length <= 128
        if dimse.decode_msg(pdu.to_primitive()):
            found.append(dimse.message_to_primitive())
            dimse = DIMSEMessage()
    return found


@settings(deadline=None, max_examples=30)
@given(st.lists(st.binary(max_size=300), max_size=4))
def test_a_store_in_pieces_is_what_pynetdicom_reads(pieces: list[bytes]) -> None:
    data_set = b"".join(pieces)
    conversation = opened(Context(CT))
    wire = b"".join(bytes(part) for part in conversation.store(CT, "1.2.3.4.5", EXPLICIT, [*pieces, b"end"]))
    (request,) = messages_of(wire)
    assert request.AffectedSOPClassUID == CT
    assert request.AffectedSOPInstanceUID == "1.2.3.4.5"
    assert request.DataSet.getvalue() == data_set + b"end"


def test_a_store_command_is_what_the_general_encoder_makes() -> None:
    for instance in ("1.2.3", "1.2.34"):
        general = encode_command({0x0002: CT, 0x0100: C_STORE, 0x0110: 77, 0x0700: 0, 0x0800: 1, 0x1000: instance})
        assert store_command_pdu(5, CT, instance, 77) == command_pdu(5, general)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 1200), max_size=40, unique=True))
@example(list(range(1200)))
def test_events_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    stored: dict[int, int | str] = {0x0002: CT, 0x0100: C_STORE, 0x0110: 9, 0x0700: 0, 0x0800: 1, 0x1000: "1.2.3"}
    wire = (
        accept(1, 3)
        + answer(0xFF00, identifier=b"\x08\x00" * 40)
        + answer(0)
        + message(3, stored, b"x" * 333)
        + answer(0xFF00, C_GET)
        + answer(0, C_GET)
    )
    conversation = Conversation([Context(STUDY_ROOT_FIND), Context(CT, scp=True)])
    events: list[Event] = []
    places = [0, *sorted(cuts), len(wire)]
    for start, end in pairwise(places):
        events += conversation.receive(wire[start:end])
    assert isinstance(events[0], Accepted)
    kinds = [(type(event), event.response.status if isinstance(event, Answered) else None) for event in events[1:]]
    assert kinds == [(Answered, 0xFF00), (Answered, 0), (Delivered, None), (Answered, 0xFF00), (Answered, 0)]
    found, delivered = events[1], events[3]
    assert isinstance(found, Answered)
    assert found.identifier == b"\x08\x00" * 40
    assert isinstance(delivered, Delivered)
    assert (delivered.sop_instance, delivered.size) == ("1.2.3", 333)
    (reply,) = messages_of(b"".join(bytes(part) for part in delivered.reply))
    assert (reply.Status, reply.MessageIDBeingRespondedTo, reply.AffectedSOPInstanceUID) == (0, 9, "1.2.3")


@pytest.mark.parametrize("status", [0x0000, 0xA700, 0xB000])
def test_the_answer_to_a_store_is_read_whole_and_in_pieces(status: int) -> None:
    for cut in (0, 3, 40):
        conversation = opened(Context(CT))
        conversation.store(CT, "1.2.3", EXPLICIT, [b"data"])
        wire = answer(status, C_STORE) if cut else message(1, _store_answer(status), piece=1000)
        events = conversation.receive(wire[:cut]) + conversation.receive(wire[cut:])
        assert [event.response.status for event in events if isinstance(event, Answered)] == [status]


def test_no_message_id_passes_for_a_status() -> None:
    for number in (0x0209, 0x0900, 0x0009, 0xFFFF):
        conversation = opened(Context(CT))
        conversation.store(CT, "1.2.3", EXPLICIT, [b"data"])
        command = _store_answer(0) | {0x0120: number}
        assert conversation.receive(message(1, command, piece=1000)) == [Answered(Response(0), b"")]


def _store_answer(status: int) -> dict[int, int | str]:
    return {0x0002: CT, 0x0100: C_STORE | RESPONSE, 0x0120: 1, 0x0800: NO_DATA_SET, 0x0900: status, 0x1000: "1.2.3"}


def test_release_ends_it_and_so_do_rejection_and_abort() -> None:
    conversation = opened(Context(CT))
    assert conversation.release() == b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00"
    assert conversation.receive(struct.pack(">BxLL", RELEASE_RP, 4, 0)) == [Ended()]
    (ended,) = Conversation([Context(CT)]).receive(struct.pack(">BxLBBBB", ASSOCIATE_RJ, 4, 0, 1, 1, 7))
    assert ended == Ended("rejected: 01 01 07")
    (ended,) = opened(Context(CT)).receive(struct.pack(">BxLBBBB", ABORT, 4, 0, 0, 2, 1))
    assert ended == Ended("aborted: 02 01")


def test_bytes_that_make_no_sense_are_an_error() -> None:
    with pytest.raises(RequestError, match="PDU 0x04 in state requested"):
        Conversation([Context(CT)]).receive(struct.pack(">BxLL", DATA, 4, 0))
    with pytest.raises(RequestError, match="value of 99 bytes"):
        opened(Context(CT)).receive(struct.pack(">BxLLBB", DATA, 6, 99, 1, 3))
    with pytest.raises(RequestError, match=f"no context accepted for {STUDY_ROOT_GET}"):
        opened(Context(CT)).get(STUDY_ROOT_GET, b"")
    with pytest.raises(RequestError, match="takes PDUs of 6 bytes"):
        Conversation([Context(CT)]).receive(accept(1, maximum=6))
