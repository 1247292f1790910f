"""The PDUs one C function makes of a record are those the Python code makes of its data set."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.native.loading import libraries
from fastarchive.native.outgoing import LEAST_FRAGMENT, MOST, OutgoingInstances, Space
from fastarchive.store.codec import AS_IT_IS, PLAIN, Plan, encode_block
from fastarchive.store.encoding import EncodedRecord
from fastarchive.store.filters import Filter
from fastarchive.store.record import Record, RecordKind
from fastarchive.upperlayer.pdu import frame_data_set
from tests.store.making import CT_IMAGE_STORAGE, EXPLICIT_LITTLE, ct_pixels, header

OUTGOING = {name: OutgoingInstances(path) for name, path in libraries().items()}
SPACE = Space()
CONTEXT, HEAD = 5, b"command"
BEFORE = 4096


def rows(distance: int, width: int = 2) -> Plan:
    return Plan(True, Filter.ROWS, width, distance)


def record_of(
    blocks: Sequence[tuple[bytes, Plan]],
    kind: RecordKind = RecordKind.INSTANCE,
    origin: tuple[int, int] | None = None,
    digest: bytes | None = None,
) -> tuple[bytes, bytes]:
    """A record with these blocks, and the data set they are."""
    data = b"".join([content for content, _ in blocks])
    encoded = [encode_block(content, plan) for content, plan in blocks]
    record = Record(
        kind=kind,
        received=1_700_000_000_000_000_000,
        digest=digest or blake3(data).digest(),
        length=len(data),
        sop_class=CT_IMAGE_STORAGE,
        sop_instance="1.2.3.4",
        study="1.2.3",
        series="1.2.3.1",
        transfer_syntax=EXPLICIT_LITTLE,
        calling_ae="CT1",
        called_ae="Ä",
        attributes=b"attributes",
        blocks=tuple(one.block for one in encoded),
        origin=origin,
    )
    whole = EncodedRecord.of(record, [piece for one in encoded for piece in one.stored])
    return b"".join((whole.metadata, *map(bytes, whole.buffers))), data


def read(
    outgoing: OutgoingInstances, record: bytes, length: int, longest: int = 16_378, syntax: str = EXPLICIT_LITTLE
) -> bytes | None:
    """The message that carries the data set of a record, read from a file; None when it is left to others."""
    with tempfile.TemporaryFile() as file:
        file.write(bytes(BEFORE) + record)
        file.flush()
        return read_file(outgoing, file.fileno(), (BEFORE, len(record)), length, longest=longest, syntax=syntax)


def read_file(
    outgoing: OutgoingInstances, file: int, place: tuple[int, int], length: int, *, longest: int, syntax: str
) -> bytes | None:
    told = outgoing.read(
        file, *place, SPACE, length=length, transfer_syntax=syntax.encode(), context=CONTEXT, longest=longest
    )
    return bytes(SPACE.message(HEAD)) if told else None


def framed(data: bytes, longest: int = 16_378) -> bytes:
    """What the Python code sends."""
    return HEAD + b"".join(frame_data_set(CONTEXT, data, longest, last=True))


contents = st.builds(
    lambda seed, size, noise: (
        np.random.default_rng(seed).normal(1000, noise, size // 2 + 1).astype("<i2").tobytes()[:size]
    ),
    st.integers(0, 99),
    st.integers(1, 5000) | st.integers(1, 200_000),
    st.sampled_from([0.0, 0.3, 8.0, 3000.0]),
)
plans = st.sampled_from([PLAIN, AS_IT_IS]) | st.builds(rows, st.sampled_from([1, 2, 3, 7, 8, 9, 64, 128, 5000]))


def test_the_libraries_were_built() -> None:
    assert OUTGOING


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(contents, plans), min_size=1, max_size=4),
    st.integers(LEAST_FRAGMENT // 2, 40_000).map(lambda half: 2 * half),
    st.sampled_from([RecordKind.INSTANCE, RecordKind.QUARANTINED]),
    st.none() | st.just((7, 4096)),
)
def test_a_record_is_sent_as_the_data_set_it_holds(
    blocks: list[tuple[bytes, Plan]], longest: int, kind: RecordKind, origin: tuple[int, int] | None
) -> None:
    if sum(len(content) for content, _ in blocks) % 2:
        blocks = [*blocks, (b"\0", AS_IT_IS)]
    record, data = record_of(blocks, kind, origin)
    for name, outgoing in OUTGOING.items():
        got = read(outgoing, record, len(data), longest)
        if got is None:  # a frame that C leaves to zstd
            assert any(plan.filter and len(content) < 1000 for content, plan in blocks), name
        else:
            assert got == framed(data, longest), name


@pytest.mark.parametrize("longest", [LEAST_FRAGMENT, 16_378, 131_066, 1 << 20])
@pytest.mark.parametrize("length", [0, 2, 16_378, 16_380, 2 * 16_378, 2 * 131_066])
def test_fragments_end_where_they_should(longest: int, length: int) -> None:
    start, pixels = header(rows=512, columns=512), ct_pixels()
    blocks = [(start, PLAIN), (pixels, rows(128)), (bytes(length), AS_IT_IS)]
    blocks = [(content, plan) for content, plan in blocks if content]
    record, data = record_of(blocks)
    for outgoing in OUTGOING.values():
        assert read(outgoing, record, len(data), longest) == framed(data, longest)


def test_one_longest_fragment_is_one_pdu() -> None:
    for length in (16_376, 16_378, 16_380):
        record, data = record_of([(os.urandom(length), AS_IT_IS)])
        for outgoing in OUTGOING.values():
            assert read(outgoing, record, length) == framed(data)


@pytest.mark.parametrize(
    ("blocks", "longest", "syntax"),
    [
        pytest.param([(ct_pixels(64, 64), rows(16, 1))], 16_378, EXPLICIT_LITTLE, id="8-bit samples"),
        pytest.param([(ct_pixels(64, 64), rows(16, 4))], 16_378, EXPLICIT_LITTLE, id="32-bit samples"),
        pytest.param([(ct_pixels(64, 64), Plan(True, Filter.PLANES, 2))], 16_378, EXPLICIT_LITTLE, id="planes"),
        pytest.param([(ct_pixels(64, 64), rows(128 << 10))], 16_378, EXPLICIT_LITTLE, id="rows that are too long"),
        pytest.param([(bytes(MOST + 2), PLAIN)], 16_378, EXPLICIT_LITTLE, id="too long"),
        pytest.param([(b"odd", AS_IT_IS)], 16_378, EXPLICIT_LITTLE, id="odd"),
        pytest.param([(b"even", AS_IT_IS)], LEAST_FRAGMENT - 2, EXPLICIT_LITTLE, id="tiny fragments"),
        pytest.param([(b"even", AS_IT_IS)], 16_378, "1.2.840.10008.1.2", id="another transfer syntax"),
        pytest.param([(b"even", AS_IT_IS)], 16_378, "1.2.840.10008.1.2.2", id="another of the same length"),
    ],
)
def test_what_is_not_plain_is_left_to_the_python_code(
    blocks: list[tuple[bytes, Plan]], longest: int, syntax: str
) -> None:
    record, data = record_of(blocks)
    for outgoing in OUTGOING.values():
        assert read(outgoing, record, len(data), longest, syntax) is None


def test_a_record_without_a_data_set_and_one_of_another_length_are_not_sent() -> None:
    record, data = record_of([(b"even", AS_IT_IS)])
    ended, _ = record_of([(b"even", AS_IT_IS)], RecordKind.QUARANTINE_END)
    wrong, _ = record_of([(b"even", AS_IT_IS)], digest=bytes(31) + b"\1")
    for outgoing in OUTGOING.values():
        assert read(outgoing, record, len(data)) is not None
        assert read(outgoing, ended, len(data)) is None
        assert read(outgoing, wrong, len(data)) is None
        assert read(outgoing, record, len(data) + 2) is None
        assert read(outgoing, record[:-1], len(data)) is None
        assert read(outgoing, record + b"\0", len(data)) is None
        assert read(outgoing, record[:91], len(data)) is None


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 255), st.booleans())
def test_damage_is_never_sent(at: int, flip: int, near: bool) -> None:
    """Wherever it is: in the metadata, in a frame that is not compressed, in one of zstd and in one of our own."""
    record, data = DAMAGED
    damaged = bytearray(record)
    damaged[at % (1000 if near else len(record))] ^= flip
    for outgoing in OUTGOING.values():
        assert read(outgoing, bytes(damaged), len(data)) in (None, framed(data))


DAMAGED = record_of([(header(rows=64, columns=64)[:300], PLAIN), (ct_pixels(64, 64), rows(16)), (b"abcd", AS_IT_IS)])


def test_what_is_not_in_memory_is_not_waited_for(tmp_path: Path) -> None:
    record, data = record_of([(ct_pixels(), rows(128))])
    path = tmp_path / "pack"
    path.write_bytes(record)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for outgoing in OUTGOING.values():
            # None, unless the file system keeps everything in memory or the disk was quick.
            got = read_file(
                outgoing, file.fileno(), (0, len(record)), len(data), longest=16_378, syntax=EXPLICIT_LITTLE
            )
            assert got in (None, framed(data))
