"""Stored data sets rewritten to other uncompressed transfer syntaxes, with pydicom as the judge."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from fastarchive.services.conversion import ConversionError, can_convert, convert

IMPLICIT, EXPLICIT, BIG, DEFLATED = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
PLAIN = (IMPLICIT, EXPLICIT, BIG)
JPEG = "1.2.840.10008.1.2.4.50"


def encode(dataset: Dataset, transfer_syntax: str) -> bytes:
    uid = UID(transfer_syntax)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = uid.is_little_endian, uid.is_implicit_VR
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


def decode(data: bytes, transfer_syntax: str) -> Dataset:
    uid = UID(transfer_syntax)
    return read_dataset(BytesIO(data), uid.is_implicit_VR, uid.is_little_endian)


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def example(**more: Any) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = "1.2.3"
    dataset.PatientName = "Buc^Jérôme"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.Rows, dataset.Columns, dataset.BitsAllocated, dataset.PixelRepresentation = 4, 3, 16, 1
    dataset.SmallestImagePixelValue = -5
    dataset.ImagePositionPatient = [1.5, -2.25, 0]
    item = Dataset()
    item.CodeValue = "T-1"
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "1.2.3.4"
    inner.ReferencedFrameNumber = 3
    item.ReferencedSOPSequence = Sequence([inner, inner])
    dataset.AnatomicRegionSequence = Sequence([item])
    dataset.RealWorldValueFirstValueMapped = None
    dataset.PixelData = bytes(range(24))
    dataset["PixelData"].VR = "OW"
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    return dataset


def encode_swapped(transfer_syntax: str) -> bytes:
    """The example; pydicom writes pixel data as it finds it, so its words are swapped here."""
    pixels = bytes(range(24))
    if transfer_syntax == BIG:
        pixels = bytes(number ^ 1 for number in pixels)
    return encode(example(PixelData=pixels), transfer_syntax)


@pytest.mark.parametrize("source", PLAIN)
@pytest.mark.parametrize("target", PLAIN)
@pytest.mark.parametrize("piece", [7, 64, 100_000])
def test_R8_every_plain_syntax_can_be_rewritten_to_every_other(source: str, target: str, piece: int) -> None:
    converted = b"".join(convert(in_pieces(encode_swapped(source), piece), source, target))
    assert converted == encode_swapped(target)


def test_signed_pixels_give_their_range_a_signed_vr() -> None:
    converted = b"".join(convert([encode(example(), IMPLICIT)], IMPLICIT, EXPLICIT))
    assert decode(converted, EXPLICIT)["SmallestImagePixelValue"].VR == "SS"
    unsigned = example(PixelRepresentation=0, SmallestImagePixelValue=5)
    converted = b"".join(convert([encode(unsigned, IMPLICIT)], IMPLICIT, EXPLICIT))
    assert decode(converted, EXPLICIT)["SmallestImagePixelValue"].VR == "US"


def test_what_comes_after_the_pixel_data_is_rewritten_too() -> None:
    dataset = example()
    dataset.add_new(0xFFFCFFFC, "OB", b"\0" * 12)
    converted = b"".join(convert(in_pieces(encode(dataset, IMPLICIT), 11), IMPLICIT, EXPLICIT))
    assert converted == encode(dataset, EXPLICIT)


def test_a_data_set_without_pixel_data() -> None:
    dataset = example()
    del dataset.PixelData
    converted = b"".join(convert(in_pieces(encode(dataset, EXPLICIT), 50), EXPLICIT, IMPLICIT))
    assert converted == encode(dataset, IMPLICIT)


def test_a_deflated_data_set_is_inflated() -> None:
    plain = encode(example(), EXPLICIT)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = deflater.compress(plain) + deflater.flush()
    deflated += b"\0" * (len(deflated) % 2)
    assert b"".join(convert(in_pieces(deflated, 10), DEFLATED, EXPLICIT)) == plain
    assert b"".join(convert([deflated], DEFLATED, IMPLICIT)) == encode(example(), IMPLICIT)


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "rtplan.dcm", "nested_priv_SQ.dcm"]
)
@pytest.mark.parametrize("target", PLAIN)
def test_real_files_say_the_same_afterwards(name: str, target: str) -> None:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    dataset = pydicom.dcmread(path)
    source = str(dataset.file_meta.TransferSyntaxUID)
    data = encode(dataset, source)
    converted = decode(b"".join(convert(in_pieces(data, 1000), source, target)), target)
    back = b"".join(convert([encode(converted, target)], target, source))
    for tag in dataset.keys() - {0xFFFCFFFC}:
        if tag.element == 0 or tag.is_private:
            continue
        assert converted[tag].value == dataset[tag].value or dataset[tag].VR in {"SQ", "OW", "UN"}, tag
    if IMPLICIT not in (source, target):  # where VRs were never lost the way back leads to the same bytes
        again = decode(back, source)
        assert [element.value for element in again] == [element.value for element in dataset if element.tag.element]


@given(st.binary(max_size=400), st.sampled_from((*PLAIN, DEFLATED)), st.sampled_from(PLAIN))
@settings(max_examples=200)
def test_hostile_bytes_end_in_a_conversion_error_or_in_bytes(data: bytes, source: str, target: str) -> None:
    with contextlib.suppress(ConversionError):
        b"".join(convert(in_pieces(data, 16), source, target))


def test_compressed_pixel_data_stays_what_it_is() -> None:
    assert not can_convert(JPEG, EXPLICIT)
    assert not can_convert(EXPLICIT, JPEG)
    assert not can_convert(EXPLICIT, DEFLATED)
    with pytest.raises(ConversionError):
        convert([b""], JPEG, EXPLICIT)


def test_pixel_data_that_ends_early_is_an_error() -> None:
    data = encode(example(), EXPLICIT)
    with pytest.raises(ConversionError):
        list(convert([data[:-4]], EXPLICIT, IMPLICIT))
