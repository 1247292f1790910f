"""Command sets: round trips, agreement with pynetdicom, and what cannot be read."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dimse_messages import C_FIND_RSP, C_MOVE_RSP, C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_FIND, C_MOVE, C_STORE
from pynetdicom.dsutils import decode, encode

from fastarchive.upperlayer.commands import (
    Command,
    CommandError,
    CommandField,
    StoreRequests,
    _decode_any,
    _decode_store_response,
    decode_command,
    decode_store_request,
    encode_command,
)

uids = st.lists(st.integers(1, 999999), min_size=2, max_size=8).map(lambda arcs: ".".join(map(str, arcs)))
titles = st.text(st.sampled_from("ABCDEF012345_"), min_size=1, max_size=16)
numbers = st.integers(0, 0xFFFF)
maybe_number = st.none() | numbers
tags = st.lists(st.integers(0, 0xFFFFFFFF), max_size=4).map(tuple)


@st.composite
def commands(draw: st.DrawFn) -> Command:
    field = draw(st.sampled_from(CommandField))
    answers = bool(field & 0x8000) or field is CommandField.C_CANCEL_RQ
    return Command(
        field=field,
        message_id=0 if answers else draw(numbers),
        responding_to=draw(numbers) if answers else 0,
        affected_sop_class=draw(st.just("") | uids),
        requested_sop_class=draw(st.just("") | uids),
        affected_sop_instance=draw(st.just("") | uids),
        requested_sop_instance=draw(st.just("") | uids),
        status=draw(maybe_number),
        priority=draw(maybe_number),
        has_data_set=draw(st.booleans()),
        move_destination=draw(st.just("") | titles),
        move_originator=draw(st.just("") | titles),
        move_originator_message_id=draw(maybe_number),
        remaining=draw(maybe_number),
        completed=draw(maybe_number),
        failed=draw(maybe_number),
        warning=draw(maybe_number),
        offending_elements=draw(tags),
        error_comment=draw(st.just("") | titles),
        error_id=draw(maybe_number),
        event_type=draw(maybe_number),
        action_type=draw(maybe_number),
        attribute_identifiers=draw(tags),
    )


@given(commands())
def test_round_trip(command: Command) -> None:
    assert decode_command(encode_command(command)) == command


@given(commands())
def test_elements_ascend_and_the_group_length_is_right(command: Command) -> None:
    data = encode_command(command)
    dataset = decode(BytesIO(data), True, True)
    assert isinstance(dataset, Dataset)
    assert dataset.CommandGroupLength == len(data) - 12
    found = [element.tag for element in dataset]
    assert found == sorted(found)
    assert encode(dataset, True, True) == data


def test_store_request_of_pynetdicom() -> None:
    primitive = C_STORE()
    primitive.MessageID = 17
    primitive.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    primitive.AffectedSOPInstanceUID = "1.2.3"
    primitive.Priority = 2
    primitive.MoveOriginatorApplicationEntityTitle = "MOVER"
    primitive.MoveOriginatorMessageID = 9
    primitive.DataSet = BytesIO(b"\0" * 8)
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    data = encode(message.command_set, True, True)
    assert data is not None
    assert decode_command(data) == Command(
        field=CommandField.C_STORE_RQ,
        message_id=17,
        affected_sop_class="1.2.840.10008.5.1.4.1.1.2",
        affected_sop_instance="1.2.3",
        priority=2,
        move_originator="MOVER",
        move_originator_message_id=9,
        has_data_set=True,
    )


@pytest.mark.parametrize(
    ("command", "message", "primitive"),
    [
        (
            Command(
                field=CommandField.C_STORE_RSP,
                responding_to=3,
                affected_sop_class="1.2.840.10008.5.1.4.1.1.2",
                affected_sop_instance="1.2.34",
                status=0xA900,
                offending_elements=(0x00080018,),
                error_comment="no such thing",
            ),
            C_STORE_RSP,
            C_STORE,
        ),
        (
            Command(
                field=CommandField.C_FIND_RSP,
                responding_to=4,
                affected_sop_class="1.2.840.10008.5.1.4.1.2.2.1",
                status=0xFF00,
                has_data_set=True,
            ),
            C_FIND_RSP,
            C_FIND,
        ),
        (
            Command(
                field=CommandField.C_MOVE_RSP,
                responding_to=4,
                affected_sop_class="1.2.840.10008.5.1.4.1.2.2.2",
                status=0xFE00,
                remaining=1,
                completed=2,
                failed=3,
                warning=4,
            ),
            C_MOVE_RSP,
            C_MOVE,
        ),
    ],
)
def test_pynetdicom_reads_our_responses(command: Command, message: type, primitive: type) -> None:
    reader = message()
    reader.command_set = decode(BytesIO(encode_command(command)), True, True)
    read: Any = reader.message_to_primitive()
    assert type(read).__name__ == primitive.__name__
    assert read.MessageIDBeingRespondedTo == command.responding_to
    assert read.Status == command.status
    assert str(read.AffectedSOPClassUID) == command.affected_sop_class
    if command.error_comment:
        assert read.ErrorComment == command.error_comment
    if command.remaining is not None:
        assert read.NumberOfRemainingSuboperations == 1
        assert read.NumberOfWarningSuboperations == 4


@given(uids, uids, numbers, numbers, st.none() | st.tuples(titles, numbers))
def test_store_requests_by_the_thousand_are_as_single_ones(
    sop_class: str, instance: str, message_id: int, priority: int, originator: tuple[str, int] | None
) -> None:
    title, original = originator or ("", None)
    command = Command(
        field=CommandField.C_STORE_RQ,
        message_id=message_id,
        affected_sop_class=sop_class,
        affected_sop_instance=instance,
        priority=priority,
        has_data_set=True,
        move_originator=title,
        move_originator_message_id=original,
    )
    requests = StoreRequests(sop_class, priority=priority, move_originator=title, move_originator_message_id=original)
    assert requests.encode(message_id, instance) == encode_command(command)


@pytest.mark.parametrize("status", [0, 0xFF00, 0xA700])
def test_the_short_way_writes_what_the_long_way_writes(status: int) -> None:
    short = Command(
        field=CommandField.C_STORE_RSP, responding_to=65535, affected_sop_class="1.2.3", affected_sop_instance="1.2.34",
        status=status,
    )  # fmt: skip
    long = Command(
        field=CommandField.C_STORE_RSP, responding_to=65535, affected_sop_class="1.2.3", affected_sop_instance="1.2.34",
        status=status, error_id=7,
    )  # fmt: skip
    assert encode_command(long) == _lengthened(encode_command(short), after=0x0900, element=(0x0903, 7))


def _lengthened(data: bytes, after: int, element: tuple[int, int]) -> bytes:
    position = 12
    while position < len(data):
        _, number, length = struct.unpack_from("<HHL", data, position)
        position += 8 + length
        if number == after:
            break
    inserted = struct.pack("<HHLH", 0, element[0], 2, element[1])
    (length,) = struct.unpack_from("<L", data, 8)
    return data[:8] + struct.pack("<L", length + 10) + data[12:position] + inserted + data[position:]


def _element(group: int, number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", group, number, len(value)) + value


FIELD = _element(0, 0x0100, b"\x30\x00")
NO_DATA = _element(0, 0x0800, b"\x01\x01")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        FIELD,
        NO_DATA,
        _element(0, 0x0100, b"\x77\x77") + NO_DATA,
        _element(0, 0x0100, b"\x30\x00\x00\x00") + NO_DATA,
        FIELD + NO_DATA + b"\0\0",
        FIELD + NO_DATA + struct.pack("<HHL", 0, 0x1000, 100),
        FIELD + NO_DATA + _element(8, 0x0018, b"1.2\0"),
        FIELD + NO_DATA + _element(0, 0x0901, b"\0\0\0"),
    ],
)
def test_what_cannot_be_read(data: bytes) -> None:
    with pytest.raises(CommandError):
        decode_command(data)


_STORE_REQUESTS = st.builds(
    Command,
    field=st.just(CommandField.C_STORE_RQ),
    message_id=numbers,
    affected_sop_class=uids,
    affected_sop_instance=uids,
    priority=numbers,
    has_data_set=st.booleans(),
)


_CHANGES = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3)
"""Which byte becomes which."""


def _agree(short_way: Callable[[bytearray], Command | None], data: bytes, changes: list[tuple[int, int]]) -> None:
    """What the short way reads is what the long way reads, and it reads what nothing was changed of."""
    changed = bytearray(data)
    for position, value in changes:
        changed[position % len(changed)] = value
    short = short_way(changed)
    if short is not None:
        assert short == _decode_any(changed)
    if not changes:
        assert short is not None


@given(_STORE_REQUESTS.map(encode_command), _CHANGES)
def test_the_short_way_reads_what_the_long_way_reads(data: bytes, changes: list[tuple[int, int]]) -> None:
    _agree(decode_store_request, data, changes)


_STORE_RESPONSES = st.builds(
    Command,
    field=st.just(CommandField.C_STORE_RSP),
    responding_to=numbers,
    affected_sop_class=st.one_of(st.just(""), uids),
    affected_sop_instance=st.one_of(st.just(""), uids),
    status=numbers,
)


@given(_STORE_RESPONSES.map(encode_command), _CHANGES)
def test_so_does_the_short_way_of_responses(data: bytes, changes: list[tuple[int, int]]) -> None:
    _agree(_decode_store_response, data, changes)


def test_unknown_elements_and_a_wrong_group_length_are_passed_over() -> None:
    data = _element(0, 0x0000, b"\xff\xff\0\0") + FIELD + _element(0, 0x0400, b"RETIRED ") + NO_DATA
    assert decode_command(data) == Command(field=CommandField.C_ECHO_RQ)


def test_padding_of_peers_is_tolerated() -> None:
    data = FIELD + _element(0, 0x0002, b"1.2.840.10008.1.1 ") + NO_DATA
    assert decode_command(data).affected_sop_class == "1.2.840.10008.1.1"


def test_a_long_error_comment_is_cut() -> None:
    command = Command(field=CommandField.C_ECHO_RSP, status=0xC000, error_comment="x" * 100)
    assert decode_command(encode_command(command)).error_comment == "x" * 64


@pytest.mark.parametrize(
    "command",
    [
        Command(field=CommandField.C_ECHO_RQ, message_id=65536),
        Command(field=CommandField.C_ECHO_RSP, status=70000),
        Command(field=CommandField.C_ECHO_RSP, status=0, error_comment="é"),
        Command(field=CommandField.C_MOVE_RSP, status=0, remaining=65536),
    ],
)
def test_values_no_command_can_hold(command: Command) -> None:
    with pytest.raises(CommandError):
        encode_command(command)


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_garbage_raises_nothing_else(data: bytes) -> None:
    with suppress(CommandError):
        decode_command(data)
