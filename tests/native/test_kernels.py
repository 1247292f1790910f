"""The C functions give what their Python twins give, in every variant this machine can run."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive import native
from fastarchive.dicom.attributes import STORED_TAGS
from fastarchive.dicom.elements import Element, encode, encode_element, encode_sequence, scan_header
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE
from fastarchive.native.build import BuildError, build
from fastarchive.native.loading import libraries
from fastarchive.native.pixels import RowFrames
from fastarchive.native.unpacking import Unpacking
from fastarchive.store import filters
from fastarchive.store.filters import Filter

LIBRARIES = libraries()
FRAMES = {name: RowFrames(path) for name, path in LIBRARIES.items()}
UNPACKING = {name: Unpacking(path) for name, path in LIBRARIES.items()}
WIDTH = 2
_decompressor = zstandard.ZstdDecompressor()


def _frame(frames: RowFrames, data: bytes, distance: int, pieces: list[int], announced: int) -> bytes:
    """The frame of `data`, which comes in `pieces` of these sizes in turn, when `announced` bytes were to come."""
    frame = frames.begin(announced, distance)
    at = 0
    for size in itertools.cycle(pieces):
        some = min(size, len(data) - at)
        frame.feed(data, at, some)
        at += some
        if at == len(data):
            return frame.finish()
    raise AssertionError


def check_frame(data: bytes, distance: int, pieces: list[int], missing: int = 0) -> None:
    """Every variant's frame is read by zstd, and holds what the numpy filter makes."""
    expected = bytes(filters.apply(data, Filter.ROWS, WIDTH, distance))
    for name, path in LIBRARIES.items():
        restored = bytes(native.rows(path)(expected, distance))
        assert restored == data, f"{name}, {len(data)} bytes: {_first_difference(restored, data)}"
        frame = _frame(FRAMES[name], data, distance, pieces, len(data) + missing)
        assert len(frame) <= len(data) + 64 + len(data) // 1000
        assert zstandard.get_frame_parameters(frame).content_size == len(data)
        got = _decompressor.decompress(frame)
        assert got == expected, f"{name}, {len(data)} bytes, distance {distance}: {_first_difference(got, expected)}"
        unpacked = bytearray(len(data))
        if UNPACKING[name](frame, distance, unpacked):
            assert unpacked == data, f"{name}, unpacked: {_first_difference(bytes(unpacked), data)}"
        else:  # too short for a header of literals
            assert len(data) < 1000, f"{name}, {len(data)} bytes: not unpacked"


def _first_difference(got: bytes, expected: bytes) -> str:
    at = next((i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b), min(len(got), len(expected)))
    return f"differ at byte {at} of {len(expected)}"


def test_the_libraries_were_built() -> None:
    assert LIBRARIES, "no library in fastarchive/native: python -m fastarchive.native says why"
    assert next(iter(LIBRARIES)) == native.VARIANT


