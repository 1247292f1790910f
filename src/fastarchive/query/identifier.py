"""The identifier of a C-FIND request: what may be asked, and what is made of it (PS3.4 C.4.1.1.3, C.4.1.2).

Read ``parse_find`` from top to bottom: it refuses what the rules refuse, always with status A900 and the offending
element, and sorts every other element into a ``Key`` that matches, is returned, or is ignored.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

from fastarchive.dicom.attributes import (
    ANSWERED_AT_EVERY_LEVEL,
    COMPUTED,
    LEVEL_OF,
    PATIENT_ID,
    QUERY_RETRIEVE_LEVEL,
    SPECIFIC_CHARACTER_SET,
    TIMEZONE_OFFSET_FROM_UTC,
    UNIQUE_KEYS,
    InformationModel,
    Kind,
    Level,
)
from fastarchive.dicom.charsets import CharacterSet
from fastarchive.dicom.dictionary import keyword_of, vr_of
from fastarchive.dicom.elements import Element, ElementError, parse_sequence, walk
from fastarchive.dicom.matching import Matcher, Matching, MatchingError, MatchingOptions, compile_matcher
from fastarchive.dicom.sequences import creator_in, creator_of, is_private, is_private_creator
from fastarchive.dicom.transfer_syntaxes import Encoding
from fastarchive.dicom.values import parse_offset
from fastarchive.dicom.wildcards import has_wildcard
from fastarchive.query.header_keys import (
    HeaderKey,
    creator_tag,
    header_key,
)
from fastarchive.query.options import FindOptions

IDENTIFIER_DOES_NOT_MATCH: Final = 0xA900
# Numbers that are binary in the data set and text for the matching rules.
BINARY_NUMBERS: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}


class IdentifierError(Exception):
    """An identifier that cannot be answered: the status, the offending elements and a comment of ≤ 64 characters."""

    def __init__(self, comment: str, *offending: int, status: int = IDENTIFIER_DOES_NOT_MATCH) -> None:
        super().__init__(comment)
        self.status = status
        self.offending = offending
        self.comment = comment[:64]


class Use(StrEnum):
    """What becomes of an element of the identifier."""

    MATCH = "matches and is returned"
    RETURN = "is returned"
    BELOW = "ignored: belongs to a level below the query"
    UNSCOPED = "ignored: not indexed, and no patient, study, series or instance is named to look into"
    UNSUPPORTED = "ignored: not supported"


@dataclass(frozen=True, slots=True)
class Key:
    """One element of an identifier.

    ``level`` is whose attribute it is in the information model (in Study Root those of patients are those of studies,
    Q6), ``holder`` whose documents it is read from: below PATIENT level what is said of a patient is what the study's
    own records say, in every model. Two patients who share a Patient ID, or have none, are never taken for each other.
    """

    tag: int
    vr: str
    level: Level
    holder: Level
    kind: Kind
    use: Use
    matcher: Matcher | None = None
    header: HeaderKey | None = None
    """Set if the attribute is looked up in the headers of instances."""
    creator: str = ""
    """Set if this is no key but names the creator of private keys: it is answered as it came (Q8)."""

    @property
    def name(self) -> str:
        """The keyword, or eight hexadecimal digits for an attribute the dictionary does not know."""
        return keyword_of(self.tag)


@dataclass(frozen=True, slots=True)
class FindQuery:
    """A validated query: its keys in tag order, whatever becomes of them."""

    model: InformationModel
    level: Level
    keys: tuple[Key, ...]
    character_set: CharacterSet
    options: FindOptions
    zone: int | None = None  # minutes east of UTC that dates and times are read and answered in (M18)

    @property
    def asked(self) -> frozenset[int]:
        """The tags of all keys."""
        return frozenset(key.tag for key in self.keys)

    @property
    def matchers(self) -> tuple[Matcher, ...]:
        """Every condition an entity has to meet."""
        return tuple(key.matcher for key in self.keys if key.matcher is not None)

    @property
    def returns(self) -> tuple[Key, ...]:
        """The keys each answer holds an element for (F4)."""
        return tuple(key for key in self.keys if key.use in (Use.MATCH, Use.RETURN))

    @property
    def header_keys(self) -> tuple[HeaderKey, ...]:
        """The keys that are looked up in the headers of instances."""
        return tuple(key.header for key in self.keys if key.header is not None)

    @property
    def unsupported(self) -> tuple[int, ...]:
        """The tags that are ignored; any makes every pending answer FF01 (F3)."""
        return tuple(key.tag for key in self.keys if key.use in (Use.BELOW, Use.UNSCOPED, Use.UNSUPPORTED))


_SAME_FOR_ALL: Final = ANSWERED_AT_EVERY_LEVEL | {TIMEZONE_OFFSET_FROM_UTC}
"""The archive's own word, the same for every entity: there is nothing to tell apart by matching."""


