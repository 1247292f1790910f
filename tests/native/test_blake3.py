"""BLAKE3 in C gives what the package does, in every variant this machine can run, wherever its tree changes shape."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.native.loading import libraries

DATA = random.Random(3).randbytes(1_200_000)
CHUNK = 1024
Digest = Callable[[bytes, int], bytes]


def hashing(path: Path) -> Digest:
    """What hashes bytes in pieces of a size, with one library."""
    native = ctypes.CDLL(str(path))
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    native.fastarchive_blake3_memory.restype = size
    native.fastarchive_blake3.restype = None
    native.fastarchive_blake3.argtypes = (pointer, ctypes.c_char_p, size, size, pointer)
    memory = ctypes.create_string_buffer(native.fastarchive_blake3_memory())
    out = ctypes.create_string_buffer(32)

    def digest(data: bytes, piece: int) -> bytes:
        native.fastarchive_blake3(memory, data, len(data), piece, out)
        return out.raw

    return digest


DIGESTS = {name: hashing(path) for name, path in libraries().items()}


def check(size: int, *pieces: int) -> None:
    data = DATA[:size]
    expected = blake3(data).digest()
    for name, digest in DIGESTS.items():
        for piece in pieces or (len(DATA),):
            assert digest(data, piece) == expected, f"{name}, {size} bytes in pieces of {piece}"


def test_every_length_of_up_to_three_chunks() -> None:
    for size in range(3 * CHUNK + 2):
        check(size)


@pytest.mark.parametrize("chunks", [*range(3, 69), 127, 128, 129, 255, 256, 257, 511, 512, 513, 516, 1023, 1024, 1025])
def test_lengths_around_the_ends_of_blocks_and_chunks(chunks: int) -> None:
    for difference in (-65, -64, -63, -1, 0, 1, 63, 64, 65):
        check(chunks * CHUNK + difference)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(DATA)), st.lists(st.integers(100, 70_000), min_size=1, max_size=4))
def test_pieces_of_any_size(size: int, pieces: list[int]) -> None:
    check(size, *pieces)


def test_pieces_that_fill_what_is_hashed_at_a_time() -> None:
    for size in range(4, 35):
        check(size * CHUNK, *(lanes * CHUNK + difference for lanes in (4, 8, 16, 32) for difference in (-1, 0, 1)))
