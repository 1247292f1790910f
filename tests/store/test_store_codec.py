"""Blocks: the right filter for the pixels, everything back as it was, damage noticed."""

import os
import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from fastarchive.dicom.attributes import STORED_TAGS
from fastarchive.dicom.elements import scan_header
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_BIG, EXPLICIT_LITTLE
from fastarchive.store.codec import (
    AS_IT_IS,
    BLOCK_SIZE,
    PLAIN,
    DamagedBlock,
    EncodedBlock,
    PixelDescription,
    Plan,
    decode_block,
    encode_block,
    plan_encapsulated,
    verify_block,
)
from fastarchive.store.filters import Filter
from fastarchive.store.record import Codec
from tests.store.making import ct_pixels, element, header


def _stored(encoded: EncodedBlock) -> bytes:
    return b"".join(encoded.stored)


def _description(**values: int) -> PixelDescription:
    fields = {
        "bits_allocated": 16,
        "samples": 1,
        "columns": 512,
        "rows": 512,
        "frames": 1,
        "planar": False,
        "big_endian": False,
        "floating": False,
    }
    return PixelDescription(**(fields | values))  # type: ignore[arg-type]  # one dict for integers and booleans


@given(
    st.binary(max_size=3000),
    st.sampled_from(
        [PLAIN, AS_IT_IS, Plan(True, Filter.PLANES, 2), Plan(True, Filter.ROWS, 2, 3), Plan(True, Filter.ROWS, 1, 5)]
    ),
)
def test_a_block_comes_back_as_it_was(data: bytes, plan: Plan) -> None:
    encoded = encode_block(data, plan)
    stored = _stored(encoded)
    assert len(stored) == encoded.block.stored
    assert encoded.block.raw == len(data)
    verify_block(encoded.block, stored)
    assert bytes(decode_block(encoded.block, stored)) == data


def test_what_does_not_shrink_is_stored_as_it_is() -> None:
    data = os.urandom(100_000)
    encoded = encode_block(data, PLAIN)
    assert encoded.block.codec == Codec.RAW
    assert encoded.block.stored == len(data) + 8
    assert encoded.stored[1] is data


def test_every_stored_block_is_a_frame_that_zstd_knows() -> None:
    raw, packed = encode_block(os.urandom(500), PLAIN), encode_block(bytes(5000), PLAIN)
    assert _stored(raw)[:4] == bytes.fromhex("522A4D18")
    assert zstandard.decompress(_stored(packed)) == bytes(5000)


def test_a_flipped_bit_anywhere_is_noticed() -> None:
    for plan in (PLAIN, AS_IT_IS):
        encoded = encode_block(b"0123456789" * 5, plan)
        stored = _stored(encoded)
        for position in range(len(stored)):
            damaged = bytearray(stored)
            damaged[position] ^= 4
            with pytest.raises(DamagedBlock):
                verify_block(encoded.block, damaged)


def test_a_block_that_lies_about_itself_is_refused() -> None:
    encoded = encode_block(bytes(5000), PLAIN)
    stored = _stored(encoded)
    block = encoded.block
    for changed in (
        block._replace(raw=4999),
        block._replace(codec=7),
        block._replace(filter=9),
        block._replace(filter=Filter.ROWS, width=3),
    ):
        with pytest.raises(DamagedBlock):
            decode_block(changed, stored)
    with pytest.raises(DamagedBlock):
        decode_block(encoded.block, b"not a frame")


def test_the_filter_follows_the_pixel_description() -> None:
    assert _description().plan() == Plan(True, Filter.ROWS, 2, 128, BLOCK_SIZE)
    assert _description(bits_allocated=8).plan() == Plan(True, Filter.ROWS, 1, 64, BLOCK_SIZE)
    assert _description(bits_allocated=8, samples=3).plan().distance == 192
    assert _description(bits_allocated=8, samples=3, planar=True).plan().distance == 64
    assert _description(bits_allocated=32).plan().width == 4
    assert _description(bits_allocated=32, floating=True).plan().filter == Filter.PLANES
    assert _description(bits_allocated=64).plan() == Plan(True, Filter.PLANES, 8, 0, BLOCK_SIZE)
    assert _description(big_endian=True).plan().filter == Filter.PLANES
    assert _description(columns=0).plan().filter == Filter.PLANES
    for bits in (0, 1, 12, 24):
        assert _description(bits_allocated=bits).plan() == PLAIN


