"""The record a plain data set is made into by one C function is the one the Python code makes of it."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.dicom.attributes import STORED_TAGS
from fastarchive.native.loading import libraries
from fastarchive.native.plain import MOST, Rooms
from fastarchive.store.glimpse import glimpse
from fastarchive.store.intake import Intake, IntakeError
from fastarchive.store.record import TornRecord, decode_record
from tests.store.making import CT_IMAGE_STORAGE, EXPLICIT_LITTLE, element, header


class Records:
    """The functions of one library."""

    def __init__(self, path: Path) -> None:
        self.rooms = Rooms(path, STORED_TAGS, MOST, 1)
        self.native = ctypes.CDLL(str(path))
        self.native.fastarchive_plain_record_room.restype = ctypes.c_size_t
        self.native.fastarchive_plain_record.restype = ctypes.c_size_t

    def look(self, start: bytes, size: int, strings: bytes, lengths: bytes) -> bool:
        """Whether there is going to be a record of a data set of `size` bytes that begins with `start`."""
        room = ctypes.c_void_p(self.rooms.addresses[0])
        length, total = ctypes.c_size_t(len(start)), ctypes.c_size_t(size)
        return bool(self.native.fastarchive_plain_look(room, start, length, total, strings, lengths))

    def make(self, pieces: Sequence[bytes], strings: bytes, lengths: bytes, received: int) -> bytes | None:
        """The record of the data set in these pieces; None where there is none."""
        size, count = sum(map(len, pieces)), len(pieces)
        where, sizes = (ctypes.c_char_p * count)(*pieces), (ctypes.c_uint32 * count)(*map(len, pieces))
        out = ctypes.create_string_buffer(self.native.fastarchive_plain_record_room(ctypes.c_size_t(size)))
        data, times = _Pieces(where, sizes, count), (ctypes.c_uint64 * 2)()
        room, total = ctypes.c_void_p(self.rooms.addresses[0]), ctypes.c_size_t(size)
        length = self.native.fastarchive_plain_record(
            room, out, ctypes.byref(data), total, strings, lengths, ctypes.c_int64(received), times
        )
        return out.raw[:length] or None


class _Pieces(ctypes.Structure):
    _fields_ = (
        ("pieces", ctypes.POINTER(ctypes.c_char_p)),
        ("sizes", ctypes.POINTER(ctypes.c_uint32)),
        ("count", ctypes.c_size_t),
    )


RECORDS = {name: Records(path) for name, path in libraries().items()}
RECEIVED = 1_700_000_000_000_000_000
TITLES = ("CT1", "FASTARCHIVE")


def by_python(data: bytes, sop_class: str = "", sop_instance: str = "") -> bytes | None:
    """The record as the log would write it; None if the data set is refused."""
    intake = Intake(
        transfer_syntax=EXPLICIT_LITTLE,
        sop_class=sop_class,
        sop_instance=sop_instance,
        calling_ae=TITLES[0],
        called_ae=TITLES[1],
        spool_directory=Path("/nowhere"),
    )
    intake.write(data)
    try:
        with patch("time.time_ns", return_value=RECEIVED):
            encoded = intake.finish()
    except IntakeError:
        return None
    return b"".join((encoded.metadata, *map(bytes, encoded.buffers)))


def by_c(
    records: Records, data: bytes, sop_class: str = "", sop_instance: str = "", *, cuts: Sequence[int] = ()
) -> bytes | None:
    texts = [text.encode() for text in (sop_class, sop_instance, EXPLICIT_LITTLE, *TITLES)]
    strings, lengths = b"".join(texts), bytes(map(len, texts))
    ends = [0, *sorted(cuts), len(data)]
    if len(data) > MOST:  # nobody may ask for more than the room is for
        return None
    made = records.make([data[a:b] for a, b in itertools.pairwise(ends)], strings, lengths, RECEIVED)
    assert records.look(data, len(data), strings, lengths) == (made is not None)
    return made


def check(data: bytes, *affected: str) -> int:
    """Whatever C makes a record of, it makes the record Python does; how many variants made one."""
    expected = by_python(data, *affected)
    made = 0
    for name, records in RECORDS.items():
        record = by_c(records, data, *affected)
        assert record is None or record == expected, name
        made += record is not None
    return made


def image(rows: int, columns: int, samples: int = 1, *, bits: int = 16, noise: int = 8, seed: int = 1) -> bytes:
    generator = np.random.default_rng(seed)
    pixels = (1000 + generator.integers(0, 1 << noise, rows * columns * samples)).astype(np.uint16).tobytes()
    start = header(rows=rows, columns=columns, samples=samples, bits=bits)
    return start + element(0x7FE00010, "OW", pixels)


@pytest.mark.parametrize("size", [0, 1, 55, 1000, 2048, 9000, 10_000, 17_500, 33_000, 60_000])
def test_data_sets_without_pixels_of_every_size(size: int) -> None:
    noise = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(size // 32 + 1))[:size]
    assert check(header(extra=[element(0x00191010, "OB", noise)])) == len(RECORDS)


@pytest.mark.parametrize(("rows", "columns", "samples"), [(60, 60, 1), (1, 1, 1), (3, 5, 1), (7, 3000, 1), (20, 20, 3)])
def test_pixels_are_filtered_and_compressed(rows: int, columns: int, samples: int) -> None:
    for noise in (1, 4, 8, 16):
        assert check(image(rows, columns, samples, noise=noise)) == len(RECORDS)


@pytest.mark.parametrize(("rows", "columns"), [(512, 512), (300, 1700), (1, 65_000), (9, 57_000)])
def test_slices_in_pieces_are_what_they_are_in_one(rows: int, columns: int) -> None:
    data = image(rows, columns, noise=5)
    expected = by_python(data)
    assert check(data) == len(RECORDS)
    for records in RECORDS.values():
        for cuts in ((128_000,), (70_000, 70_001, 300_000, 300_000), range(1, len(data), 65_000)):
            assert by_c(records, data, cuts=cuts) == expected


def test_what_is_longer_than_a_block_is_left_to_python() -> None:
    largest = MOST - len(header(rows=1, columns=1)) - 12
    whole = largest // 3000 * 3000
    assert check(image(whole // 3000, 1500)) == len(RECORDS)
    assert check(image(MOST // 3000 + 1, 1500)) == 0
    assert check(image(262, 2000)) == len(RECORDS)
    assert check(image(263, 2000)) == 0  # 1,052,000 bytes
    start, rest = header(rows=349, columns=1500), bytes(349 * 3000 + 2)
    assert check(start + element(0x7FE00010, "OW", rest)) == 0  # more than whole rows of a block


@pytest.mark.parametrize("name", RECORDS)
def test_a_look_at_the_start_says_whether_there_is_going_to_be_a_record(name: str) -> None:
    records = RECORDS[name]
    texts = [text.encode() for text in (CT_IMAGE_STORAGE, "1.2.3.4", EXPLICIT_LITTLE, *TITLES)]
    strings, lengths = b"".join(texts), bytes(map(len, texts))
    data = image(512, 512)
    start = len(data) - 512 * 1024
    assert records.look(data[:start], len(data), strings, lengths)
    assert records.look(data[: start + 1000], len(data), strings, lengths)
    for seen, size in ((start - 1, len(data)), (start, len(data) + 2), (start, len(data) - 2), (0, len(data))):
        assert not records.look(data[:seen], size, strings, lengths), (seen, size)
    plain = header(extra=[element(0x00191010, "OB", bytes(100_000))])
    assert records.look(plain, len(plain), strings, lengths)
    assert not records.look(plain[:-2], len(plain), strings, lengths)
    assert not records.look(plain, len(plain) + 2, strings, lengths)


def test_drawings_are_compressed_as_they_are_if_that_is_less() -> None:
    lines = np.tile(np.arange(64, dtype=np.uint16) % 7, 200).tobytes()
    assert check(header(rows=200, columns=64) + element(0x7FE00010, "OW", lines)) == len(RECORDS)
    assert check(header(rows=200, columns=64) + element(0x7FE00010, "OW", bytes(200 * 128))) == len(RECORDS)


def test_what_is_not_plain_is_left_to_python() -> None:
    plain = image(20, 20)
    assert check(plain, CT_IMAGE_STORAGE, "1.2.3.4") == len(RECORDS)
    for odd in (
        b"",
        plain[:-2],
        plain + b"\0\0",
        image(20, 20, bits=8),
        header(rows=2, columns=2) + element(0x7FE00010, "OW", b""),
        header(rows=2, columns=0) + element(0x7FE00010, "OW", b"12345678"),
        header(rows=2, columns=2) + element(0x7FE00010, "OB", b"", length=0xFFFFFFFF),
        header(extra=[element(0x00191010, "OB", bytes(MOST))]),
        header(sop_instance=""),
        header(study="1.2/3"),
        header(series="1.2.3*"),
        header(series="x" * 65),
        header()[:-1],
        bytes(100),
    ):
        assert not any(by_c(records, odd) for records in RECORDS.values())
    for affected in ((CT_IMAGE_STORAGE, "1.2.3.5"), ("1.2", "1.2.3.4")):
        assert not any(by_c(records, plain, *affected) for records in RECORDS.values())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_data_sets_are_made_into_what_python_makes_of_them_or_nothing(data: st.DataObject) -> None:
    whole = bytearray(image(9, 16, noise=6))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    check(bytes(whole[: data.draw(st.integers(len(whole) - 40, len(whole)))]))


def test_the_digest_is_that_of_the_package_blake3() -> None:
    for records, size in itertools.product(RECORDS.values(), (*range(1, 3000, 97), 15_800, 16_384, 32_700, 65_000)):
        data = header(extra=[element(0x00191010, "OB", bytes(range(256)) * (size // 256 + 1))])[:MOST]
        record = by_c(records, data)
        if record is not None:
            assert decode_record(record).digest == blake3(data).digest()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_glimpse_shows_what_is_there(data: st.DataObject) -> None:
    record = by_python(image(9, 16))
    assert record is not None
    seen = glimpse(record)
    assert seen == decode_record(record)
    assert glimpse(record).attributes == decode_record(record).attributes
    damaged = bytearray(record)
    damaged[data.draw(st.integers(0, len(record) - 1))] ^= data.draw(st.integers(1, 255))
    part = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        expected = decode_record(part)
    except TornRecord:
        with pytest.raises(TornRecord):
            glimpse(part)
    else:
        assert glimpse(part) == expected
