"""Queries written with keywords, for a command line or a script, and their answers as text.

``PatientName=SMITH*`` is a matching key, ``StudyDate`` alone one to be returned. Such queries are lenient: keys of the
levels above may be given freely, as in a relational query (PS3.4 C.4.1.2.2).
"""

from __future__ import annotations

import difflib
import struct
from collections.abc import Iterable, Iterator
from functools import partial
from time import monotonic
from typing import Final

from fastarchive.dicom.attributes import (
    LEVEL_OF,
    QUERY_RETRIEVE_LEVEL,
    SPECIFIC_CHARACTER_SET,
    UNIQUE_KEYS,
    InformationModel,
    Kind,
    Level,
)
from fastarchive.dicom.charsets import UTF8
from fastarchive.dicom.dictionary import keyword_of, tag_of, vr_of
from fastarchive.dicom.elements import Element, encode
from fastarchive.dicom.sequences import values_of as text_of
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE
from fastarchive.index.view import View
from fastarchive.query.computed import values_of
from fastarchive.query.execute import matches
from fastarchive.query.explain import Explanation, explain
from fastarchive.query.headers import HeaderReader, TooManyHeaders
from fastarchive.query.identifier import BINARY_NUMBERS, FindQuery, IdentifierError, parse_find
from fastarchive.query.match import LookedUp, Match
from fastarchive.query.options import FindOptions
from fastarchive.query.plan import Trace, plan

_BY_FOLDED_KEYWORD: Final = {keyword_of(tag).casefold(): tag for tag in LEVEL_OF}
# What a person wants to see of a level besides its unique and required keys.
_USUAL: Final = {
    Level.PATIENT: ("PatientBirthDate", "PatientSex", "NumberOfPatientRelatedStudies"),
    Level.STUDY: (
        *("PatientName", "PatientID", "StudyDescription", "ModalitiesInStudy"),
        *("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"),
    ),
    Level.SERIES: ("SeriesDescription", "NumberOfSeriesRelatedInstances", "StudyInstanceUID"),
    Level.IMAGE: ("SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID"),
}
# What can't be written, or shown, as text.
_NO_TEXT: Final = frozenset({"AT", "OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UN"})


class KeywordError(ValueError):
    """A query that cannot be asked; the message says why, and what was probably meant."""


def parse_keywords(
    level: str, keys: Iterable[str] = (), returns: Iterable[str] = (), *, headers: bool = False, ignores: bool = False
) -> FindQuery:
    """The query of ``find LEVEL Keyword=value … --return Keyword …``; raises KeywordError.

    With ``headers`` any attribute may be asked for within a patient, study or series that is named; without, those the
    archive keeps. With ``ignores`` keys that can't be answered are left in the query as ignored, as in a C-FIND (F3).
    PATIENT is asked in Patient Root, the other levels in Study Root. Without ``returns`` the keys that tell the
    entities of a level apart are returned.
    """
    asked = parse_level(level)
    model = InformationModel.PATIENT_ROOT if asked is Level.PATIENT else InformationModel.STUDY_ROOT
    wanted = list(returns)
    read = partial(_tag, level=asked, model=model, looked_up=headers, ignores=ignores)
    values: dict[int, str] = {read(keyword): "" for keyword in wanted or _usual(asked, model)}
    for key in keys:
        keyword, _, value = key.partition("=")
        values[read(keyword)] = value
    elements = [
        Element(SPECIFIC_CHARACTER_SET, "CS", b"ISO_IR 192"),
        Element(QUERY_RETRIEVE_LEVEL, "CS", asked.encode()),
        *(Element(tag, vr_of(tag), _encoded(tag, value)) for tag, value in values.items()),
    ]
    options = FindOptions(relational=True, headers=headers)
    try:
        query = parse_find(encode(elements, EXPLICIT_LITTLE), EXPLICIT_LITTLE, model, options)
    except IdentifierError as error:
        raise KeywordError(error.comment) from error
    if query.unsupported and not ignores:
        names = ", ".join(map(keyword_of, query.unsupported))
        *others, last = (keyword_of(UNIQUE_KEYS[one]) for one in (*asked.above, asked))
        scopes = f"{', '.join(others)} or {last}" if others else last
        raise KeywordError(f"{names}: only within what is named, give {scopes} too")
    return query