def parse_find(
    identifier: bytes, encoding: Encoding, model: InformationModel, options: FindOptions | None = None
) -> FindQuery:
    """The query an identifier asks; raises IdentifierError for what the standard does not allow."""
    options = options or FindOptions()
    elements = read_elements(identifier, encoding)
    level = read_level(elements, model)
    character_set = read_character_set(elements, options.declared_character_set)
    check_hierarchy(elements, level, model, character_set, options.relational)
    scoped: bool | None = None
    zone = read_zone(elements) if options.timezone else None
    matching = options.matching if zone is None else replace(options.matching, zone=zone)
    keys: list[Key] = []
    for tag, element in sorted(elements.items()):
        if tag in (QUERY_RETRIEVE_LEVEL, SPECIFIC_CHARACTER_SET):
            continue
        key = _key(element, level, model, character_set, matching)
        if options.headers and key.use is Use.UNSUPPORTED and tag not in LEVEL_OF:
            key = _header_key(key, element, elements, character_set, matching)
            if scoped is None:
                scoped = _is_scoped(elements, level, character_set)
            if key.header is not None and not scoped:
                key = replace(key, use=Use.UNSCOPED, header=None)
        keys.append(key)
    return FindQuery(model, level, tuple(_with_creators(keys)), character_set, options, zone)


def read_elements(identifier: bytes, encoding: Encoding) -> dict[int, Element]:
    """The elements by tag, without group lengths and groups below 0008 (Q7)."""
    try:
        return {
            element.tag: element
            for element in walk(identifier, encoding)
            if element.tag & 0xFFFF and element.tag >> 16 >= 0x0008
        }
    except ElementError as error:
        offending = () if error.tag is None else (error.tag,)
        raise IdentifierError("Identifier is not a readable data set", *offending) from error


def read_level(elements: dict[int, Element], model: InformationModel) -> Level:
    """The Query/Retrieve Level, one of the model's (Q1, Q2)."""
    element = elements.get(QUERY_RETRIEVE_LEVEL)
    name = element.value.decode("latin-1").strip(" \0") if element else ""
    if not name:
        raise IdentifierError("QueryRetrieveLevel is missing", QUERY_RETRIEVE_LEVEL)
    if name not in Level.__members__:
        raise IdentifierError("QueryRetrieveLevel: PATIENT, STUDY, SERIES or IMAGE", QUERY_RETRIEVE_LEVEL)
    level = Level[name]
    if level not in model.levels:
        raise IdentifierError(f"QueryRetrieveLevel {level} is not in this model", QUERY_RETRIEVE_LEVEL)
    return level


def read_character_set(elements: dict[int, Element], override: str | None = None) -> CharacterSet:
    """The character set of the keys; absent and empty mean the default repertoire (M2)."""
    element = elements.get(SPECIFIC_CHARACTER_SET)
    return CharacterSet.parse(element.value if element else None, override)


def read_zone(elements: dict[int, Element]) -> int | None:
    """The zone of the query in minutes east of UTC, if it names one (M18)."""
    element = elements.get(TIMEZONE_OFFSET_FROM_UTC)
    text = element.value.decode("latin-1").strip(" \0") if element else ""
    zone = parse_offset(text)
    if text and zone is None:
        raise IdentifierError("TimezoneOffsetFromUTC: +hhmm or -hhmm", TIMEZONE_OFFSET_FROM_UTC)
    return zone


def unique_key_values(elements: dict[int, Element], level: Level, character_set: CharacterSet) -> list[str]:
    """The non-empty values of a level's unique key; ``[]`` when it is absent or empty."""
    element = elements.get(UNIQUE_KEYS[level])
    if element is None:
        return []
    values = character_set.decode_values(element.value, vr_of(element.tag))
    return [stripped for value in values if (stripped := value.strip(" \0"))]


def check_hierarchy(
    elements: dict[int, Element], level: Level, model: InformationModel, character_set: CharacterSet, relational: bool
) -> None:
    """Unique keys above the level: each present with one single value, unless the query is relational (Q3).

    At the level itself UIDs may be a list, the Patient ID may not (Q4).
    """
    if level is Level.PATIENT and len(unique_key_values(elements, level, character_set)) > 1:
        raise IdentifierError("PatientID may not be a list", PATIENT_ID)
    if relational:
        return
    for upper in (upper for upper in model.levels if upper.depth < level.depth):
        tag = UNIQUE_KEYS[upper]
        values = unique_key_values(elements, upper, character_set)
        if not values:
            raise IdentifierError(f"{keyword_of(tag)} is required at this level", tag)
        if len(values) > 1 or "*" in values[0] or "?" in values[0]:
            raise IdentifierError(f"{keyword_of(tag)} must be one single value at this level", tag)


