"""The terms C makes of a row are what Python makes of its elements, in every variant this machine can run."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.dicom.attributes import STORED_ATTRIBUTES, Level
from fastarchive.index import schema
from fastarchive.index.documents import Document
from fastarchive.index.rows import encode_entity
from fastarchive.index.terms import RECIPES
from fastarchive.native import terms as native
from fastarchive.native.loading import libraries
from tests.index.effort import effort

LIBRARIES = libraries()
_LEVELS = (Level.PATIENT, Level.STUDY, Level.SERIES)
_TAGS = sorted({attribute.tag for level in _LEVELS for attribute in STORED_ATTRIBUTES[level]})
_VALUES = st.one_of(
    st.binary(max_size=6),
    st.text('aZ0 ^=\\\0\x02\n"', max_size=8).map(str.encode),
    st.sampled_from(
        ["20240229", "20241301", "00010101", "2024", "120000", "235959.999999", "240000", "115960", "1159"]
    ).map(str.encode),
    st.sampled_from(["000000.", "101112.1234567", " 007", "0", "-1", "1.50", "9" * 15, "9" * 16]).map(str.encode),
    st.sampled_from([" SMITH ^ JOHN ^^", "^A^", "a  ^\0^ b", "Müller", "王", 'O"Neill', "~\x7f"]).map(str.encode),
    st.integers(395, 405).map(lambda size: b"X" * size),
)


@st.composite
def _documents(draw: st.DrawFn) -> Document:
    level = draw(st.sampled_from(_LEVELS))
    document = Document(level, patient=draw(st.sampled_from(["P1", "a\\b", "王"])), study="1.2", series="1.3")
    document.elements.update(draw(st.dictionaries(st.sampled_from(_TAGS), _VALUES, max_size=6)))
    document.origins.update({tag: (1, 2, tag % 3) for tag in document.elements})
    document.rowid = draw(st.integers(1, 1 << 40))
    document.modalities = tuple(draw(st.lists(st.sampled_from(["CT", "MR"]), max_size=2, unique=True)))
    return document


def _decoded(text: str) -> dict[str, object]:
    fields = json.loads(text)
    fields["exact"] = sorted(fields["exact"])
    return {
        name: [value] if name.startswith(("g", "d")) and not isinstance(value, list) else value
        for name, value in fields.items()
    }


@pytest.mark.parametrize("variant", LIBRARIES)
@settings(max_examples=effort(100, 20_000), deadline=None)
@given(document=_documents())
def test_documents(variant: str, document: Document) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastarchive.native.terms.entity_terms", native.finder(LIBRARIES[variant]))
        short = schema.index_document(document)
        patch.setattr("fastarchive.native.terms.entity_terms", None)
        long = schema.index_document(document)
    assert _decoded(short) == _decoded(long)


@pytest.mark.parametrize("variant", LIBRARIES)
@settings(max_examples=effort(100, 20_000), deadline=None)
@given(document=_documents(), number=st.integers(0, 40), value=st.integers(0, 2**32 - 1), cut=st.integers(0, 60))
def test_broken_rows_are_left_alone(variant: str, document: Document, number: int, value: int, cut: int) -> None:
    row, table = encode_entity(document)
    place = table + 4 * number
    broken = (row[:place] + struct.pack("<I", value) + row[place + 4 :])[: len(row) - cut]
    find = native.finder(LIBRARIES[variant])
    for at in (table, place, len(row), 2**63):
        found = find(broken, at, RECIPES)
        assert found is None or json.loads(f"{{{found.text}]}}")


@pytest.mark.parametrize("variant", LIBRARIES)
def test_rows_that_are_too_long_are_left_to_python(variant: str) -> None:
    document = Document(Level.STUDY, patient="P1", study="1.2")
    document.elements[0x00081030] = b"x" * 30_000
    document.origins[0x00081030] = (1, 2, 3)
    assert native.finder(LIBRARIES[variant])(*encode_entity(document), RECIPES) is None
    assert len(json.loads(schema.index_document(document))["g00081030"]) == 2
