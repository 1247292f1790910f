"""Sequence matching (PS3.4 C.2.2.2.6, rule M19): all keys of the one item given must match in the same stored item."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class SequenceMatcher:
    """A compiled sequence key."""

    tag: int
    keys: "tuple[Matcher | SequenceMatcher, ...]"
    """What each attribute of an item has to match; none: universal matching."""
    requested: tuple[int, ...]
    """Every attribute named by the key, in order: what an answer's items hold. None named: all."""

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
            element = item.get(key.tag)
            if isinstance(key, SequenceMatcher):
                if not key.matches(_items(element), inner):
                    return False
            elif not key.matches([] if element is None else values_of(element, inner)):
                return False
        return True


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
    for element in sorted(item.values()):
        if element.tag == SPECIFIC_CHARACTER_SET or _is_structure(element.tag):
            continue
        requested.append(element.tag)
        if _vr(element) == "SQ":
            nested = _compile(element.tag, element.value, inner, options, nesting - 1)
            if not nested.is_universal:
                keys.append(nested)
            continue
        text = "\\".join(values_of(element, inner))
        matcher = compile_matcher(element.tag, _vr(element), text, options)
        if matcher.matching is not Matching.UNIVERSAL:
            keys.append(matcher)
    return SequenceMatcher(tag, tuple(keys), tuple(requested))


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


def _vr(element: Element) -> str:
    """The VR of an element; the dictionary's where a writer knew none (PS3.5 6.2.2)."""
    return vr_of(element.tag) if element.vr == "UN" else element.vr


def _is_structure(tag: int) -> bool:
    """Group lengths and private creators structure a data set; they are no keys (rules Q7, Q8)."""
    element = tag & 0xFFFF
    return element == 0 or (bool(tag & 0x10000) and 0x10 <= element <= 0xFF)
