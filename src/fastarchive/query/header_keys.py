"""Keys on what the index does not hold: any attribute of an instance, looked up in its stored header.

Sequences (M19) and private attributes (Q8) are such keys, and every other attribute the archive keeps nothing of. A
private attribute is found by its creator, wherever the instance has the creator's block (PS3.5 7.8.1); the key's own
block is only where the query has it, and where the answer has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from fastarchive.dicom.attributes import SPECIFIC_CHARACTER_SET
from fastarchive.dicom.charsets import TEXT_VRS, UTF8, CharacterSet
from fastarchive.dicom.dictionary import vr_of
from fastarchive.dicom.elements import Element, ElementError, encode_sequence, parse_sequence
from fastarchive.dicom.matching import Matcher, Matching, MatchingError, MatchingOptions, compile_matcher
from fastarchive.dicom.sequences import (
    SequenceMatcher,
    character_set_of,
    compile_sequence_matcher,
    creator_in,
    creator_of,
    is_private,
    is_private_creator,
    private_place,
    values_of,
)

_BULK_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW"})
_PIXEL_GROUP: Final = 0x7FE0
_QUERY_RETRIEVE_VIEW: Final = 0x0008_0053


class Wanted(NamedTuple):
    """An attribute that a sequence key names: what it names of it, if it is a sequence, and its private creator."""

    inner: Requested | None = None
    creator: str = ""


Requested = Mapping[int, Wanted]
"""The attributes a sequence key names. Empty: all there are."""


@dataclass(frozen=True, slots=True)
class HeaderKey:
    """One key that is matched with, and answered from, the header of an instance.

    ``vr`` is "UN" if neither the dictionary nor the identifier tells. ``creator`` is that of a private attribute, else
    "". ``matching`` is None if the key matches anything, and for sequences (``sequence`` decides on those).
    """

    element: Element
    vr: str
    creator: str
    character_set: CharacterSet
    options: MatchingOptions
    matching: Matching | None = None
    sequence: SequenceMatcher | None = None
    requested: Requested | None = None
    _matchers: dict[str, Matcher | None] = field(default_factory=dict, compare=False, repr=False)

    @property
    def tag(self) -> int:
        """The tag in the query."""
        return self.element.tag

    @property
    def decides(self) -> bool:
        """Whether there is anything an instance could fail to match."""
        return self.matching is not None or (self.sequence is not None and not self.sequence.is_universal)

    def accepts(self, stored: Element | None, character_set: CharacterSet) -> bool:
        """Whether the attribute as an instance has it, with text in this character set, matches."""
        if not self.decides:
            return True
        vr = self.vr_for(stored)
        if self.sequence is not None:
            items = _items(stored) if stored is not None and vr == "SQ" else []
            return self.sequence.matches(items, character_set)
        matcher = self._matcher(vr)
        if matcher is None:
            return False
        return matcher.matches([] if stored is None else _values(stored, vr, character_set))

    def answer(self, stored: Element | None, character_set: CharacterSet) -> Element:
        """The element that answers this key: the stored value, text in UTF-8; zero length if there is none (F4)."""
        vr = self.vr_for(stored)
        if stored is None or (self.vr != "UN" and (vr == "SQ") != (self.vr == "SQ")):
            return Element(self.tag, self.vr, b"")
        found = Element(self.tag, vr, stored.value)
        return recode(found, character_set, UTF8, self.requested) or found._replace(value=b"")

    def vr_for(self, stored: Element | None) -> str:
        """The VR to read a stored value by: its own, or whoever knows it where its writer did not."""
        return self.vr if stored is None or stored.vr == "UN" else stored.vr

    def _matcher(self, vr: str) -> Matcher | None:
        """The key read by the VR an instance has; None if it makes no sense for that."""
        if vr not in self._matchers:
            text = _text(self.element, vr, self.character_set)
            try:
                self._matchers[vr] = compile_matcher(self.tag, _text_vr(vr), text, self.options)
            except MatchingError:
                self._matchers[vr] = None
        return self._matchers[vr]


def header_key(
    element: Element, creator: str, character_set: CharacterSet, options: MatchingOptions
) -> HeaderKey | None:
    """The key an element of an identifier makes; None for what is not looked up in headers: pixels and other bulk.

    ``creator`` is the private creator the identifier names for the element's block, "" if there is none. Raises
    MatchingError for what makes no sense for its VR.
    """
    tag = element.tag
    known = vr_of(tag)
    vr = element.vr if known == "UN" else known
    if tag >> 16 == _PIXEL_GROUP or vr in _BULK_VRS or tag == _QUERY_RETRIEVE_VIEW or (is_private(tag) and not creator):
        return None
    if vr == "SQ":
        sequence = compile_sequence_matcher(tag, element.value, character_set, options)
        items = _items(element)
        requested = _requested(items[0]) if items else {}
        if not _creators_are_named(requested):
            return None
        return HeaderKey(element, vr, creator, character_set, options, sequence=sequence, requested=requested)
    matching = None
    if element.value:
        matcher = compile_matcher(tag, _text_vr(vr), _text(element, vr, character_set), options)
        matching = None if matcher.matching is Matching.UNIVERSAL else matcher.matching
    return HeaderKey(element, vr, creator, character_set, options, matching)


def creator_tag(tag: int) -> int:
    """Where the creator of a private attribute's block stands."""
    return tag & 0xFFFF_0000 | (tag & 0xFF00) >> 8