@st.composite
def pieces(draw: st.DrawFn) -> bytes:
    """Runs, noise and text in turn: every branch of the encoder, over its sizes of block, sample and word."""
    parts = []
    for _ in range(draw(st.integers(1, 6))):
        length = draw(st.sampled_from([1, 7, 8, 15, 64, 300, 5000, 33_000, 70_000]))
        seed = random.Random(draw(st.integers(0, 1000)))
        kind = draw(st.sampled_from(["run", "noise", "narrow", "few", "rare", "words", "bursts"]))
        match kind:
            case "run":
                parts.append(bytes([seed.randrange(256)]) * length)
            case "noise":
                parts.append(seed.randbytes(length))
            case "narrow":
                parts.append(bytes(128 + (byte & 15) - (byte >> 4) for byte in seed.randbytes(length)))
            case "few":
                parts.append(bytes(b"\0\0\0\0\0\0\1\xff"[byte & 7] for byte in seed.randbytes(length)))
            case "rare":
                block = bytearray(length)
                block[seed.randrange(length)] = seed.randrange(256)
                parts.append(bytes(block))
            case "bursts":  # of bytes with long codes
                common = bytes(map(int.bit_count, seed.randbytes(400)))
                stretch = b"".join(common + seed.randbytes(40) for _ in range(9))
                parts.append((stretch * (length // len(stretch) + 1))[:length])
            case "words":
                parts.append((seed.randbytes(8) * (length // 8 + 1))[:length])
    return b"".join(parts)


@settings(max_examples=60, deadline=None)
@given(
    pieces(),
    st.sampled_from([1, 2, 5, 64, 128, 100_000]),
    st.lists(st.sampled_from([1, 7, 1000, 16_372, 32_768, 200_000]), min_size=1, max_size=3).filter(
        lambda sizes: max(sizes) > 7
    ),
    st.sampled_from([0, 0, 1, 100_000]),
)
def test_any_bytes_come_back(data: bytes, distance: int, sizes: list[int], missing: int) -> None:
    check_frame(data, distance, sizes, missing)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700_000), st.integers(0, 9), st.sampled_from([1, 128, 40_000]), st.integers(0, 300_000))
def test_pixels_of_any_length_come_back(size: int, seed: int, distance: int, missing: int) -> None:
    noise = np.random.default_rng(seed).normal(1000, 20, size // 2 + 1).astype(np.int16)
    check_frame(noise.tobytes()[:size], distance, [131_072], missing)


def test_no_more_is_taken_than_was_announced_and_nothing_beyond_what_there_is() -> None:
    frames = FRAMES[native.VARIANT]
    frame = frames.begin(100, 4)
    frame.feed(bytes(range(200)), 0, 200)
    expected = bytes(filters.apply(bytes(range(100)), Filter.ROWS, WIDTH, 4))
    assert _decompressor.decompress(frame.finish()) == expected
    for start, count in ((-1, 5), (0, 11), (5, -1), (11, 0)):
        with pytest.raises(ValueError, match="no such bytes"):
            frames.begin(100, 4).feed(bytes(10), start, count)


def test_threads_make_frames_side_by_side() -> None:
    frames = FRAMES[native.VARIANT]
    images = [np.random.default_rng(seed).normal(0, 30, 200_000).astype(np.int16).tobytes() for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda data: [_frame(frames, data, 128, [16_372], len(data)) for _ in range(8)], images))
    for data, several in zip(images, made, strict=True):
        assert set(several) == {_frame(frames, data, 128, [len(data)], len(data))}


@pytest.mark.parametrize("deviation", [0.3, 2, 20, 200, 3000])
@pytest.mark.parametrize("size", [1 << 20, 512 * 512 * 2, 300_001])
def test_pixels_come_back_and_no_larger_than_zstd_makes_them(deviation: float, size: int) -> None:
    noise = np.random.default_rng(1).normal(1000, deviation, size // 2).astype(np.int16)
    data = noise.tobytes() + bytes(size % 2)
    check_frame(data, 128, [size])
    frame = _frame(FRAMES[native.VARIANT], data, 128, [size], size)
    parameters = zstandard.ZstdCompressionParameters.from_level(1, source_size=len(data), min_match=6)
    zstd = zstandard.ZstdCompressor(compression_params=parameters)
    usual = zstd.compress(filters.apply(data, Filter.ROWS, WIDTH, 128))
    assert len(frame) <= len(usual) * 1.01


@settings(max_examples=60, deadline=None)
@given(pieces(), st.integers(0, 1 << 30), st.integers(1, 255), st.booleans())
def test_a_damaged_frame_writes_nothing_beyond_its_room(data: bytes, at: int, flip: int, cut: bool) -> None:
    frame = _frame(FRAMES[native.VARIANT], data, 5, [len(data)], len(data))
    damaged = bytearray(frame)
    damaged[at % len(frame)] ^= flip
    if cut:
        del damaged[at % len(frame) :]
    for unpack in UNPACKING.values():
        guarded = bytearray(len(data) + 64)
        unpack(bytes(damaged), 5, memoryview(guarded)[: len(data)])
        assert not any(guarded[len(data) :])
        assert not unpack(frame, 5, bytearray(len(data) + 1))


@settings(max_examples=30, deadline=None)
@given(pieces(), st.integers(1, 9))
def test_frames_of_zstd_are_left_to_it_or_read_as_it_reads_them(data: bytes, level: int) -> None:
    frame = zstandard.ZstdCompressor(level=level).compress(filters.apply(data, Filter.ROWS, WIDTH, 7))
    for unpack in UNPACKING.values():
        unpacked = bytearray(len(data))
        assert not unpack(frame, 7, unpacked) or unpacked == data


_values = st.binary(max_size=40).map(lambda value: value + b" " * (len(value) % 2))
_elements = st.builds(
    Element, st.sampled_from(sorted(STORED_TAGS)), st.sampled_from(["LO", "UI", "US", "DA", "UN", "UT", "PN"]), _values
)
_others = st.builds(
    Element, st.sampled_from([0x00080012, 0x00091001, 0x00400260]), st.sampled_from(["LO", "OB"]), _values
)
_sequences = st.builds(
    lambda tag, items: Element(tag, "SQ", encode_sequence([list(item) for item in items])),
    st.sampled_from([0x00081110, 0x00189346, 0x00400275]),
    st.lists(st.lists(_others, max_size=2), max_size=2),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(_elements, _others, _sequences), max_size=8), st.booleans(), st.integers(0, 30), st.booleans()
)
def test_a_header_is_read_as_in_python(parts: list[Element], ordered: bool, cut: int, pixels: bool) -> None:
    unique = list({element.tag: element for element in parts}.values()) if ordered else parts
    data = (
        encode(unique, EXPLICIT_LITTLE)
        if ordered
        else b"".join(encode_element(element, EXPLICIT_LITTLE) for element in unique)
    )
    if pixels:
        data += encode_element(Element(0x7FE00010, "OW", bytes(20)), EXPLICIT_LITTLE)
    data = data[: len(data) - cut] if cut < 20 else data
    here = scan_header(data, EXPLICIT_LITTLE, STORED_TAGS, copy=20)
    there = scan_header(memoryview(data), EXPLICIT_LITTLE, STORED_TAGS)  # the library takes only bytes
    assert dict(here.elements) == dict(there.elements)
    assert (here.bulk_offset, here.pixel, here.complete, here.damage) == (
        there.bulk_offset,
        there.pixel,
        there.complete,
        there.damage,
    )
    if here.copied is not None:
        short = [element for element in there.elements.values() if len(element.value) <= 20]
        assert here.copied == encode(short, EXPLICIT_LITTLE)


def test_an_ordered_header_takes_the_quick_way() -> None:
    data = encode([Element(0x00100010, "PN", b"Doe^Jane"), Element(0x7FE00010, "OW", bytes(8))], EXPLICIT_LITTLE)
    header = scan_header(data, EXPLICIT_LITTLE, STORED_TAGS, copy=100)
    assert header.copied == data[:16]


def test_without_the_library_the_python_code_runs() -> None:
    code = "from fastarchive import native; print(native.VARIANT, native.restore_rows, native.scan_plain_header)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"FASTARCHIVE_NATIVE": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["none", "None", "None"]


def test_a_machine_without_compiler_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BuildError, match="no C compiler"):
        build()


def test_a_compiler_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(BuildError, match="no-such-compiler can't be run: No such file"):
        build()
