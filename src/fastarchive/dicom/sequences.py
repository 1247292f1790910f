"""Sequence matching (PS3.4 C.2.2.2.6, rule M19): all keys of the one item given must match in the same stored item."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from fastarchive.dicom.attributes import SPECIFIC_CHARACTER_SET
from fastarchive.dicom.charsets import CharacterSet
from fastarchive.dicom.dictionary import vr_of
from fastarchive.dicom.elements import MAXIMUM_NESTING, Element, ElementError, parse_sequence
from fastarchive.dicom.matching import (
    DEFAULT_OPTIONS,
    Matcher,
    Matching,
    MatchingError,
    MatchingOptions,
    compile_matcher,
)

Item = Mapping[int, Element]
_TAG: Final = Struct("<HH")
_BLOCKS: Final = range(0x10, 0x100)

_NUMBERS: Final = {
    vr: Struct(f"<{code}")
    for vr, code in {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}.items()
}


def values_of(element: Element, character_set: CharacterSet) -> list[str]:
    """The values of an element that is no sequence, as text, padding included; [] for bytes that are no values.

    Tags (AT) are eight hexadecimal digits.
    """
    vr = _vr(element)
    if vr == "AT":
        whole = len(element.value) & ~3
        return [f"{group:04X}{number:04X}" for group, number in _TAG.iter_unpack(element.value[:whole])]
    number = _NUMBERS.get(vr)
    if number is None:
        return character_set.decode_values(element.value, vr)
    whole = len(element.value) - len(element.value) % number.size
    return [str(value) for (value,) in number.iter_unpack(element.value[:whole])]


def is_private(tag: int) -> bool:
    """Whether a tag is in an odd group (PS3.5 7.8)."""
    return bool(tag & 0x1_0000)


def is_private_creator(tag: int) -> bool:
    """Whether an element reserves a block of private attributes (PS3.5 7.8.1)."""
    return is_private(tag) and 0x10 <= tag & 0xFFFF <= 0xFF


def creator_of(element: Element) -> str:
    """The creator a private creator element names (LO: spaces around it don't count)."""
    return element.value.decode("latin-1").strip(" \0")


def creator_in(item: Item, tag: int) -> str:
    """The creator a data set or item names for a private attribute; "" if it names none."""
    element = item.get(tag & 0xFFFF_0000 | (tag & 0xFF00) >> 8)
    return "" if element is None else creator_of(element)


def private_place(item: Item, tag: int, creator: str) -> int | None:
    """Where a data set or item has a private attribute, whatever block it has it in (rule Q8); None if its creator has
    no block there."""
    group = tag & 0xFFFF_0000
    blocks = (block for block in _BLOCKS if (one := item.get(group | block)) and creator_of(one) == creator)
    block = next(blocks, None)
    return None if block is None else group | block << 8 | tag & 0xFF


@dataclass(frozen=True, slots=True)
class SequenceMatcher:
    """A compiled sequence key."""

    tag: int
    keys: "tuple[Matcher | SequenceMatcher, ...]"
    """What each attribute of an item has to match; none: universal matching."""
    requested: tuple[int, ...]
    """Every attribute named by the key, in order: what an answer's items hold. None named: all."""
    creators: Mapping[int, str] = field(default_factory=dict)
    """The creators of private attributes among them, by tag; "" for one the key names none for."""

    @property
    def is_universal(self) -> bool:
        """Whether every stored value matches, none included."""
        return not self.keys

    def matches(self, items: Sequence[Item], character_set: CharacterSet) -> bool:
        """Whether any of these items matches. `character_set` is that of the data set around them (rule X8)."""
        return not self.keys or any(self._item_matches(item, character_set) for item in items)

    def _item_matches(self, item: Item, character_set: CharacterSet) -> bool:
        inner = character_set_of(item, character_set)
        for key in self.keys:
            element = self._stored(item, key.tag)
            if isinstance(key, SequenceMatcher):
                if not key.matches(_items(element), inner):
                    return False
            elif not key.matches([] if element is None else values_of(_read_as(element, key.vr), inner)):
                return False
        return True

    def _stored(self, item: Item, tag: int) -> Element | None:
        creator = self.creators.get(tag)
        place = tag if creator is None else private_place(item, tag, creator)
        return None if place is None else item.get(place)


def compile_sequence_matcher(
    tag: int, value: bytes, character_set: CharacterSet, options: MatchingOptions = DEFAULT_OPTIONS
) -> SequenceMatcher:
    """Compile the sequence key `tag` with this value (explicit little endian items, as `elements.walk` gives it).

    Raises MatchingError for more than one item, for unreadable ones, and for keys in it that make no sense; it names
    the element at fault, which may be one in the item.
    """
    return _compile(tag, value, character_set, options, MAXIMUM_NESTING)


def _compile(
    tag: int, value: bytes, character_set: CharacterSet, options: MatchingOptions, nesting: int
) -> SequenceMatcher:
    if nesting == 0:
        raise MatchingError(tag, "sequences nested too deep")
    try:
        items = parse_sequence(value)
    except ElementError as error:
        raise MatchingError(tag, f"not a sequence: {error.reason}") from None
    if len(items) > 1:
        raise MatchingError(tag, "more than one item")
    if not items:
        return SequenceMatcher(tag, (), ())
    item = items[0]
    inner = character_set_of(item, character_set)
    keys: list[Matcher | SequenceMatcher] = []
    requested = []
    creators = {tag: creator_in(item, tag) for tag in item if is_private(tag) and not is_private_creator(tag)}
    for element in sorted(item.values()):
        if element.tag == SPECIFIC_CHARACTER_SET or _is_structure(element.tag):
            continue
        requested.append(element.tag)
        if _vr(element) == "SQ":
            nested = _compile(element.tag, element.value, inner, options, nesting - 1)
            if not nested.is_universal:
                keys.append(nested)
            continue
        vr = "LO" if _vr(element) == "UN" else _vr(element)  # what nobody knows the VR of is compared as text
        text = "\\".join(values_of(_read_as(element, vr), inner))
        matcher = compile_matcher(element.tag, vr, text, options)
        if matcher.matching is not Matching.UNIVERSAL:
            keys.append(matcher)
    return SequenceMatcher(tag, tuple(keys), tuple(requested), creators)


def character_set_of(item: Item, around: CharacterSet) -> CharacterSet:
    """The character set of an item: its own (0008,0005), else that of the data set around it (rule X8)."""
    element = item.get(SPECIFIC_CHARACTER_SET)
    return around if element is None or not element.value.strip(b" \0") else CharacterSet.parse(element.value)


def _items(element: Element | None) -> list[dict[int, Element]]:
    if element is None:
        return []
    try:
        return parse_sequence(element.value)
    except ElementError:
        return []


def _read_as(element: Element, vr: str) -> Element:
    """An element of a VR its writer didn't know, read by the VR of the key."""
    return element._replace(vr=vr) if _vr(element) == "UN" else element


def _vr(element: Element) -> str:
    """The VR of an element; the dictionary's where a writer knew none (PS3.5 6.2.2)."""
    return vr_of(element.tag) if element.vr == "UN" else element.vr


def _is_structure(tag: int) -> bool:
    """Group lengths and private creators structure a data set; they are no keys (rules Q7, Q8)."""
    element = tag & 0xFFFF
    return element == 0 or (bool(tag & 0x10000) and 0x10 <= element <= 0xFF)
