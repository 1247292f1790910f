"""Keys on what the index does not hold: looked up in the headers of stored instances (M19, Q8, X8, F3, F4)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastarchive.archive import Archive
from fastarchive.dicom.attributes import InformationModel, Level
from fastarchive.dicom.charsets import UTF8, CharacterSet
from fastarchive.dicom.dictionary import tag_of, vr_of
from fastarchive.dicom.elements import Element, encode, encode_sequence, parse_sequence, walk
from fastarchive.dicom.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_LITTLE,
    IMPLICIT_VR_LITTLE_ENDIAN,
    Encoding,
)
from fastarchive.index.documents import Document
from fastarchive.query.execute import matches
from fastarchive.query.explain import explain
from fastarchive.query.headers import HeaderReader, HeaderWork, StoredHeader, TooManyHeaders
from fastarchive.query.identifier import FindQuery, IdentifierError, Use, parse_find
from fastarchive.query.match import Match
from fastarchive.query.options import FindOptions
from fastarchive.query.plan import Trace, plan
from fastarchive.query.respond import PENDING, PENDING_WITH_UNSUPPORTED_KEYS, Responder
from tests.query.archives import MemoryView

STUDY, SERIES = "1.2.7", "1.2.7.1"
SYNTAXES = {
    "1": (EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_LITTLE),
    "2": (IMPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_LITTLE),
    "3": (DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_LITTLE),
    "4": (EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_BIG),
}
"""The instances of the archive by the last number of their UID, each in an encoding of its own."""
LOOKING = FindOptions(headers=True)
CODES = tag_of("AnatomicRegionSequence")


def element(keyword: str, value: str | bytes) -> Element:
    return Element(tag_of(keyword), vr_of(tag_of(keyword)), value if isinstance(value, bytes) else value.encode())


def code(value: str, meaning: bytes, *more: Element) -> list[Element]:
    return [element("CodeValue", value), element("CodeMeaning", meaning), element("CodingSchemeDesignator", "T"), *more]


def private_in_item(block: int, value: bytes) -> list[Element]:
    return [Element(0x0009_0000 | block, "LO", b"ACME 1.0"), Element(0x0009_0001 | block << 8, "LO", value)]


def an_instance(number: str, encoding: Encoding) -> bytes:
    """Instance 2 has its private block elsewhere, instance 4 has none; the items differ as the tests need it."""
    block = 0x11 if number == "2" else 0x10
    items = {
        "1": [code("A", "für".encode("latin-1")), code("B", b"second", *private_in_item(0x10, b"LEFT"))],
        "2": [code("A", b"second", *private_in_item(0x27, b"LEFT")), code("B", "für".encode("latin-1"))],
        "3": [code("A", "胸".encode(), element("SpecificCharacterSet", "ISO_IR 192"))],
        "4": [],
    }[number]
    elements = [
        element("SpecificCharacterSet", "ISO_IR 100"),
        element("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"),
        element("SOPInstanceUID", f"{SERIES}.{number}"),
        element("StudyInstanceUID", STUDY),
        element("SeriesInstanceUID", SERIES),
        element("PatientID", "P7"),
        element("KVP", f"{int(number) * 40}.0"),
        element("ImageComments", "für".encode("latin-1")),
        element("PixelRepresentation", b"\1\0"),
        element("SmallestImagePixelValue", (-2).to_bytes(2, "little", signed=True))._replace(vr="SS"),
        element("RescaleSlope", "1"),
        element("FrameIncrementPointer", b"\x18\0\x63\x10\x18\0\x65\x10"),
        Element(CODES, "SQ", encode_sequence(items)),
        element("PixelData", b"\0\0")._replace(vr="OW"),
    ]
    if number == "2":
        elements.append(Element(0x0009_0010, "LO", b"OTHER"))
        elements.append(Element(0x0009_1001, "LO", b"NOT ME"))
    if number != "4":
        elements.append(Element(0x0009_0000 | block, "LO", b"ACME 1.0"))
        elements.append(Element(0x0009_0001 | block << 8, "LO", b"THIN" if number == "1" else b"THICK"))
        elements.append(Element(0x0009_0002 | block << 8, "US", int(number).to_bytes(2, "little")))
    return encode(elements, encoding)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    with Archive.open(tmp_path_factory.mktemp("headers") / "data", commit_seconds=60) as archive:
        for number, (syntax, encoding) in SYNTAXES.items():
            data_set = an_instance(number, encoding)
            if syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
                deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
                data_set = deflater.compress(data_set) + deflater.flush()
            archive.store(data_set, transfer_syntax=syntax)
        yield archive


def asked(
    *keys: Element,
    level: str = "IMAGE",
    scope: Sequence[Element] = (element("StudyInstanceUID", STUDY), element("SeriesInstanceUID", SERIES)),
    options: FindOptions = LOOKING,
    encoding: Encoding = EXPLICIT_LITTLE,
    character_set: str = "ISO_IR 192",
) -> FindQuery:
    fixed = [element("SpecificCharacterSet", character_set), element("QueryRetrieveLevel", level), *scope]
    fixed.append(element("SOPInstanceUID", ""))
    return parse_find(encode([*fixed, *keys], encoding), encoding, InformationModel.STUDY_ROOT, options)


def answers(
    archive: Archive, query: FindQuery, encoding: Encoding = EXPLICIT_LITTLE, most: int = 0
) -> dict[str, dict[int, Element]]:
    """The elements of each answer, by the last number of its SOP Instance UID."""
    view = archive.view()
    responder = Responder(query, encoding, "ARCHIVE")
    found = {}
    for page in matches(plan(query, view), view, headers=HeaderReader(archive.header_of, most)):
        for match in page:
            elements = {one.tag: one for one in walk(responder.identifier(match), encoding)}
            found[elements[tag_of("SOPInstanceUID")].value.decode().strip("\0")[-1]] = elements
    return found


@pytest.mark.parametrize(
    ("keyword", "value", "found"),
    [
        ("KVP", "80", "2"),  # M4: a number is a number
        ("KVP", "40\\160.00", "14"),
        ("RescaleSlope", "1", "1234"),
        ("ImageComments", "für", "1234"),
        ("ImageComments", "F*", ""),  # M3: case counts
        ("ImageComments", "f?r", "1234"),
        ("SmallestImagePixelValue", b"\xfe\xff", "1234"),
        ("SmallestImagePixelValue", b"\0\0", ""),
        ("FrameIncrementPointer", b"\x18\0\x65\x10", "1234"),
        ("FrameIncrementPointer", b"\x18\0\x65\0", ""),
        ("ExposureTime", "7", ""),
        ("ExposureTime", "*", "1234"),
    ],
)
def test_any_attribute_matches_whatever_the_transfer_syntax(
    archive: Archive, keyword: str, value: str | bytes, found: str
) -> None:
    query = asked(element(keyword, value))
    assert query.unsupported == ()
    assert "".join(sorted(answers(archive, query))) == found


@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG])
def test_F4_values_are_answered_in_the_encoding_of_the_answer(archive: Archive, encoding: Encoding) -> None:
    query = asked(
        element("KVP", ""), element("SmallestImagePixelValue", b""), element("ExposureTime", ""), encoding=encoding
    )
    for number, elements in answers(archive, query, encoding).items():
        assert float(elements[tag_of("KVP")].value) == int(number) * 40
        assert elements[tag_of("ExposureTime")].value == b""
        assert elements[tag_of("SmallestImagePixelValue")].value == b"\xfe\xff"
        if encoding.explicit:
            assert elements[tag_of("SmallestImagePixelValue")].vr == "SS"
        assert tag_of("SpecificCharacterSet") not in elements
        assert tag_of("RescaleSlope") not in elements


@pytest.mark.parametrize("character_set", ["ISO_IR 192", "GB18030", "ISO_IR 144", "ISO_IR 100"])
def test_X6_text_is_answered_in_a_set_that_holds_it(archive: Archive, character_set: str) -> None:
    query = asked(element("ImageComments", ""), Element(CODES, "SQ", b""), character_set=character_set)
    for number, elements in answers(archive, query).items():
        told = CharacterSet.parse(elements[tag_of("SpecificCharacterSet")].value)
        held = {"ISO_IR 144": (), "ISO_IR 100": ("1", "2", "4")}.get(character_set, SYNTAXES)
        assert told.value.decode() == (character_set if number in held else "ISO_IR 192")
        assert told.decode(elements[tag_of("ImageComments")].value, "LT").strip() == "für"
        meanings = {"1": {"für", "second"}, "2": {"für", "second"}, "3": {"胸"}, "4": set()}[number]
        items = parse_sequence(elements[CODES].value)
        assert {told.decode(item[tag_of("CodeMeaning")].value, "LO").strip() for item in items} == meanings
        assert not any(tag_of("SpecificCharacterSet") in item for item in items)


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"CodeValue": "A"}, "123"),
        ({"CodeValue": "A", "CodeMeaning": "second"}, "2"),  # in one and the same item
        ({"CodeValue": "B", "CodeMeaning": "f?r"}, "2"),
        ({"CodeMeaning": "胸"}, "3"),  # X8
        ({"CodeValue": "C"}, ""),
        ({"CodeValue": ""}, "1234"),
    ],
)
def test_M19_all_keys_match_in_one_item(archive: Archive, keys: dict[str, str], found: str) -> None:
    query = asked(Element(CODES, "SQ", encode_sequence([[element(keyword, value) for keyword, value in keys.items()]])))
    got = answers(archive, query)
    assert "".join(sorted(got)) == found
    for elements in got.values():
        for item in parse_sequence(elements[CODES].value):
            assert set(item) == {tag_of(keyword) for keyword in keys}


def test_M19_requested_attributes_of_items_are_all_there(archive: Archive) -> None:
    query = asked(Element(CODES, "SQ", encode_sequence([[element("CodeValue", "A"), element("ContextUID", "")]])))
    for elements in answers(archive, query).values():
        assert all(item[tag_of("ContextUID")].value == b"" for item in parse_sequence(elements[CODES].value))
    with pytest.raises(IdentifierError):
        asked(Element(CODES, "SQ", encode_sequence([[element("CodeValue", "A")]] * 2)))


@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
@pytest.mark.parametrize(("value", "found"), [(b"THICK", "23"), (b"T*", "123"), (b"NOT ME", ""), (b"", "1234")])
def test_Q8_private_keys_are_found_by_their_creator(
    archive: Archive, encoding: Encoding, value: bytes, found: str
) -> None:
    creator, key = Element(0x0009_0042, "LO", b"ACME 1.0"), Element(0x0009_4201, "LO", value)
    query = asked(creator, key, encoding=encoding)
    assert query.unsupported == ()
    got = answers(archive, query, encoding)
    assert "".join(sorted(got)) == found
    for number, elements in got.items():
        assert elements[creator.tag].value == b"ACME 1.0"
        told = {"1": b"THIN", "2": b"THICK ", "3": b"THICK ", "4": b""}[number]
        assert elements[key.tag].value.strip(b"\0 ") == told.strip()


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ([element("CodeValue", "A"), *private_in_item(0x10, b"LEFT")], "2"),
        ([*private_in_item(0x42, b"L*")], "12"),
        ([*private_in_item(0x10, b"RIGHT")], ""),
        ([*private_in_item(0x10, b"")], "1234"),
    ],
)
@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
def test_Q8_M19_private_attributes_of_items(
    archive: Archive, keys: list[Element], found: str, encoding: Encoding
) -> None:
    query = asked(Element(CODES, "SQ", encode_sequence([keys])), encoding=encoding)
    assert query.unsupported == ()
    got = answers(archive, query, encoding)
    assert "".join(sorted(got)) == found
    private = {one.tag for one in keys}
    for number, elements in got.items():
        items = parse_sequence(elements[CODES].value)
        assert all(set(item) == private for item in items)  # in the block of the query, whatever the stored one is
        values = {item[keys[-1].tag].value.strip() for item in items}
        assert values == {"1": {b"LEFT", b""}, "2": {b"LEFT", b""}, "3": {b""}, "4": set()}[number]


def test_Q8_private_numbers_and_keys_without_a_creator(archive: Archive) -> None:
    creator = Element(0x0009_0010, "LO", b"ACME 1.0")
    assert sorted(answers(archive, asked(creator, Element(0x0009_1002, "US", b"\3\0")))) == ["3"]
    query = asked(Element(0x0009_1001, "LO", b"THIN"), Element(0x0011_0010, "LO", b"LONELY"))
    assert query.unsupported == (0x0009_1001, 0x0011_0010)
    item = encode_sequence([[Element(0x0009_1001, "LO", b"X ")]])
    assert asked(Element(CODES, "SQ", item)).unsupported == (CODES,)


def test_F3_what_cannot_be_looked_up_is_FF01(archive: Archive) -> None:
    supported = asked(element("KVP", "80"), element("ImageComments", ""))
    assert Responder(supported, EXPLICIT_LITTLE, "A").pending_status == PENDING
    for unsupported in (
        asked(element("PixelData", b"")),
        asked(element("RedPaletteColorLookupTableData", b"")),
        asked(element("KVP", "80"), scope=(), options=FindOptions(relational=True, headers=True)),
        asked(element("KVP", "80"), options=FindOptions()),
    ):
        assert Responder(unsupported, EXPLICIT_LITTLE, "A").pending_status == PENDING_WITH_UNSUPPORTED_KEYS
    relational = FindOptions(relational=True, headers=True)
    one_study = asked(element("KVP", "80"), scope=[element("StudyInstanceUID", STUDY)], options=relational)
    assert sorted(answers(archive, one_study)) == ["2"]
    assert asked(element("KVP", "80"), scope=[element("StudyInstanceUID", "*")], options=relational).unsupported


def test_A900_for_keys_that_make_no_sense() -> None:
    with pytest.raises(IdentifierError) as refused:
        asked(element("FrameReferenceDateTime", "soon"))
    assert refused.value.offending == (tag_of("FrameReferenceDateTime"),)


def test_M21_unknown_values_match_where_that_is_set(archive: Archive) -> None:
    creator, key = Element(0x0009_0010, "LO", b"ACME 1.0"), Element(0x0009_1001, "LO", b"THIN")
    query = asked(creator, key, options=FindOptions(headers=True, match_unknown=True))
    assert sorted(answers(archive, query)) == ["1", "4"]


def test_no_more_headers_are_read_than_allowed(archive: Archive) -> None:
    query = asked(element("KVP", "40"))
    assert sorted(answers(archive, query, most=4)) == ["1"]
    with pytest.raises(TooManyHeaders):
        answers(archive, query, most=3)
    # What decides without them comes first: none is read in vain.
    narrower = asked(element("KVP", ""), scope=(), options=FindOptions(relational=True, headers=True))
    assert narrower.unsupported


def test_what_cannot_be_read_has_no_attributes(archive: Archive) -> None:
    view = archive.view()
    query = asked(element("KVP", "40"))
    assert [
        match for page in matches(plan(query, view), view, headers=HeaderReader(lambda _: None)) for match in page
    ] == []


def test_headers_are_explained(archive: Archive) -> None:
    view, trace = archive.view(), Trace()
    query = asked(element("KVP", "80"), element("ImageComments", ""), Element(CODES, "SQ", b""))
    how = plan(query, view)
    list(matches(how, view, trace, HeaderReader(archive.header_of)))
    explanation = explain(how, view, trace, values=False)
    assert explanation.headers is not None
    assert (explanation.headers.read, explanation.headers.found) == (4, 1)
    assert explanation.residual == ("StudyInstanceUID", "KVP")
    lines = explanation.lines()
    assert any(re.match(r"  read the header of each instance \(expected: \d\): 1 found, 4 read", one) for one in lines)
    assert "    each has to meet KVP" in lines
    assert explanation.as_json()["headers"]["decides"] == ("KVP",)
    assert {key.tag: key.use for key in query.keys}[tag_of("KVP")] is Use.MATCH


def test_the_archive_object_looks_into_headers(archive: Archive) -> None:
    rows = archive.find(
        "IMAGE", {"SeriesInstanceUID": SERIES, "KVP": "80"}, ["ImageComments", "SmallestImagePixelValue"]
    )
    assert list(rows) == [
        {"SeriesInstanceUID": SERIES, "KVP": "80.0", "ImageComments": "für", "SmallestImagePixelValue": "-2"}
    ]
    with pytest.raises(ValueError, match="KVP: only within what is named, give PatientID, StudyInstanceUID, Series"):
        archive.find("IMAGE", {"KVP": "80"})
    with pytest.raises(ValueError, match="give PatientID too"):
        archive.find("PATIENT", {"KVP": "80"})
    assert archive.explain("IMAGE", {"SeriesInstanceUID": SERIES, "KVP": "80"}).residual == ("KVP",)


ENCODINGS = st.sampled_from((EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG))
ANY_KEYS = encode(
    [
        Element(0x0009_0010, "LO", b"ACME 1.0"),
        Element(0x0009_1001, "LO", b"T*"),
        element("KVP", "80"),
        element("ImageComments", "f*"),
        element("SmallestImagePixelValue", b"\xfe\xff"),
        Element(CODES, "SQ", encode_sequence([[element("CodeValue", "A"), Element(CODES, "SQ", b"")]])),
    ],
    EXPLICIT_LITTLE,
)


def damaged(data: st.DataObject, whole: bytes) -> bytes:
    changed = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(changed) - 1), max_size=6)):
        changed[place] = data.draw(st.integers(0, 255))
    return bytes(changed[: data.draw(st.integers(0, len(changed)))])


@given(st.data(), ENCODINGS)
def test_a_damaged_identifier_is_a_query_or_refused(data: st.DataObject, encoding: Encoding) -> None:
    scope = encode([element("QueryRetrieveLevel", "IMAGE"), element("StudyInstanceUID", STUDY)], encoding)
    keys = encode(list(walk(ANY_KEYS, EXPLICIT_LITTLE)), encoding)
    options = FindOptions(relational=True, headers=True)
    with suppress(IdentifierError):
        parse_find(scope + damaged(data, keys), encoding, InformationModel.STUDY_ROOT, options)


@given(st.data(), ENCODINGS, st.sampled_from("1234"), ENCODINGS, st.booleans())
def test_a_damaged_header_is_looked_into_all_the_same(
    data: st.DataObject, encoding: Encoding, number: str, answered_in: Encoding, universal: bool
) -> None:
    keys = list(walk(ANY_KEYS, EXPLICIT_LITTLE))
    if universal:
        keys = [one if one.tag == 0x0009_0010 else one._replace(value=b"") for one in keys]
    query = asked(*keys, encoding=answered_in, options=FindOptions(headers=True, match_unknown=True))
    assert query.unsupported == ()
    header = StoredHeader(damaged(data, an_instance(number, encoding)), encoding, UTF8)
    image = Document(Level.IMAGE, study=STUDY, series=SERIES, instance="1.2.7.1.9")
    responder = Responder(query, answered_in, "ARCHIVE")
    reader, view = HeaderReader(lambda _: header), MemoryView({})
    for page in reader.decide([[Match(image=image)]], Level.IMAGE, query.header_keys, view, HeaderWork()):
        for match in page:
            tags = {one.tag for one in walk(responder.identifier(match), answered_in)}
            assert tags >= {key.tag for key in query.returns}


def test_a_deleted_file_is_no_answer(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "data", commit_seconds=60) as archive:
        archive.store(an_instance("1", EXPLICIT_LITTLE), transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN)
        assert sorted(answers(archive, asked(element("KVP", "40")))) == ["1"]
        archive.blobs.close()
        for pack in (tmp_path / "data" / "packs").glob("*.pack"):
            pack.rename(pack.with_suffix(".gone"))
        assert answers(archive, asked(element("KVP", "40"))) == {}
