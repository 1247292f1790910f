"""Messages taken apart in one stroke: they are what the machine makes of the same bytes, or they are left to it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastarchive.upperlayer.commands import Command, encode_command
from fastarchive.upperlayer.errors import RemoteProtocolError
from fastarchive.upperlayer.events import CommandReceived, DataReceived, Event
from fastarchive.upperlayer.machine import Machine
from fastarchive.upperlayer.pdu import frame_command, frame_data_set
from fastarchive.upperlayer.whole import whole_store
from tests.upperlayer.running import CT_IMAGE_STORAGE
from tests.upperlayer.test_machine import AGREED, ECHO_PDU, RELEASE_RQ, STORE, acceptor, pdata


def framed(
    command: Command = STORE, data_set: bytes = b"0123456789", *, context: int = 3, longest: int = 1000
) -> bytes:
    """A message in PDUs."""
    head = frame_command(context, encode_command(command), longest)
    return head + b"".join(bytes(part) for part in frame_data_set(context, data_set, longest, last=True))


def made(data: bytes) -> list[Event] | None:
    """The events of what is taken apart in one stroke; None if it isn't."""
    machine = acceptor()
    whole = whole_store(memoryview(data), machine.contexts, machine.maximum_length)
    if whole is None:
        return None
    return [CommandReceived(whole.context, whole.command), DataReceived(whole.data_set, True)]


def judged(data: bytes, machine: Machine) -> list[Event] | None:
    """What the machine says; None when the message is not over with the last byte, or it does not understand."""
    try:
        events = list(machine.receive_data(memoryview(data)))
    except RemoteProtocolError:
        return None
    return events if machine.is_at_rest else None


CONTEXT = next(context.id for context in AGREED.contexts.values() if context.abstract_syntax == CT_IMAGE_STORAGE)
WHOLE = framed(context=CONTEXT)


@pytest.mark.parametrize("command", [STORE, replace(STORE, message_id=65535, affected_sop_instance="1." * 31 + "12")])
@pytest.mark.parametrize("size", [2, 3, 990])
def test_A3_a_message_in_two_PDUs(command: Command, size: int) -> None:
    data = framed(command, bytes(size), context=CONTEXT)
    assert made(data) == judged(data, acceptor()) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        WHOLE[:-1],
        WHOLE + ECHO_PDU,
        WHOLE + WHOLE,
        WHOLE + b"\4",
        ECHO_PDU,
        RELEASE_RQ,
        framed(context=CONTEXT, longest=60),
        framed(data_set=bytes(1500), context=CONTEXT),
        framed(context=99),
        framed(replace(STORE, move_originator="SCU", move_originator_message_id=1), context=CONTEXT),
        frame_command(CONTEXT, encode_command(replace(STORE, has_data_set=False)), 1000) + WHOLE,
        pdata((CONTEXT, 3, encode_command(STORE)), (CONTEXT, 2, b"0123456789")),
        pdata((CONTEXT, 3, encode_command(STORE))) + pdata((CONTEXT + 2, 2, b"0123456789")),
        pdata((CONTEXT, 3, encode_command(STORE))) + pdata((CONTEXT, 0, b"0123456789")),
        pdata((CONTEXT, 3, encode_command(STORE))) + pdata((CONTEXT, 2, b"")),
        pdata((CONTEXT, 3, encode_command(STORE))) + pdata((CONTEXT, 2, bytes(200_000))),
        pdata((CONTEXT, 1, encode_command(STORE))) + pdata((CONTEXT, 2, b"0123456789")),
    ],
)
def test_what_comes_otherwise_is_left_to_the_machine(data: bytes) -> None:
    assert made(data) is None


@given(st.data())
def test_A2_A3_damaged_messages_are_what_the_machine_says_or_are_left_to_it(data: st.DataObject) -> None:
    stream = bytearray(framed(data_set=data.draw(st.binary(min_size=1, max_size=40)), context=CONTEXT))
    for _ in range(data.draw(st.integers(0, 3))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    stream = stream[: data.draw(st.integers(len(stream) - 2, len(stream)))]
    events = made(bytes(stream))
    assert events is None or events == judged(bytes(stream), acceptor())