def recode(
    element: Element, source: CharacterSet, target: CharacterSet, requested: Requested | None = None
) -> Element | None:
    """An element with its text in another character set, in the items of sequences as well (X8); None if that set
    cannot hold it. Of a sequence only what was requested is kept."""
    if element.vr == "SQ":
        return _recode_sequence(element, source, target, requested or {})
    if element.vr not in TEXT_VRS or (element.value.isascii() and b"\x1b" not in element.value and not source.terms):
        return element
    encoded = target.encode(source.decode(element.value, element.vr), element.vr)
    return None if encoded is None else element._replace(value=encoded)


def is_ascii(element: Element) -> bool:
    """Whether the text of an element is."""
    if element.vr == "SQ":
        return all(is_ascii(inner) for item in _items(element) for inner in item.values())
    return element.vr not in TEXT_VRS or element.value.isascii()


def _recode_sequence(
    element: Element, source: CharacterSet, target: CharacterSet, requested: Requested
) -> Element | None:
    items: list[list[Element]] = []
    for item in _items(element):
        inner_source = character_set_of(item, source)
        wanted = requested or dict.fromkeys(item, Wanted())
        inner: list[Element] = []
        for tag, each in wanted.items():
            if tag == SPECIFIC_CHARACTER_SET:
                continue
            if requested and is_private_creator(tag):
                inner.append(Element(tag, "LO", each.creator.encode("latin-1")))
                continue
            place = private_place(item, tag, each.creator) if each.creator else tag
            stored = None if place is None else item.get(place)
            recoded = Element(tag, vr_of(tag), b"")
            if stored is not None:
                changed = recode(stored, inner_source, target, each.inner)
                if changed is None:
                    return None
                recoded = changed._replace(tag=tag)
            inner.append(recoded)
        items.append(inner)
    return element._replace(value=encode_sequence(items))


def _values(element: Element, vr: str, character_set: CharacterSet) -> list[str]:
    return values_of(element._replace(vr=_text_vr(vr)), character_set)


def _text(element: Element, vr: str, character_set: CharacterSet) -> str:
    """The text of a key as the matching rules read it."""
    return "\\".join(_values(element, vr, character_set))


def _text_vr(vr: str) -> str:
    """What nobody knows the VR of is compared as text."""
    return "LO" if vr == "UN" else vr


def _requested(item: Mapping[int, Element]) -> Requested:
    found: dict[int, Wanted] = {}
    for tag, element in sorted(item.items()):
        if tag == SPECIFIC_CHARACTER_SET or not tag & 0xFFFF:
            continue
        items = _items(element) if element.vr == "SQ" or vr_of(tag) == "SQ" else []
        creator = ""
        if is_private(tag):
            creator = creator_of(element) if is_private_creator(tag) else creator_in(item, tag)
        found[tag] = Wanted(_requested(items[0]) if items else None, creator)
    return found


def _creators_are_named(requested: Requested) -> bool:
    """Whether every private attribute comes with its creator, in its own item (PS3.5 7.8.1)."""
    return all(
        (not is_private(tag) or one.creator) and (one.inner is None or _creators_are_named(one.inner))
        for tag, one in requested.items()
    )


def _items(element: Element) -> list[dict[int, Element]]:
    try:
        return parse_sequence(element.value)
    except ElementError:
        return []
