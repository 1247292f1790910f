"""RLE Lossless instances for peers that take nothing compressed, with pydicom as the judge."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from bench.encoding import data_set_of, element
from fastarchive.services.conversion import RLE_LOSSLESS, TARGETS, ConversionError, can_convert, convert
from tests.services.test_conversion import BIG, EXPLICIT, decode, in_pieces

FILES = (
    "MR_small_RLE.dcm",
    "SC_rgb_rle.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_rle_16bit.dcm",
    "SC_rgb_rle_16bit_2frame.dcm",
    "SC_rgb_rle_32bit.dcm",
    "SC_rgb_rle_32bit_2frame.dcm",
    "rtdose_rle_1frame.dcm",
    "rtdose_rle.dcm",
    "OBXXXX1A_rle.dcm",
    "OBXXXX1A_rle_2frame.dcm",
    "emri_small_RLE.dcm",
)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", FILES)
def test_R8_the_pixels_are_those_pydicom_sees_and_all_else_stays(name: str, target: str) -> None:
    path = get_testdata_file(name)
    assert path, name
    before = pydicom.dcmread(path)
    if before.BitsAllocated == 32 and target == BIG:
        return  # OW is swapped by 16-bit words (PS3.5 7.3); pydicom reads it by 32-bit ones
    after = decode(b"".join(convert(in_pieces(data_set_of(Path(path)), 5000), RLE_LOSSLESS, target)), target)
    after.file_meta = pydicom.dataset.FileMetaDataset()
    after.file_meta.TransferSyntaxUID = pydicom.uid.UID(target)
    raw: dict[str, Any] = {"raw": True}
    for number in range(int(before.get("NumberOfFrames", 1) or 1)):
        expected = pydicom.pixels.pixel_array(before, index=number, **raw)
        assert np.array_equal(pydicom.pixels.pixel_array(after, index=number, **raw), expected)
    for one in before if target == EXPLICIT else ():  # what the other two rewrite is told in test_conversion
        if one.tag != 0x7FE00010 and one.tag.element:
            assert after[one.tag].value == one.value


def packed(data: bytes) -> bytes:
    """PackBits as PS3.5 G.3.1 has it, with literals of one byte: never shorter, always right."""
    out = bytearray()
    position = 0
    while position < len(data):
        run = 1
        while run < 128 and position + run < len(data) and data[position + run] == data[position]:
            run += 1
        out += bytes((257 - run, data[position])) if run > 1 else bytes((0, data[position]))
        position += run
    return bytes(out + b"\0" * (len(out) % 2))


def instance(
    pixels: bytes, *, rows: int, columns: int, bits: int = 8, frames: int = 1, samples: int = 1, more: bytes = b""
) -> bytes:
    """A data set in RLE Lossless; the pixels' samples are little endian, by pixel."""
    width = bits // 8
    data = (
        element(0x00280002, "US", samples)
        + element(0x00280006, "US", 0)
        + element(0x00280008, "IS", frames)
        + element(0x00280010, "US", rows)
        + element(0x00280011, "US", columns)
        + element(0x00280100, "US", bits)
        + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff"
        + struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    )
    size = len(pixels) // frames
    for frame in range(frames):
        content = pixels[frame * size : (frame + 1) * size]
        segments = [
            packed(content[sample * width + width - 1 - byte :: samples * width])
            for sample in range(samples)
            for byte in range(width)
        ]
        offsets = [64 + sum(map(len, segments[:number])) for number in range(len(segments))]
        header = struct.pack("<16L", len(segments), *offsets, *[0] * (15 - len(offsets)))
        fragment = header + b"".join(segments)
        data += struct.pack("<HHL", 0xFFFE, 0xE000, len(fragment)) + fragment
    return data + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) + more


@given(st.data())
def test_any_pixels_come_out_as_they_went_in(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    bits, frames, samples = data.draw(st.tuples(st.sampled_from((8, 16, 32)), st.integers(1, 3), st.integers(1, 3)))
    size = rows * columns * samples * frames * bits // 8
    pixels = data.draw(st.binary(min_size=size, max_size=size))
    padding = element(0xFFFCFFFC, "OB", b"\0\0")
    stored = instance(pixels, rows=rows, columns=columns, bits=bits, frames=frames, samples=samples, more=padding)
    after = decode(
        b"".join(convert(in_pieces(stored, data.draw(st.integers(1, 99))), RLE_LOSSLESS, EXPLICIT)), EXPLICIT
    )
    assert after.PixelData == pixels + b"\0" * (size % 2)
    assert 0xFFFCFFFC in after


@pytest.mark.parametrize(
    "stored",
    [
        instance(b"abcd", rows=2, columns=2)[:-20],
        instance(b"abcd", rows=2, columns=2, frames=1).replace(b"IS\x02\x001 ", b"IS\x02\x002 "),
        instance(b"abcdabcd", rows=2, columns=2, frames=2).replace(b"IS\x02\x002 ", b"IS\x02\x001 "),
        instance(b"abcd", rows=2, columns=3),
        instance(b"abcd", rows=65535, columns=65535),
        instance(b"abcd", rows=0, columns=2),
        instance(b"", rows=1, columns=1, bits=16),
    ],
)
def test_what_can_not_be_unpacked_is_refused(stored: bytes) -> None:
    with pytest.raises(ConversionError):
        list(convert([stored], RLE_LOSSLESS, EXPLICIT))


@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_bytes_make_it_fail_in_another_way(noise: bytes, position: int) -> None:
    stored = instance(bytes(range(64)), rows=8, columns=8)
    broken = stored[:position] + noise + stored[position + len(noise) :]
    try:
        size = sum(map(len, convert([broken], RLE_LOSSLESS, EXPLICIT)))
    except ConversionError:
        return
    assert size < 1_000_000


def test_it_is_offered_to_peers_that_take_nothing_compressed() -> None:
    assert all(can_convert(RLE_LOSSLESS, target) for target in TARGETS)
    assert not can_convert("1.2.840.10008.1.2.4.70", EXPLICIT)