def _key(
    element: Element, level: Level, model: InformationModel, character_set: CharacterSet, options: MatchingOptions
) -> Key:
    tag = element.tag
    key = _return_key(tag, element.vr, level, model)
    vr, kind = key.vr, key.kind
    if vr == "SQ":
        _check_sequence(element)
    if not element.value or key.use is not Use.RETURN or tag in _SAME_FOR_ALL:
        return key
    try:
        matcher = compile_matcher(tag, vr, key_text(element, vr, character_set), options)
    except MatchingError as error:
        raise IdentifierError(f"{keyword_of(tag)}: {error.reason}", tag) from error
    if matcher.matching is Matching.UNIVERSAL:
        return key
    if kind is Kind.UNIQUE and matcher.match_unknown:
        matcher = replace(matcher, match_unknown=False)  # every entity has it: it is never unknown (M21)
    return Key(tag, vr, key.level, key.holder, kind, Use.MATCH, matcher)


@lru_cache(maxsize=4096)
def _return_key(tag: int, vr: str, level: Level, model: InformationModel) -> Key:
    """A key without a value, or one whose value doesn't matter: the most common keys there are."""
    known_vr = vr_of(tag)
    if known_vr != "UN":
        vr = known_vr
    if tag in _SAME_FOR_ALL:
        return Key(tag, vr, level, level, Kind.OPTIONAL, Use.RETURN)
    home = model.level_of(tag)
    if home is None:
        return Key(tag, vr, level, level, Kind.OPTIONAL, Use.UNSUPPORTED)
    use = Use.BELOW if home.depth > level.depth else Use.RETURN
    return Key(tag, vr, home, _holder(tag, level), model.kind_of(tag, home) or Kind.OPTIONAL, use)


def _is_scoped(elements: dict[int, Element], level: Level, character_set: CharacterSet) -> bool:
    """Whether a query names the patient, studies, series or instances it is about: only then headers are read."""
    return any(_is_named(elements, one, character_set) for one in (*level.above, level))


def _is_named(elements: dict[int, Element], level: Level, character_set: CharacterSet) -> bool:
    values = unique_key_values(elements, level, character_set)
    if level is Level.PATIENT:
        return len(values) == 1 and not has_wildcard(values[0])
    return any(value.strip("*") for value in values)


def _header_key(
    key: Key, element: Element, elements: dict[int, Element], character_set: CharacterSet, options: MatchingOptions
) -> Key:
    """The key of an attribute the archive does not keep, looked up in headers if it can be."""
    tag = key.tag
    if is_private_creator(tag):
        return replace(key, vr="LO", use=Use.RETURN, creator=creator_of(element))
    creator = creator_in(elements, tag) if is_private(tag) else ""
    if key.vr in BINARY_NUMBERS:
        key_text(element, key.vr, character_set)
    try:
        header = header_key(element, creator, character_set, options)
    except MatchingError as error:
        raise IdentifierError(f"{keyword_of(tag)}: {error.reason}", tag) from error
    if header is None:
        return key
    return replace(key, use=Use.MATCH if header.decides else Use.RETURN, header=header)


def _with_creators(keys: list[Key]) -> list[Key]:
    """The keys, a creator being one that is answered only where a private key of its block is (Q8)."""
    answered = {creator_tag(key.tag) for key in keys if key.header is not None and key.header.creator}
    return [
        replace(key, use=Use.UNSUPPORTED, creator="") if key.creator and key.tag not in answered else key
        for key in keys
    ]


def _holder(tag: int, level: Level) -> Level:
    """Whose documents tell the value of an attribute, when entities of ``level`` are looked for."""
    if level is not Level.PATIENT and LEVEL_OF[tag] is Level.PATIENT and tag not in COMPUTED:
        return Level.STUDY
    return LEVEL_OF[tag]


def key_text(element: Element, vr: str, character_set: CharacterSet) -> str:
    """The text of a key as the matching rules read it."""
    code = BINARY_NUMBERS.get(vr)
    if code is None:
        return character_set.decode(element.value, vr)
    width = struct.calcsize(code)
    if len(element.value) % width:
        raise IdentifierError(f"{keyword_of(element.tag)}: length is no multiple of {width}", element.tag)
    return "\\".join(str(number) for (number,) in struct.iter_unpack(f"<{code}", element.value))


def _check_sequence(element: Element) -> None:
    """A sequence key has at most one item (M19)."""
    try:
        items = parse_sequence(element.value)
    except ElementError as error:
        raise IdentifierError(f"{keyword_of(element.tag)} is not a readable sequence", element.tag) from error
    if len(items) > 1:
        raise IdentifierError(f"{keyword_of(element.tag)} has more than one item", element.tag)
