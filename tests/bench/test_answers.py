"""Answers are found whole in whatever pieces and fragments they come."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.answers import Answers
from bench.messages import ABORT, C_FIND, DATA, NO_DATA_SET, RESPONSE, RequestError, encode_command


def _command(status: int, *, data_set: bool) -> bytes:
    return encode_command({0x0100: C_FIND | RESPONSE, 0x0800: 1 if data_set else NO_DATA_SET, 0x0900: status})


def _pdu(*fragments: tuple[int, bytes]) -> bytes:
    body = b"".join(struct.pack(">LBB", len(piece) + 2, 1, control) + piece for control, piece in fragments)
    return struct.pack(">BxL", DATA, len(body)) + body


def _fragments(command: int, data: bytes, most: int) -> list[tuple[int, bytes]]:
    pieces = [data[at : at + most] for at in range(0, len(data), most)] or [b""]
    return [(command | 2 * (number == len(pieces) - 1), piece) for number, piece in enumerate(pieces)]


@given(
    st.lists(st.tuples(st.binary(max_size=80), st.sampled_from([0xFF00, 0xFF01])), max_size=8),
    st.sampled_from([7, 30, 1000]),
    st.booleans(),
    st.integers(1, 400),
)
def test_any_answers(answers: list[tuple[bytes, int]], most: int, together: bool, chunk: int) -> None:
    wire = b""
    for identifier, status in answers:
        fragments = _fragments(1, _command(status, data_set=True), most) + _fragments(0, identifier, most)
        wire += _pdu(*fragments) if together else b"".join(map(_pdu, fragments))
    wire += _pdu((3, _command(0, data_set=False)))
    found = Answers()
    for at in range(0, len(wire), chunk):
        assert found.final is None
        found.feed(wire[at : at + chunk])
    assert found.identifiers == [identifier for identifier, _ in answers]
    assert found.final is not None
    assert found.final.status == 0


def test_an_abort_is_told() -> None:
    with pytest.raises(RequestError):
        Answers().feed(struct.pack(">BxLxxBB", ABORT, 4, 0, 0) + bytes(6))
