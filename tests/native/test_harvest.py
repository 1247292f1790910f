"""Records dealt out in C fall to whom Python deals them, in every variant this machine can run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.index.harvest import deal_by_python
from fastarchive.native.harvest import dealer
from fastarchive.native.loading import libraries
from fastarchive.store.record import Block, Codec, RecordKind, deletion, encode_record
from tests.index.archives import record_of
from tests.index.effort import effort

LIBRARIES = libraries()
_PATIENTS = st.one_of(
    st.sampled_from(["", " ", "P1", "P2 ", "\0x", "Müller", "a\x1b", "x" * 127, "x" * 128, "x" * 130]),
    st.text("AB 0", max_size=6),
)


@st.composite
def _records(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 5)) == 0:
        return encode_record(deletion(1, "1.1"))
    record = record_of("3", "2", f"1.{draw(st.integers(0, 9))}", draw(_PATIENTS))
    if draw(st.booleans()):
        record = replace(
            record, attributes=draw(st.binary(max_size=30)) + draw(st.sampled_from([b"", b"\x10\0 \0LO\2\0A"]))
        )
    kind = draw(st.sampled_from([RecordKind.INSTANCE] * 4 + [RecordKind.QUARANTINED]))
    stored = draw(st.integers(0, 50))
    blocks = (Block(stored, stored, Codec.RAW, 0, 1, 1, bytes(8)),) * draw(st.integers(0, 2))
    record = replace(record, kind=kind, blocks=blocks)
    return encode_record(record) + bytes(stored * len(blocks))


@pytest.mark.parametrize("variant", LIBRARIES)
@settings(max_examples=effort(150, 20_000), deadline=None)
@given(
    records=st.lists(_records(), max_size=5),
    of=st.integers(1, 3),
    flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), max_size=2),
    ends=st.tuples(
        st.one_of(st.just(0), st.integers(0, 400)),
        st.one_of(st.just(0), st.integers(-200, 5000)),
    ),
)
def test_deal(variant: str, records: list[bytes], of: int, flips: list[tuple[int, int]], ends: tuple[int, int]) -> None:
    data = bytearray(b"".join(records))
    for place, bits in flips:
        if place < len(data):
            data[place] ^= bits
    cut, more = ends
    left = max(len(data) + more, 0)
    piece = bytes(data[: max(len(data) - cut, 0)])
    deal = dealer(LIBRARIES[variant])
    for reader in range(of):
        assert deal(piece, left, reader, of) == deal_by_python(piece, left, reader, of)