def find(query: FindQuery, view: View, headers: HeaderReader | None = None) -> Iterator[dict[str, str]]:
    """The answers to a query, each as keyword → text (several values joined by ``\\``), "" where there is no value."""
    for page in matches(plan(query, view), view, headers=headers):
        for match in page:
            yield answer(query, match)


def explained(
    query: FindQuery,
    view: View,
    headers: HeaderReader | None = None,
    *,
    values: bool = True,
    seconds: float | None = None,
) -> Explanation:
    """How a query is answered, with what each step really did: it is run to its end, or for so many seconds.

    Without ``values`` the explanation repeats nothing of what the keys ask for.
    """
    trace, found = Trace(), plan(query, view)
    end = None if seconds is None else monotonic() + seconds
    complete = True
    try:
        for _ in matches(found, view, trace, headers):
            if end is not None and monotonic() > end:
                complete = False
                break
    except TooManyHeaders:
        complete = False
    return explain(found, view, trace, values=values, complete=complete)


def answer(query: FindQuery, match: Match) -> dict[str, str]:
    """One match as keyword → text, in the order of the tags."""
    texts = {}
    for key in query.returns:
        if key.header is not None:
            texts[key.name] = _text(match.header[key.tag]) if isinstance(match, LookedUp) else ""
            continue
        document = match[key.holder.depth]
        texts[key.name] = "" if document is None else "\\".join(values_of(document, key.tag))
    return texts


def parse_level(text: str) -> Level:
    """The level a person means; raises KeywordError."""
    level = Level.__members__.get(text.strip().upper())
    if level is None:
        hint = "; instances are asked for with IMAGE" if text.strip().upper().startswith("INSTANCE") else ""
        raise KeywordError(f"{text!r} is no level: PATIENT, STUDY, SERIES or IMAGE{hint}")
    return level


def _usual(level: Level, model: InformationModel) -> list[str]:
    tags = model.keys_of(level, (Kind.UNIQUE, Kind.REQUIRED))
    return [*map(keyword_of, tags), *_USUAL[level]]


def _text(element: Element) -> str:
    """What a header answered, as text."""
    return "\\".join(value.strip(" \0") for value in text_of(element, UTF8))


def _tag(keyword: str, *, level: Level, model: InformationModel, looked_up: bool, ignores: bool) -> int:
    """The tag of a keyword that can be asked for at a level, or of any with ``ignores``."""
    keyword = keyword.strip()
    tag = _BY_FOLDED_KEYWORD.get(keyword.casefold())
    if tag is None:
        try:
            tag = tag_of(keyword or " ")
        except KeyError:
            close = difflib.get_close_matches(keyword.casefold(), _BY_FOLDED_KEYWORD, n=3)
            meant = ", ".join(keyword_of(_BY_FOLDED_KEYWORD[one]) for one in close)
            raise KeywordError(f"{keyword!r} is no keyword" + (f"; did you mean {meant}?" if meant else "")) from None
    home = model.level_of(tag)
    if ignores and vr_of(tag) not in _NO_TEXT:
        return tag
    if home is None and looked_up and tag not in LEVEL_OF and vr_of(tag) not in _NO_TEXT:
        return tag
    if home is None:
        raise KeywordError(f"{keyword_of(tag)} cannot be searched for or returned in {model.value}")
    if home.depth > level.depth:
        raise KeywordError(f"{keyword_of(tag)} belongs to {home}, below {level}: ask at level {home}")
    return tag


def _encoded(tag: int, text: str) -> bytes:
    code = BINARY_NUMBERS.get(vr_of(tag))
    if code is None or not text:
        return text.encode()
    try:
        return struct.pack(f"<{code}", float(text) if code in "fd" else int(text))
    except (ValueError, struct.error):
        raise KeywordError(f"{keyword_of(tag)} is a number: {text!r} is not") from None
