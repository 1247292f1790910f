"""Records survive encoding, and nothing else passes for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastarchive.store.record import (
    Block,
    Location,
    Record,
    RecordKind,
    TornRecord,
    decode_record,
    deletion,
    encode_record,
    measure,
)
from tests.store.making import encoded

_TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
_BLOCKS = st.builds(
    Block,
    stored=st.integers(0, 2**32 - 1),
    raw=st.integers(0, 2**32 - 1),
    codec=st.integers(0, 255),
    filter=st.integers(0, 255),
    width=st.integers(0, 255),
    distance=st.integers(0, 2**32 - 1),
    checksum=st.binary(min_size=8, max_size=8),
)
_RECORDS = st.builds(
    Record,
    kind=st.sampled_from(RecordKind),
    received=st.integers(-(2**63), 2**63 - 1),
    digest=st.binary(min_size=32, max_size=32),
    length=st.integers(0, 2**64 - 1),
    sop_class=_TEXT,
    sop_instance=_TEXT,
    study=_TEXT,
    series=_TEXT,
    transfer_syntax=_TEXT,
    calling_ae=_TEXT,
    called_ae=_TEXT,
    attributes=st.binary(max_size=300),
    blocks=st.lists(_BLOCKS, max_size=5).map(tuple),
)


@given(_RECORDS, st.binary(max_size=20))
def test_a_record_comes_back_as_it_was(record: Record, after: bytes) -> None:
    data = encode_record(record)
    extent = measure(data)
    assert extent.metadata == len(data)
    assert extent.total == len(data) + sum(block.stored for block in record.blocks)
    assert decode_record(data + after) == record


def test_the_fixed_part_lies_as_the_format_says() -> None:
    record = encoded(7).record
    data = encode_record(record)
    assert data[:4] == bytes.fromhex("512A4D18")
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    assert data[8:12] == b"FREC"
    assert data[16:20] == bytes([1, 0, 1, 0])
    assert int.from_bytes(data[20:24], "little") == 1
    assert int.from_bytes(data[24:32], "little") == encoded(7).size
    assert int.from_bytes(data[32:40], "little") == record.received
    assert data[48:80] == record.digest
    assert data[80] == 1
    assert list(data[81:88]) == [len(record.sop_class), 7, 3, 5, len(record.transfer_syntax), 8, 7]
    assert data[92:].startswith((record.sop_class + record.sop_instance + record.study).encode())


def test_every_flipped_bit_is_noticed() -> None:
    data = encode_record(encoded().record)
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(TornRecord):
                decode_record(damaged)


def test_every_shortening_is_noticed() -> None:
    data = encode_record(encoded().record)
    for length in range(len(data)):
        with pytest.raises(TornRecord):
            decode_record(data[:length])
        torn = data[:length].ljust(len(data), b"\0")
        if torn != data:
            with pytest.raises(TornRecord):
                decode_record(torn)


def test_zeroes_are_no_record() -> None:
    with pytest.raises(TornRecord):
        decode_record(bytes(4096))


def test_strings_and_digests_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="255"):
        encode_record(deletion(0, "1" * 256))
    record = deletion(0, "1.2")
    object.__setattr__(record, "digest", b"short")
    with pytest.raises(ValueError, match="32"):
        encode_record(record)


def test_a_deletion_names_what_goes() -> None:
    record = deletion(5, "1.2", "1.2.3", "1.2.3.4", calling_ae="KEEPER")
    decoded = decode_record(encode_record(record))
    assert decoded == record
    assert (decoded.kind, decoded.study, decoded.series, decoded.sop_instance) == (
        RecordKind.DELETION,
        "1.2",
        "1.2.3",
        "1.2.3.4",
    )
    assert decoded.blocks == ()


def test_the_order_is_time_then_pack_then_offset() -> None:
    first, second = encoded(1).record, encoded(2).record
    assert first.order(Location(9, 9, 1)) < second.order(Location(1, 1, 1))
    assert first.order(Location(1, 9, 1)) < first.order(Location(2, 1, 1))
    assert first.order(Location(1, 1, 1)) < first.order(Location(1, 2, 1))
