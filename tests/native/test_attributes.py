"""Attributes split and compared in C are what Python makes of them, in every variant this machine can run."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.dicom.attributes import LEVEL_OF, PIXEL_TAGS, Level
from fastarchive.dicom.charsets import CharacterSet
from fastarchive.dicom.dictionary import vr_of
from fastarchive.index import contributions
from fastarchive.index.contributions import Template, contribution_of, instance_part_by, split_by_level
from fastarchive.index.encoded import BELOW_SERIES, COMMON_TAGS, LONG_VRS, TEXT_VRS
from fastarchive.native import attributes as native
from fastarchive.native.loading import libraries
from fastarchive.store.record import Location, Record, RecordKind
from tests.index.effort import effort

LIBRARIES = libraries()
_TAGS = sorted({*LEVEL_OF, *PIXEL_TAGS, *COMMON_TAGS, 0x00080005, 0x00091001, 0x7FE00010})
_VRS = sorted({vr_of(tag) for tag in _TAGS} | {vr.decode() for vr in LONG_VRS | TEXT_VRS})
_VALUES = st.one_of(
    st.sampled_from(
        [b"", b" ", b"\0\0", b"^^= ", b"1\\2", b"CT", b"2.25.1", b"ISO_IR 192", "Müller".encode(), b"\xc4"]
    ),
    st.binary(max_size=6),
)


@st.composite
def _elements(draw: st.DrawFn) -> dict[int, tuple[str, bytes]]:
    tags = draw(st.lists(st.sampled_from(_TAGS), max_size=8))
    odd = st.booleans() if draw(st.integers(0, 4)) == 0 else st.just(False)
    return {tag: (draw(st.sampled_from(_VRS)) if draw(odd) else vr_of(tag), draw(_VALUES)) for tag in tags}


def _encoded(elements: dict[int, tuple[str, bytes]], *, ascending: bool = True) -> bytes:
    parts = []
    for tag, (vr, value) in sorted(elements.items()) if ascending else elements.items():
        if vr.encode() in LONG_VRS:
            parts.append(struct.pack("<HH2s2xI", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value)
        else:
            parts.append(struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value)
    return b"".join(parts)


@pytest.mark.parametrize("variant", LIBRARIES)
@settings(max_examples=effort(200, 20_000), deadline=None)
@given(elements=_elements(), ascending=st.integers(0, 5), cut=st.integers(0, 12), rest=st.binary(max_size=14))
def test_split(variant: str, elements: dict[int, tuple[str, bytes]], ascending: int, cut: int, rest: bytes) -> None:
    data = _encoded(elements, ascending=ascending > 0)
    data = data[: len(data) - cut] + rest
    record = Record(RecordKind.INSTANCE, 1, bytes(32), 1, "", "3", "1", "2", "4", "A", "B", data, ())
    split = native.splitter(LIBRARIES[variant])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastarchive.native.attributes.split", split)
        short = contribution_of(record, Location(1, 0, 10))
        patch.setattr("fastarchive.native.attributes.split", None)
        long = contribution_of(record, Location(1, 0, 10))
    assert short == long
    assert list(short.elements[Level.IMAGE]) == list(long.elements[Level.IMAGE])
    found = split(data, contributions.KINDS)
    if found is not None and not any(text_vr for _, text_vr, *_ in found[0]):
        assert found[1] == split_by_level(data, CharacterSet.parse(None))[1]


@pytest.mark.parametrize("variant", LIBRARIES)
@settings(max_examples=effort(200, 20_000), deadline=None)
@given(
    first=_elements(),
    changes=st.dictionaries(st.sampled_from(sorted(BELOW_SERIES)), _VALUES, max_size=4),
    other=st.one_of(st.just({}), _elements()),
    rests=st.sampled_from([(b"", b"")] * 3 + [(b"x", b"x"), (b"\x08\0", b"\x09\0"), (b"", bytes(9))]),
)
def test_instance_part(
    variant: str,
    first: dict[int, tuple[str, bytes]],
    changes: dict[int, bytes],
    other: dict[int, tuple[str, bytes]],
    rests: tuple[bytes, bytes],
) -> None:
    second = first | {tag: (vr_of(tag), value) for tag, value in changes.items()} | other
    one, two = _encoded(first) + rests[0], _encoded(second) + rests[1]
    part = native.comparer(LIBRARIES[variant])
    template = Template(one)
    for data in (one, two):
        assert part(one, data, contributions.KINDS) == template.instance_part(data)


def test_nothing_is_compared_with_a_first_instance_whose_own_text_could_need_another_character_set() -> None:
    text = {0x00200013: ("LO", b"1"), 0x00100010: ("PN", b"A")}
    plain = {0x00200013: ("IS", b"1"), 0x00100010: ("PN", b"B")}
    for part in (Template(_encoded(text)).instance_part, instance_part_by(_encoded(text))):
        assert part(_encoded(plain)) is None
        assert part(_encoded(text)) is None


def test_longer_attributes_than_there_is_room_for() -> None:
    long = _encoded({0x00200013: ("UT", b"1" * 70_000), 0x00100010: ("PN", b"A")})
    many = _encoded({0x00180000 + number: ("LO", b"1") for number in range(1, 4000)} | {0x00200013: ("IS", b"1 ")})
    for data in (long, many):
        record = Record(RecordKind.INSTANCE, 1, bytes(32), 1, "", "3", "1", "2", "4", "A", "B", data, ())
        elements, encoded = split_by_level(data, CharacterSet.parse(None))
        contribution = contribution_of(record, Location(1, 0, 10))
        assert (contribution.elements[Level.IMAGE], contribution.instance_elements) == (elements[Level.IMAGE], encoded)
        assert instance_part_by(data)(data) == Template(data).instance_part(data)
