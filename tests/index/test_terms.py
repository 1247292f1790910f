"""The short way to the terms of plain values leads where the long one does."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.dicom.attributes import STORED_ATTRIBUTES, Level
from fastarchive.index.terms import Terms, careful_terms, terms_of
from tests.index.effort import effort

_TAGS = [
    attribute.tag for level in (Level.PATIENT, Level.STUDY, Level.SERIES) for attribute in STORED_ATTRIBUTES[level]
]
_texts = st.one_of(
    st.text('aZ0 ^=\\\0\x02\n"', max_size=8),
    st.sampled_from(
        ["20240229", "20241301", "2024", "120000", "2460", " 007", "1.50", "SMITH ^ JOHN^", "^", "Müller", "王"]
    ),
    st.integers(395, 405).map("x".__mul__),
)


@settings(max_examples=effort(400, 20_000), deadline=None)
@given(st.sampled_from(_TAGS), _texts)
def test_terms_of_plain_values_are_those_of_any_value(tag: int, text: str) -> None:
    value = text.encode()
    (terms,) = terms_of([(tag, value)])
    assert _decoded(terms) == _decoded(careful_terms(tag, value))


def _decoded(terms: Terms) -> tuple[object, object]:
    own = {
        field: set(found) if isinstance(found, list) else {found}
        for field, found in json.loads(f"{{{terms.own}}}").items()
    }
    return json.loads(f"[{terms.exact}]"), own
