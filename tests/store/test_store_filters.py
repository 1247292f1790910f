"""Filters are reversible for any bytes, and are the transformation the format describes."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastarchive.store.filters import BIAS, Filter, apply, undo


@given(st.binary(max_size=2000), st.sampled_from([1, 2, 4, 8]))
def test_planes_are_reversible(data: bytes, width: int) -> None:
    filtered = bytes(apply(data, Filter.PLANES, width, 0))
    assert len(filtered) == len(data)
    assert bytes(undo(filtered, Filter.PLANES, width, 0)) == data


@given(st.binary(max_size=2000), st.sampled_from([1, 2, 4]), st.integers(1, 300))
def test_rows_are_reversible(data: bytes, width: int, distance: int) -> None:
    filtered = bytes(apply(data, Filter.ROWS, width, distance))
    assert len(filtered) == len(data)
    assert bytes(undo(filtered, Filter.ROWS, width, distance)) == data


@given(st.binary(max_size=400), st.sampled_from([1, 2, 4]), st.integers(1, 20))
def test_rows_are_what_the_format_says(data: bytes, width: int, distance: int) -> None:
    words = struct.unpack_from(f"<{len(data) // 8}Q", data)
    stored = b"".join(
        ((word - (words[i - distance] if i >= distance else 0) + int(BIAS[width])) % 2**64).to_bytes(8, "little")
        for i, word in enumerate(words)
    )
    stored += data[len(words) * 8 :]
    whole = len(stored) // width * width
    planes = b"".join(stored[plane:whole:width] for plane in range(width)) + stored[whole:]
    assert bytes(apply(data, Filter.ROWS, width, distance)) == planes


def test_a_result_outlives_the_next_call_when_undone() -> None:
    first = undo(bytes(apply(b"a" * 64, Filter.ROWS, 2, 2)), Filter.ROWS, 2, 2)
    undo(bytes(apply(b"b" * 64, Filter.ROWS, 2, 2)), Filter.ROWS, 2, 2)
    assert bytes(first) == b"a" * 64


@pytest.mark.parametrize(("kind", "width", "distance"), [(9, 2, 1), (Filter.ROWS, 2, 0), (Filter.PLANES, 3, 0)])
def test_unknown_filters_are_refused(kind: int, width: int, distance: int) -> None:
    with pytest.raises(ValueError, match="not known"):
        undo(bytes(64), kind, width, distance)
