"""What documents are found by: the terms of attribute values and of keys.

Most values of a hospital's archive repeat (descriptions, stations, dates), so the terms of an element are remembered.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from binascii import b2a_base64
from collections.abc import Container, Iterable, Iterator
from functools import cache, lru_cache
from hashlib import blake2b
from json.encoder import encode_basestring as quoted
from typing import Final, NamedTuple

from fastarchive.dicom.attributes import (
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    STORED_ATTRIBUTES,
    STUDY_INSTANCE_UID,
    Level,
)
from fastarchive.dicom.dictionary import vr_of
from fastarchive.dicom.values import fold, parse_date, parse_time
from fastarchive.index.documents import text_values
from fastarchive.native import terms as native
from fastarchive.native.attributes import Kinds

_EXACT_VRS: Final = frozenset({"AE", "AS", "CS", "DS", "IS", "LO", "SH", "UI"})
_GRAM_VRS: Final = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_INDEXED_LEVELS: Final = (Level.PATIENT, Level.STUDY, Level.SERIES)
START, END = "\x02", "\x03"
"""Marks around a text cut into grams."""
LONG_TEXT: Final = "\x04"
"""Gram of documents with a text too long to be cut up: they are found by every wildcard."""
LONGEST_TEXT: Final = 400
"""Characters of a value cut into grams."""
NOT_ONE: Final = -1
"""What a value that is no single date or time is found by."""
MINUTE: Final = 60_000_000
"""Microseconds; times are told apart by minutes."""
_MARKS: Final = re.compile("[\x02-\x04]")
_AROUND_CARET: Final = re.compile(r"[ \0]*\^[ \0]*")
_LONGEST_EXACT: Final = 512
_LONGEST_REMEMBERED: Final = 128
_REMEMBERED: Final = 1_024
"""Values of one attribute whose terms are kept, some 350 bytes each. Of UIDs, numbers and times hardly any comes again,
and what comes again has few values: more of them save no time."""


def _tags(vrs: Container[str]) -> dict[Level, frozenset[int]]:
    """The attributes of certain VRs in the documents of each indexed level; a study's tell of its patient, too."""
    kept = {level: STORED_ATTRIBUTES[level] for level in _INDEXED_LEVELS}
    kept[Level.STUDY] += STORED_ATTRIBUTES[Level.PATIENT]
    return {level: frozenset(each.tag for each in attributes if each.vr in vrs) for level, attributes in kept.items()}


EXACT: Final = _tags(_EXACT_VRS)
GRAMS: Final = _tags(_GRAM_VRS)
SPANS: Final = _tags({"DA", "TM"})
_EVERY_EXACT: Final = frozenset[int]().union(*EXACT.values()) - {PATIENT_ID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID}
"""Without the keys, which have fields of their own."""
_EVERY_GRAM: Final = frozenset[int]().union(*GRAMS.values())
_EVERY_SPAN: Final = frozenset[int]().union(*SPANS.values())


class Terms(NamedTuple):
    """What a document is found by for one of its elements, in JSON."""

    exact: str
    """Terms of field ``exact``, separated by commas; empty for none."""
    own: str
    """The attribute's own field and what is in it: texts that are cut into grams, or dates or times; empty for none."""


_NONE: Final = Terms("", "")


class _Recipe(NamedTuple):
    """How the terms of an attribute are made."""

    vr: str
    exact: bool
    plain: bool
    """Whether the term of a value is the value without its padding."""
    prefix: str
    field: str
    """The attribute's own, empty if it has none."""
    grams: bool
    ends: str


def insignificant_ends(tag: int) -> str:
    """What is insignificant at the ends of a text (rules M4, M10)."""
    return " \0^" if vr_of(tag) == "PN" else " \0"


@cache
def _recipe(tag: int) -> _Recipe:
    vr, grams = vr_of(tag), tag in _EVERY_GRAM
    own = f"g{tag:08x}" if grams else f"d{tag:08x}" if tag in _EVERY_SPAN else ""
    plain = vr not in {"IS", "DS"}
    return _Recipe(vr, tag in _EVERY_EXACT, plain, f"{tag:08x}=", own, grams, insignificant_ends(tag))


def _terms_of(tag: int, value: bytes) -> Terms:
    recipe = _recipe(tag)
    if not recipe.exact and not recipe.field:
        return _NONE
    if recipe.plain and value.isascii() and b"\\" not in value and b"=" not in value:
        text = value.decode().strip(" \0")
        if text.isprintable() and len(text) <= LONGEST_TEXT:
            return _plain_terms(recipe, text)  # as nearly all values are
    return careful_terms(tag, value)


def careful_terms(tag: int, value: bytes) -> Terms:
    """The terms of any element, by definition."""
    recipe = _recipe(tag)
    vr, field = recipe.vr, recipe.field
    values = text_values(value, vr)
    exact = ",".join([quoted(exact_term(tag, vr, each)) for each in values]) if recipe.exact else ""
    if recipe.grams:
        own = ",".join([quoted(each) for each in _gram_texts(tag, values)])
    else:
        own = ",".join({str(_point(vr, each)) for each in values if each}) if field else ""
    return Terms(exact, f'"{field}":[{own}]' if own else "")