def test_blocks_end_with_rows() -> None:
    size = _description(columns=500).plan().block_size
    assert size % 1000 == 0
    assert BLOCK_SIZE - 1000 < size <= BLOCK_SIZE


def test_encapsulated_pixels_are_stored_as_they_are_but_not_run_lengths() -> None:
    assert plan_encapsulated("1.2.840.10008.1.2.4.90") == AS_IT_IS
    assert plan_encapsulated("1.2.840.10008.1.2.5") == PLAIN


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_description_is_read_from_the_header(order: str) -> None:
    encoding = EXPLICIT_LITTLE if order == "<" else EXPLICIT_BIG
    frames = element(0x00280008, "IS", b"12", order)
    data = header(rows=4, columns=6, bits=8, samples=3, order=order) + frames
    data += element(0x7FE00010, "OW", bytes(72), order)
    scanned = scan_header(data, encoding, STORED_TAGS)
    assert PixelDescription.from_header(scanned, encoding) == PixelDescription(
        8, 3, 6, 4, 12, planar=False, big_endian=order == ">", floating=False
    )


def test_senseless_descriptions_do_no_harm() -> None:
    data = header(extra=[element(0x00280010, "US", b""), element(0x00280008, "IS", b"many")])
    scanned = scan_header(data, EXPLICIT_LITTLE, STORED_TAGS)
    assert PixelDescription.from_header(scanned, EXPLICIT_LITTLE).plan() == PLAIN


def test_a_noisy_slice_shrinks_to_less_than_a_third() -> None:
    pixels = ct_pixels()
    ours = encode_block(pixels, _description().plan()).block.stored
    assert len(pixels) / ours > 3.3
    assert ours <= 0.75 * len(zstandard.compress(pixels, 3))


def test_drawings_of_16_bits_are_stored_as_what_repeats_in_them() -> None:
    y, x = np.mgrid[0:512, 0:512]
    drawing = (((x // 8 + y // 8) % 3) * 1000 + (x % 8) * 100).astype(np.uint16).tobytes()
    encoded = encode_block(drawing, _description().plan())
    assert encoded.block.filter == Filter.NONE
    assert len(_stored(encoded)) <= len(zstandard.compress(drawing, 1)) + 8
    assert bytes(decode_block(encoded.block, _stored(encoded))) == drawing


def test_photographs_are_stored_as_differences_and_drawings_are_not() -> None:
    y, x = np.mgrid[0:512, 0:512]
    random = np.random.default_rng(1)
    photograph = ((np.sin(x / 40) + np.cos(y / 50)) * 60 + 128 + random.normal(size=x.shape) * 3).astype(np.uint8)
    drawing = np.where(random.random(x.shape) < 0.02, 255, ((x // 7) * 37 + (y // 128) * 11) % 251).astype(np.uint8)
    plan = _description(bits_allocated=8).plan()
    assert encode_block(photograph.tobytes(), plan).block.filter == Filter.ROWS
    assert encode_block(drawing.tobytes(), plan).block.filter in (Filter.NONE, Filter.ROWS)
    for image in (photograph, drawing):
        size = encode_block(image.tobytes(), plan).block.stored
        assert size <= 1.1 * encode_block(image.tobytes(), PLAIN).block.stored


def test_numbers_of_32_bits_shrink() -> None:
    dose = (np.cumsum(np.ones((128, 128)), axis=0) * 1000 + np.arange(128)).astype("<u4").tobytes()
    plan = _description(bits_allocated=32, columns=128).plan()
    assert encode_block(dose, plan).block.stored * 4 < encode_block(dose, PLAIN).block.stored
    assert struct.unpack("<I", dose[:4]) == (1000,)
