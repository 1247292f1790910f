"""The same data set in every uncompressed transfer syntax, told from any other one."""

from __future__ import annotations

import logging
import subprocess
import tracemalloc
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from fastarchive.dicom.elements import swap_bytes
from fastarchive.dicom.meaning import may_mean_the_same, meaning_of
from fastarchive.dicom.part10 import parse_file_head
from fastarchive.dicom.transfer_syntaxes import encoding_of

IMPLICIT, EXPLICIT, DEFLATED, BIG = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
)
FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"
NAMES = ("CT_small.dcm", "rtplan.dcm")
OPTIONS = {IMPLICIT: "+ti", EXPLICIT: "+te", BIG: "+tb", DEFLATED: "+td"}


@pytest.fixture(autouse=True)
def quiet_pydicom() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def encoded(data_set: Dataset, transfer_syntax: str, *, undefined: bool = False) -> bytes:
    encoding = encoding_of(transfer_syntax)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = encoding.little, not encoding.explicit
    for element in data_set.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = undefined
        elif element.VR == "OW" and not encoding.little:  # pydicom writes such values as they are
            element.value = swap_bytes("OW", element.value)
    write_dataset(buffer, data_set)
    data = bytes(buffer.getvalue())
    if transfer_syntax == DEFLATED:
        deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        data = deflater.compress(data) + deflater.flush()
    return data


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def everything() -> Dataset:
    """Each kind of element there is: numbers of all sizes, sequences in sequences, private ones, pixels, and more."""
    inner = Dataset()
    inner.add_new(0x00080100, "SH", "113001")
    inner.add_new(0x00090010, "LO", "ACME")
    inner.add_new(0x00091001, "US", 258)
    item = Dataset()
    item.add_new(0x0040A168, "SQ", Sequence([inner]))
    data_set = Dataset()
    data_set.add_new(0x00080018, "UI", "1.2.3")
    data_set.add_new(0x00090010, "LO", "ACME")
    data_set.add_new(0x00091002, "FD", [1.5, -2.5])
    data_set.add_new(0x00091003, "SQ", Sequence([inner]))
    data_set.add_new(0x00100010, "PN", "SMITH^ANNA")
    data_set.add_new(0x00189087, "FD", 0.25)
    data_set.add_new(0x00280010, "US", 2)
    data_set.add_new(0x00289110, "SQ", Sequence([item, item]))
    data_set.add_new(0x00720026, "AT", 0x00080018)
    data_set.add_new(0x7FE00010, "OW", bytes(range(256)) * 9)
    data_set.add_new(0xFFFAFFFA, "SQ", Sequence([inner]))
    return data_set


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("undefined", [False, True])
def test_S3_one_data_set_means_the_same_in_every_encoding(transfer_syntax: str, undefined: bool) -> None:
    expected = meaning_of([encoded(everything(), EXPLICIT)], EXPLICIT)
    assert expected is not None
    other = encoded(everything(), transfer_syntax, undefined=undefined)
    for size in (1, 7, 1000, 10**6):
        assert meaning_of(pieces(other, size), transfer_syntax) == expected


@pytest.mark.parametrize("name", NAMES)
def test_S3_what_dcmconv_makes_of_a_file_means_the_same(name: str, tmp_path: Path) -> None:
    meanings = set()
    for transfer_syntax, option in OPTIONS.items():
        for lengths in ("+e", "-e"):
            path = tmp_path / "converted.dcm"
            command = ["/usr/bin/dcmconv", "-q", option, lengths, str(FOLDER / name), str(path)]
            subprocess.run(command, check=True, capture_output=True)
            data = path.read_bytes()
            head = parse_file_head(data)
            assert head.transfer_syntax == transfer_syntax
            meanings.add(meaning_of([data[head.data_set_offset :]], transfer_syntax))
    assert len(meanings) == 1
    assert None not in meanings


EVERYTHING = meaning_of([encoded(everything(), EXPLICIT)], EXPLICIT)
ENCODED = encoded(everything(), IMPLICIT)


@given(position=st.integers(0, 10**6), flip=st.integers(1, 255))
@settings(max_examples=40, deadline=None)
def test_S3_any_other_byte_is_another_meaning(position: int, flip: int) -> None:
    data = bytearray(ENCODED)  # no byte of which is without meaning
    data[position % len(data)] ^= flip
    assert meaning_of([bytes(data)], IMPLICIT) != EVERYTHING


def test_what_ends_too_early_means_nothing() -> None:
    for transfer_syntax in (EXPLICIT, IMPLICIT, BIG):
        data = encoded(everything(), transfer_syntax)
        assert meaning_of([data[:-3]], transfer_syntax) is None
        assert meaning_of([data[:1000]], transfer_syntax) is None
    assert meaning_of([b"no deflated data set"], DEFLATED) is None


def test_only_uncompressed_data_sets_mean_the_same_as_others() -> None:
    jpeg = "1.2.840.10008.1.2.4.70"
    assert may_mean_the_same(IMPLICIT, BIG)
    assert may_mean_the_same(jpeg, jpeg)
    assert not may_mean_the_same(EXPLICIT, jpeg)


def test_a_large_data_set_is_read_in_bounded_memory() -> None:
    head = everything()
    del head[0xFFFAFFFA]
    head[0x7FE00010].value = b""
    start = bytearray(encoded(head, EXPLICIT))
    start[-4:] = (200 << 20).to_bytes(4, "little")
    block = bytes(1 << 20)

    def chunks() -> Iterator[bytes]:
        yield bytes(start)
        yield from (block for _ in range(200))

    tracemalloc.start()
    assert meaning_of(chunks(), EXPLICIT) is not None
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