def _plain_terms(recipe: _Recipe, text: str) -> Terms:
    """Of one value in printable ASCII, at most LONGEST_TEXT long, that has but one component group."""
    if not text:
        return _NONE
    vr, field = recipe.vr, recipe.field
    exact = quoted(recipe.prefix + text) if recipe.exact else ""
    if not recipe.grams:
        return Terms(exact, f'"{field}":{_point(vr, text)}' if field else "")
    folded = text.lower()
    if "^" in folded and vr == "PN":
        folded = _AROUND_CARET.sub("^", folded)
    folded = folded.strip(recipe.ends)
    return Terms(exact, f'"{field}":{quoted(f"{START}{folded}{END}")}' if folded else "")


def _flags(tag: int) -> int:
    recipe = _recipe(tag)
    own = {"g": native.GRAMS, "d": native.DATE if recipe.vr == "DA" else native.TIME}.get(recipe.field[:1], 0)
    kind = native.NAME if recipe.vr == "PN" else 0 if recipe.plain else native.NUMBER
    return (native.EXACT if recipe.exact else 0) | own | kind


RECIPES: Final = Kinds({tag: _flags(tag) for tag in _EVERY_EXACT | _EVERY_GRAM | _EVERY_SPAN})
"""How the terms of each attribute are made, for the function in C."""

_known: Final[dict[int, dict[bytes, Terms]]] = {}
"""The terms of the last values of each attribute."""


def terms_of(elements: Iterable[tuple[int, bytes]]) -> list[Terms]:
    """The terms of each of some elements (tag and value in UTF-8) of a patient, study or series."""
    found = []
    for tag, value in elements:
        known = _known.get(tag)
        if known is None:
            known = _known[tag] = {}
        terms = known.get(value)
        if terms is None:
            terms = _terms_of(tag, value)
            if len(value) <= _LONGEST_REMEMBERED:
                if len(known) >= _REMEMBERED:
                    known.clear()
                known[value] = terms
        found.append(terms)
    return found


def short_term(text: str) -> str:
    """16 characters that stand for a UID or another key: 96 bits of BLAKE2b.

    The index spends its time on the characters of terms that no other term shares, of which a UID has some forty.
    """
    return b2a_base64(blake2b(text.encode(), digest_size=12).digest(), newline=False).decode()


recent_short_term: Final = lru_cache(4096)(short_term)
"""The same for keys that come again and again."""


def patient_ids(patient: str) -> Iterable[str]:
    """What a patient is found by: the key, and each value of a Patient ID with several."""
    if "\\" not in patient:
        stripped = patient.strip(" ")
        return (patient,) if stripped == patient else (patient, stripped)
    return dict.fromkeys((patient, *[value.strip(" ") for value in patient.split("\\")]))


def exact_term(tag: int, vr: str, value: str) -> str:
    """The same term for every way to write a value: padding, NFC, 007 = 7 (rules M4, M8)."""
    text = value.strip(" \0")
    if vr in {"IS", "DS"}:
        with contextlib.suppress(ValueError):
            text = repr(float(text))
    elif not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return f"{tag:08x}={text[:_LONGEST_EXACT]}"


def folded_text(tag: int, text: str) -> str:
    """A text as it is cut into grams, without its ends."""
    folded = fold(text)
    if not folded.isprintable():
        folded = _MARKS.sub(" ", folded)
    if "^" in folded and vr_of(tag) == "PN":
        folded = _AROUND_CARET.sub("^", folded)
    return folded


def _gram_texts(tag: int, values: Iterable[str]) -> Iterator[str]:
    """The texts whose grams a document is found by."""
    ends, groups = insignificant_ends(tag), vr_of(tag) == "PN"
    long = False
    for value in values:
        for text in value.split("=") if groups else (value,):
            folded = folded_text(tag, text).strip(ends)
            if len(folded) > LONGEST_TEXT:
                long = True
                folded = folded[:LONGEST_TEXT]
            if folded:
                yield f"{START}{folded}{END}"
    if long:
        yield LONG_TEXT


def _point(vr: str, value: str) -> int:
    """A date or time as the number it is found by."""
    if value.isdecimal() and value.isascii():  # as nearly all are written, read without a regular expression
        if vr == "DA" and len(value) == 8 and "01" <= value[4:6] <= "12" and "01" <= value[6:] <= "31":
            return int(value)
        if vr == "TM" and len(value) == 6 and value[:2] < "24" and value[2:4] < "60" and value[4:] < "60":
            return int(value[:2]) * 60 + int(value[2:4])
    span = parse_date(value) if vr == "DA" else parse_time(value)
    if span is None:
        return NOT_ONE
    low, high = span
    if vr == "TM":
        low, high = low // MINUTE, high // MINUTE
    return low if low == high else NOT_ONE
