"""pydicom as the oracle: its own test files, and data sets written by it."""

import importlib.util
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from fastarchive.dicom.attributes import STORED_TAGS
from fastarchive.dicom.elements import ElementError, Header, encode, parse_sequence, scan_header, swap_bytes, walk
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE, Encoding, encoding_of, is_deflated

NOT_DICOM = {".py", ".txt", ".json", ".icc", ".dump", ".gz", ".md", ".pyc", ".toml", ".yml", ".dsf", ".odg"}
TRUNCATED = {"rtplan_truncated.dcm"}
MALFORMED = {"no_meta.dcm", "DICOMDIR-nooffset"}  # a stray first byte; an item longer than its sequence


def sample_files() -> list[Path]:
    roots = [Path(pydicom.__file__).parent / "data"]
    more = importlib.util.find_spec("data_store")
    if more is not None and more.submodule_search_locations:
        roots.append(Path(more.submodule_search_locations[0]) / "data")
    found = {path.name: path for root in roots for path in sorted(root.rglob("*")) if path.is_file()}
    return [
        path
        for path in found.values()
        if path.suffix.lower() not in NOT_DICOM and path.name not in MALFORMED | {"README"}
    ]


@pytest.fixture(autouse=True)
def quiet_pydicom() -> Iterator[None]:
    """The samples are odd on purpose; pydicom says so at length."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def data_set_of(path: Path) -> tuple[Dataset, bytes, Encoding] | None:
    """What pydicom reads, the bytes of the data set, and their encoding."""
    raw = path.read_bytes()
    try:
        read: Any = pydicom.dcmread(BytesIO(raw), force=True)
    except Exception:
        return None
    if not read:
        return None
    offset = 132 if raw[128:132] == b"DICM" else 0
    while raw[offset : offset + 2] == b"\x02\x00":
        if raw[offset + 4 : offset + 6] in {b"OB", b"UN", b"UT", b"SQ"}:
            offset += 12 + int(struct.unpack_from("<L", raw, offset + 8)[0])
        else:
            offset += 8 + int(struct.unpack_from("<H", raw, offset + 6)[0])
    syntax = str(read.file_meta.get("TransferSyntaxUID", "")) if hasattr(read, "file_meta") else ""
    body = zlib.decompress(raw[offset:], -15) if is_deflated(syntax) else raw[offset:]
    if syntax:
        return read, body, encoding_of(syntax)
    implicit, little = read.original_encoding
    return read, body, Encoding(explicit=not implicit, little=bool(little))


@pytest.mark.parametrize("path", sample_files(), ids=lambda path: path.name)
def test_scan_agrees_with_pydicom_on_its_samples(path: Path) -> None:
    sample = data_set_of(path)
    if sample is None:
        return
    read, body, encoding = sample
    header = scan_header(body, encoding, STORED_TAGS)
    assert header.damage is None
    assert header.complete is (path.name not in TRUNCATED)
    encoding = header.encoding
    assert {tag for tag in STORED_TAGS if tag in read} == header.elements.keys()
    for tag, element in header.elements.items():
        raw: Any = read.get_item(tag)
        if isinstance(raw, pydicom.dataelem.RawDataElement):
            value = raw.value or b""
            assert element.value == (value if encoding.little else swap_bytes(element.vr, value))
            assert raw.VR in {None, element.vr}
    pixel = header.pixel
    assert (pixel is not None) == any(tag in read for tag in (0x7FE00008, 0x7FE00009, 0x7FE00010))
    if header.complete:
        check_walk(read, body, header)


def check_walk(read: Dataset, body: bytes, header: Header) -> None:
    end = header.pixel.header_offset if header.pixel is not None else len(body)
    elements = {element.tag: element for element in walk(memoryview(body)[:end], header.encoding)}
    assert elements.keys() == {int(tag) for tag in read.keys() if tag < 0x7FE00008 or header.pixel is None}  # noqa: SIM118
    for tag, element in elements.items():
        if element.vr == "SQ":
            stored: Any = read[tag]
            if stored.VR == "SQ":
                found = [item.keys() for item in parse_sequence(element.value)]
                assert found == [{int(inner) for inner in item.keys()} for item in stored.value]  # noqa: SIM118
    # What was walked encodes to what walks the same.
    again = encode(elements.values(), EXPLICIT_LITTLE)
    for element in walk(again, EXPLICIT_LITTLE):
        assert element.value.rstrip(b" \0") == elements[element.tag].value.rstrip(b" \0")


@st.composite
def data_sets(draw: st.DrawFn, depth: int = 0) -> Dataset:
    """Data sets as pydicom writes them."""
    made = Dataset()
    text = st.text("ABC abc^=129.", max_size=12)
    choices: dict[str, st.SearchStrategy[Any]] = {
        "PatientName": text,
        "PatientID": text,
        "StudyDescription": text,
        "StudyDate": st.sampled_from(["20240131", ""]),
        "Rows": st.integers(0, 65535),
        "SmallestImagePixelValue": st.integers(0, 32767),
        "SimpleFrameList": st.lists(st.integers(0, 2**32 - 1), max_size=3),
        "EventTimeOffset": st.floats(allow_nan=False),
        "ReferencedSOPInstanceUID": st.sampled_from(["1.2.3", "1.2.3.4", ""]),
        "EncapsulatedDocument": st.binary(max_size=8).map(lambda value: value + value),
        "OffendingElement": st.lists(st.sampled_from([0x00100010, 0x7FE00010]), min_size=1, max_size=2),
    }
    for keyword in draw(st.lists(st.sampled_from(sorted(choices)), unique=True)):
        setattr(made, keyword, draw(choices[keyword]))
    if depth < 3 and draw(st.booleans()):
        made.ReferencedStudySequence = draw(st.lists(data_sets(depth=depth + 1), max_size=2))
        made["ReferencedStudySequence"].is_undefined_length = draw(st.booleans())
        for item in made.ReferencedStudySequence:
            item.is_undefined_length_sequence_item = draw(st.booleans())
    return made


def written(made: Dataset, encoding: Encoding) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = not encoding.explicit, encoding.little
    write_dataset(buffer, made)
    return bytes(buffer.getvalue())


@settings(max_examples=60, deadline=None)
@given(data_sets(), st.booleans(), st.booleans())
def test_every_encoding_of_a_data_set_walks_the_same(made: Dataset, explicit: bool, little: bool) -> None:
    encoding = Encoding(explicit=explicit, little=little or not explicit)
    expected = [
        element._replace(value=b"") if element.vr == "SQ" else element
        for element in walk(written(made, EXPLICIT_LITTLE), EXPLICIT_LITTLE)
    ]
    found = list(walk(written(made, encoding), encoding))
    if not explicit:  # the dictionary leaves these to other elements; see dictionary.vr_of
        expected = [element._replace(vr="US") if element.tag == 0x00280106 else element for element in expected]
    assert [element._replace(value=b"") if element.vr == "SQ" else element for element in found] == expected
    # And it encodes to something pydicom reads as the same data set.
    for target in (encoding, EXPLICIT_LITTLE):
        assert plain(read_back(encode(found, target), target)) == plain(
            read_back(written(made, EXPLICIT_LITTLE), EXPLICIT_LITTLE)
        )


def read_back(data: bytes, encoding: Encoding) -> Dataset:
    return read_dataset(BytesIO(data), is_implicit_VR=not encoding.explicit, is_little_endian=encoding.little)


def plain(made: Dataset) -> dict[int, object]:
    """The values of a data set, whatever its encoding."""
    return {
        int(element.tag): [plain(item) for item in element.value] if element.VR == "SQ" else repr(element.value)
        for element in made
    }


@given(st.binary(max_size=200), st.sampled_from([EXPLICIT_LITTLE, encoding_of("1.2.840.10008.1.2")]))
def test_walk_raises_nothing_but_its_own_error(data: bytes, encoding: Encoding) -> None:
    try:
        for element in walk(data, encoding):
            if element.vr == "SQ":
                parse_sequence(element.value)
    except ElementError as error:
        assert 0 <= error.offset <= len(data) + 8
