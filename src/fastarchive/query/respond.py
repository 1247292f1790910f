"""Answers to a query: each identifier is joined from stored bytes, not built (PS3.4 C.4.1.1.3.2).

Which elements an answer holds, and in which order, is the same for every match of a query. So the headers of the
elements, the constants between them and the order are prepared once, and an answer costs a few look-ups and a join.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Final

from fastarchive.dicom.attributes import (
    INSTANCE_AVAILABILITY,
    QUERY_RETRIEVE_LEVEL,
    RETRIEVE_AE_TITLE,
    SPECIFIC_CHARACTER_SET,
    TIMEZONE_OFFSET_FROM_UTC,
)
from fastarchive.dicom.charsets import UTF8, CharacterSet
from fastarchive.dicom.elements import Element, encode, encode_element
from fastarchive.dicom.layout import LONG_VRS, WORD_SIZE
from fastarchive.dicom.transfer_syntaxes import Encoding
from fastarchive.query.availability import ONLINE, Availability
from fastarchive.query.computed import AGGREGATES, Aggregate
from fastarchive.query.header_keys import is_ascii, recode
from fastarchive.query.identifier import FindQuery, Key
from fastarchive.query.match import LookedUp, Match
from fastarchive.query.template import RowTemplate, WorkOut, lay_out, row_template
from fastarchive.query.zones import format_offset, values_in_zone

PENDING: Final = 0xFF00
PENDING_WITH_UNSUPPORTED_KEYS: Final = 0xFF01

# Elements of these VRs hold text in the character set of the data set (PS3.5 6.1.2.3); the rest is ASCII or numbers.
TEXT_VRS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
# Even lengths up to this are looked up ready encoded; an answer with a longer value is encoded element by element.
_LONGEST: Final = 2048
_TWO_BYTE_LENGTHS: Final = {length: struct.pack("<H", length) for length in range(0, _LONGEST + 1, 2)}
_FOUR_BYTE_LENGTHS: Final = {length: struct.pack("<I", length) for length in range(0, _LONGEST + 1, 2)}


class Responder:
    """Encodes the answers to one query in one encoding.

    Every returned key is present in every answer, of zero length when the entity has no value (F4), with
    Query/Retrieve Level and Retrieve AE Title (F5) and nothing else. Text is answered in the character set of the
    query if that holds it, else in UTF-8; (0008,0005) is there when, and only when, an answer is not plain ASCII (X6).
    """

    def __init__(
        self, query: FindQuery, encoding: Encoding, retrieve_ae: str, availability: Availability | None = None
    ) -> None:
        """``availability`` tells what is damaged (F7); None: nothing is."""
        self.pending_status = PENDING_WITH_UNSUPPORTED_KEYS if query.unsupported else PENDING
        """FF01 when a key of the query is not supported, the same for all its matches (F3)."""
        self._encoding = encoding
        self._character_set = query.character_set
        self._converts = not query.character_set.is_default and query.character_set.terms != UTF8.terms
        constants = _constants(query, retrieve_ae, everything_online=availability is None)
        variables = [key for key in query.returns if key.tag not in constants and key.header is None]
        self._looks_up = bool(query.header_keys)
        self._constants = [constants[tag] for tag in sorted(constants)]
        works_out = [(key, _work_out(key, query.zone, availability)) for key in variables]
        self._prepare_collection(works_out)
        self._prepare_join(variables, constants)
        self.row_template: RowTemplate | None = None
        """For answers straight from rows of the level of the query, where that gives what :meth:`identifier` does."""
        if not self._looks_up:
            character_set = b"" if self._converts else self._utf8_bytes
            self.row_template = row_template(query.level, works_out, constants, encoding, character_set)

    def _prepare_collection(self, works_out: Sequence[tuple[Key, WorkOut | None]]) -> None:
        """Decide in which order values are collected: stored text by level, what is worked out, then numbers."""
        worked_out = [(key, work_out) for key, work_out in works_out if work_out is not None]
        stored = sorted((key for key, work_out in works_out if work_out is None), key=_depth)
        texts = [key for key in stored if key.vr not in WORD_SIZE]
        numbers = [key for key in stored if key.vr in WORD_SIZE]
        self._texts = _by_depth(texts)
        self._worked_out = [(_depth(key), work_out) for key, work_out in worked_out]
        self._numbers = _by_depth(numbers)
        collected = [*texts, *(key for key, _ in worked_out), *numbers]
        self._text_vrs = {place: key.vr for place, key in enumerate(collected) if key.vr in TEXT_VRS}
        self._paddings = [b"\0" if key.vr == "UI" else b" " for key in collected]
        self._first_number = len(texts) + len(worked_out)
        place_of = {key.tag: place for place, key in enumerate(collected)}
        places = [place_of[key.tag] for key, _ in works_out]
        self._sort: Callable[[list[bytes]], Sequence[bytes]] = itemgetter(*places) if len(places) > 1 else list

    def _prepare_join(self, variables: Sequence[Key], constants: dict[int, Element]) -> None:
        """Lay out an answer as header, length, value for each element, constants merged into the headers."""
        self._variables = [(key.tag, key.vr) for key in variables]
        explicit, little = self._encoding
        self._joins = (
            little and not self._looks_up and not (explicit and any(key.vr.encode() in LONG_VRS for key in variables))
        )
        self._lengths = (_TWO_BYTE_LENGTHS if explicit else _FOUR_BYTE_LENGTHS).__getitem__
        headers, trailer = lay_out(variables, constants, self._encoding)
        template = [part for header in headers for part in (header, b"", b"")]
        template.append(trailer)
        self._template = template
        self._lengths_at = slice(1, len(template) - 1, 3)
        self._values_at = slice(2, len(template) - 1, 3)
        self._utf8 = _character_set_element(UTF8)
        self._utf8_bytes = encode_element(self._utf8, self._encoding)
        if self._converts:
            self._asked = _character_set_element(self._character_set)
            self._asked_bytes = encode_element(self._asked, self._encoding)

    def identifier(self, match: Match) -> bytes:
        """The encoded identifier that answers with one match."""
        values: list[bytes] = []
        for depth, tags, empty in self._texts:
            document = match[depth]
            values += empty if document is None else document.pick(tags)
        for depth, work_out in self._worked_out:
            document = match[depth]
            values.append(b"" if document is None else work_out(document))
        ascii_only = b"".join(values).isascii()
        for depth, tags, empty in self._numbers:
            document = match[depth]
            values += empty if document is None else document.pick(tags)
        looked_up: list[Element] = []
        if self._looks_up and isinstance(match, LookedUp):
            looked_up += match.header.values()
            ascii_only = ascii_only and all(map(is_ascii, looked_up))
        if ascii_only:
            return self._join(values, looked_up, b"", None)
        if self._converts and (converted := self._convert(values)) is not None:
            recoded = [recode(element, UTF8, self._character_set) for element in looked_up]
            held = [element for element in recoded if element is not None]
            if len(held) == len(recoded):
                return self._join(converted, held, self._asked_bytes, self._asked)
        return self._join(values, looked_up, self._utf8_bytes, self._utf8)

    def _join(
        self, values: list[bytes], looked_up: list[Element], prefix: bytes, character_set: Element | None
    ) -> bytes:
        if self._joins:
            try:
                return prefix + self._filled(values)
            except KeyError:
                padded = zip(values, self._paddings, strict=True)
                values = [value + padding if len(value) % 2 else value for value, padding in padded]
            if max(map(len, values)) <= _LONGEST:
                return prefix + self._filled(values)
        ordered = self._sort(values)
        elements = [Element(tag, vr, value) for (tag, vr), value in zip(self._variables, ordered, strict=True)]
        elements += self._constants
        elements += looked_up
        if character_set is not None:
            elements.append(character_set)
        return encode(elements, self._encoding)

    def _filled(self, values: list[bytes]) -> bytes:
        """The template with values; raises KeyError at one of odd length, or longer than ``_LONGEST``."""
        ordered = self._sort(values)
        parts = self._template.copy()
        parts[self._values_at] = ordered
        parts[self._lengths_at] = map(self._lengths, map(len, ordered))
        return b"".join(parts)

    def _convert(self, values: list[bytes]) -> list[bytes] | None:
        """The values in the character set of the query; None when it cannot hold one of them."""
        converted = values.copy()
        for place, value in enumerate(values[: self._first_number]):
            if value.isascii():
                continue
            vr = self._text_vrs.get(place)
            encoded = None if vr is None else self._character_set.encode(value.decode("utf-8", "replace"), vr)
            if encoded is None:
                return None
            converted[place] = _padded(encoded, " ")
        return converted


_prepared: Final[dict[tuple[object, ...], Responder]] = {}
"""Responders of queries that ask for the same, whatever they match: a viewer asks the same few again and again."""
_MOST_PREPARED: Final = 256


def responder_to(
    query: FindQuery, encoding: Encoding, retrieve_ae: str, availability: Availability | None = None
) -> Responder:
    """A :class:`Responder`, one that was made before if it would be the same."""
    returns = query.returns
    if availability is not None or query.header_keys or any(key.creator for key in query.keys):
        return Responder(query, encoding, retrieve_ae, availability)
    unsupported = bool(query.unsupported)
    shape = (query.level, encoding, retrieve_ae, query.zone, query.character_set.terms, unsupported)
    identity = (*shape, *[(key.tag, key.vr) for key in returns])
    known = _prepared.get(identity)
    if known is None:
        if len(_prepared) >= _MOST_PREPARED:
            _prepared.clear()
        known = _prepared[identity] = Responder(query, encoding, retrieve_ae)
    return known


def _constants(query: FindQuery, retrieve_ae: str, *, everything_online: bool) -> dict[int, Element]:
    """What is the same in every answer, by tag."""
    constants = {
        QUERY_RETRIEVE_LEVEL: Element(QUERY_RETRIEVE_LEVEL, "CS", query.level.encode()),
        RETRIEVE_AE_TITLE: Element(RETRIEVE_AE_TITLE, "AE", retrieve_ae.encode()),
    }
    requested = {key.tag for key in query.returns}
    if INSTANCE_AVAILABILITY in requested and everything_online:
        constants[INSTANCE_AVAILABILITY] = Element(INSTANCE_AVAILABILITY, "CS", ONLINE.encode())
    if query.zone is not None:
        offset = format_offset(query.zone).encode()
        constants[TIMEZONE_OFFSET_FROM_UTC] = Element(TIMEZONE_OFFSET_FROM_UTC, "SH", offset)
    # Q8: with its creator a private attribute means something.
    creators = {key.tag: Element(key.tag, "LO", key.creator.encode("latin-1")) for key in query.keys if key.creator}
    constants.update(creators)
    return constants


def _character_set_element(character_set: CharacterSet) -> Element:
    return Element(SPECIFIC_CHARACTER_SET, "CS", character_set.value)


def _work_out(key: Key, zone: int | None, availability: Availability | None) -> WorkOut | None:
    """How a value that is not stored as it is answered comes about; None for one that is."""
    if key.tag == INSTANCE_AVAILABILITY and availability is not None:
        return lambda document: _padded(availability.of(document).encode(), " ")
    aggregate = AGGREGATES.get(key.tag)
    if aggregate is not None:
        padding = "\0" if key.vr == "UI" else " "
        return lambda document: _aggregate(aggregate(document), padding)
    if zone is not None and key.vr in ("DA", "TM", "DT"):
        return lambda document: _padded("\\".join(values_in_zone(document, key.tag, zone)).encode(), " ")
    return None


@lru_cache(maxsize=4096)
def _aggregate(value: Aggregate, padding: str) -> bytes:
    """A count or a list of values, encoded; the same few come again and again."""
    return _padded((str(value) if isinstance(value, int) else "\\".join(value)).encode(), padding)


def _padded(value: bytes, padding: str) -> bytes:
    return value + padding.encode() if len(value) % 2 else value


def _depth(key: Key) -> int:
    return key.holder.depth


def _by_depth(keys: Sequence[Key]) -> list[tuple[int, tuple[int, ...], tuple[bytes, ...]]]:
    """For each level: its depth, its tags, and an empty value for each."""
    tags: dict[int, list[int]] = {}
    for key in keys:
        tags.setdefault(_depth(key), []).append(key.tag)
    return [(depth, tuple(found), (b"",) * len(found)) for depth, found in tags.items()]
