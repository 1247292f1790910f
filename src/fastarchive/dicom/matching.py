"""Attribute matching (PS3.4 C.2.2.2): the one place that decides whether a stored attribute matches a key.

Every index, however clever, only narrows down what is asked here. Rules are cited as the tests name them:

M1 a zero-length key matches everything · M3 single values match exactly, but for names · M4 padding doesn't count,
numbers are compared as numbers · M5 wild cards in text VRs only · M6 a lone `*` matches everything, in every VR · M7 no
other character is special · M8 `?` is one character, in normalization form C · M9, M10 names: see `names` · M11 a list
of UIDs matches any of them · M12 another list matches any value, or, where multiple value matching was negotiated,
needs all of them · M13 any stored value may match · M14–M16 ranges, see `values.split_range` · M20 `""` matches empty
attributes, where negotiated · M21 an attribute without value matches no key, unless `match_unknown` · M22 fuzzy names,
where negotiated · M23 dates and times in the old forms · M24 a key may be of any length.

A stored date or time that is not given in full covers a span, as it does in a key; spans match if they overlap, because
then, as far as is known, the moment may be the one looked for.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum
from typing import Final

from fastarchive.dicom.charsets import SINGLE_VALUED_VRS
from fastarchive.dicom.names import NameKey, fuzzy_name_test
from fastarchive.dicom.values import (
    RangeError,
    fold,
    normalize,
    parse_date,
    parse_datetime,
    parse_number,
    parse_time,
    split_range,
    strip_padding,
)
from fastarchive.dicom.wildcards import compile_wildcard, has_wildcard

WILDCARD_VRS: Final = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
"""The VRs with wild cards (rule M5)."""
RANGE_VRS: Final = frozenset(("DA", "DT", "TM"))
"""The VRs with ranges (rule M14)."""
NUMERIC_VRS: Final = frozenset(("DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"))
"""The VRs whose values are compared as numbers."""


class Matching(Enum):
    """The kinds of matching (PS3.4 C.2.2.2)."""

    UNIVERSAL = "universal"
    SINGLE = "single value"
    UID_LIST = "list of UID"
    WILDCARD = "wild card"
    RANGE = "range"
    MULTIPLE = "multiple values"
    EMPTY = "empty value"
    FUZZY = "fuzzy semantic"


class MatchingError(ValueError):
    """A key that makes no sense for its VR: to be answered with A900 and this offending element."""

    def __init__(self, tag: int, reason: str) -> None:
        super().__init__(f"{tag:08X}: {reason}")
        self.tag = tag
        self.reason = reason


@dataclass(frozen=True, slots=True)
class MatchingOptions:
    """What was negotiated or configured for a query."""

    fuzzy: bool = False
    """Fuzzy semantic matching of person names (byte 3, rule M22)."""
    empty_value: bool = False
    """`""` matches attributes without value (byte 6, rule M20)."""
    multiple_value: bool = False
    """A list of values must all be there (byte 7, rule M12); otherwise any one will do."""
    match_unknown: bool = False
    """Attributes without value match every key (rule M21)."""
    zone: int | None = None
    """Minutes east of UTC of DT values that don't tell theirs, where zones are adjusted (byte 4, rule M18)."""


DEFAULT_OPTIONS: Final = MatchingOptions()


@dataclass(frozen=True, slots=True)
class Matcher:
    """A compiled key: `matches` decides; the other fields say what an index may narrow with, always a superset."""

    tag: int
    vr: str
    matching: Matching
    text: str
    """The key as it was given."""
    alternatives: tuple[str, ...] = ()
    """SINGLE, UID_LIST, and MULTIPLE of single values: a match has at least one of these values, stripped and in
    normalization form C (numbers may be written otherwise). () for names, dates and times, and other kinds."""
    low: int | None = None
    """RANGE and single dates and times: the first day (yyyymmdd), or microsecond (of the day; for DT since year 1)."""
    high: int | None = None
    """The same of the last; None is open."""
    pattern: tuple[str, ...] = ()
    """WILDCARD, and SINGLE names: folded pieces of text that follow one another in the folded value, in names within
    one component group. () if there are none."""
    anchored_start: bool = False
    """Whether the first piece starts the value or component group."""
    anchored_end: bool = False
    """Whether the last piece ends it."""
    parts: "tuple[Matcher, ...]" = ()
    """MULTIPLE: a matcher for each value."""
    match_unknown: bool = False
    """Whether attributes without value match as well: then nothing can be narrowed."""
    every_part: bool = False
    """MULTIPLE: whether every part has to match (rule M12)."""
    test: Callable[[str], bool] | None = field(default=None, compare=False, repr=False)
    """Decides on one stored value that is not empty."""

    def matches(self, values: Sequence[str]) -> bool:
        """Whether an attribute with these values (decoded and split; none or empty ones: no value) matches.

        Any one of several values will do (rule M13).
        """
        matching = self.matching
        if matching is Matching.UNIVERSAL:
            return True
        filled = [value for value in values if value and strip_padding(value, self.vr)]
        if matching is Matching.EMPTY:
            return not filled
        if not filled:
            return self.match_unknown
        if matching is Matching.MULTIPLE:
            decide = all if self.every_part else any
            return decide(part.matches(filled) for part in self.parts)
        return self.test is not None and any(map(self.test, filled))


def compile_matcher(tag: int, vr: str, text: str, options: MatchingOptions = DEFAULT_OPTIONS) -> Matcher:
    """Compile the key `text` (decoded, not split) of an attribute.

    Raises MatchingError for dates, times and ranges that are none, and for sequences, which
    `sequences.compile_sequence_matcher` is for.
    """
    if vr == "SQ":
        raise MatchingError(tag, "a sequence is matched by its items")
    stripped = text.strip(" \0")
    if not stripped.strip("*"):
        return Matcher(tag, vr, Matching.UNIVERSAL, text)
    if stripped == '""' and options.empty_value:
        return Matcher(tag, vr, Matching.EMPTY, text)
    keys = [stripped] if vr in SINGLE_VALUED_VRS else [key.strip(" \0") for key in stripped.split("\\")]
    keys = [key for key in keys if key]
    if not keys:
        return Matcher(tag, vr, Matching.UNIVERSAL, text)
    if vr == "UI":
        matcher = _uid_matcher(tag, keys)
    elif len(keys) == 1:
        matcher = _value_matcher(tag, vr, keys[0], options)
    else:
        matcher = _multiple_matcher(tag, vr, keys, options)
    return replace(matcher, text=text, match_unknown=options.match_unknown)


def _value_matcher(tag: int, vr: str, key: str, options: MatchingOptions, *, literal: bool = False) -> Matcher:
    if not literal and not key.strip("*"):
        return Matcher(tag, vr, Matching.UNIVERSAL, key)
    if vr in RANGE_VRS:
        return _span_matcher(tag, vr, key, options.zone or 0)
    if vr == "PN":
        return _name_matcher(tag, key, options)
    if vr in WILDCARD_VRS and has_wildcard(key) and not literal:
        return _wildcard_matcher(tag, vr, key)
    number = parse_number(key) if vr in NUMERIC_VRS else None
    if number is not None:
        return Matcher(tag, vr, Matching.SINGLE, key, (key,), test=_number_test(number))
    # Rule M3: single value matching, case-sensitive.
    wanted = normalize(key, vr)
    return Matcher(tag, vr, Matching.SINGLE, key, (wanted,), test=lambda value: normalize(value, vr) == wanted)


def _number_test(wanted: Decimal) -> Callable[[str], bool]:
    """Rule M4: `007` is 7."""
    return lambda value: parse_number(value) == wanted


def _uid_matcher(tag: int, keys: Sequence[str]) -> Matcher:
    """Rule M11: any UID of a list, however long and with whatever repetitions; wild cards are no UID (rule M5)."""
    wanted = tuple(dict.fromkeys(keys))
    members = frozenset(wanted)
    kind = Matching.SINGLE if len(wanted) == 1 else Matching.UID_LIST
    return Matcher(tag, "UI", kind, "", wanted, test=lambda value: value.strip(" \0") in members)


def _wildcard_matcher(tag: int, vr: str, key: str) -> Matcher:
    """Rules M5 to M8."""
    wildcard = compile_wildcard(unicodedata.normalize("NFC", key))
    literals = wildcard.literals
    pieces = tuple(piece for piece in (fold(_apart(literal)) for literal in literals) if piece)
    # An end of the key that was taken off a piece says nothing any more about where the piece stands.
    whole = len(pieces) == len(literals)
    firm_start = whole and bool(literals) and _apart(literals[0])[:1] == literals[0][:1]
    firm_end = whole and bool(literals) and _apart(literals[-1])[-1:] == literals[-1][-1:]
    return Matcher(
        tag,
        vr,
        Matching.WILDCARD,
        key,
        pattern=pieces,
        anchored_start=firm_start and wildcard.anchored_start,
        anchored_end=firm_end and wildcard.anchored_end,
        test=lambda value: wildcard.matches(normalize(value, vr)),
    )


def _apart(literal: str) -> str:
    """A piece without half-width letters at its ends: folding could join them to what stands beside them."""
    return literal if literal.isascii() else literal.strip(_HALF_WIDTH)


_HALF_WIDTH: Final = "".join(map(chr, range(0xFF61, 0xFFDD)))


def _name_matcher(tag: int, key: str, options: MatchingOptions) -> Matcher:
    """Rules M8 to M10, and M22 where negotiated."""
    if not key.strip("^= "):
        return Matcher(tag, "PN", Matching.UNIVERSAL, key)
    name = NameKey(key)
    if options.fuzzy:
        alike = fuzzy_name_test(key)
        return Matcher(tag, "PN", Matching.FUZZY, key, test=lambda value: name.matches(value) or alike(value))
    narrowing = name.narrowing
    return Matcher(
        tag,
        "PN",
        Matching.WILDCARD if has_wildcard(key) else Matching.SINGLE,
        key,
        # What follows the last name given is left out, as it may be left out of the value (rule M10).
        pattern=tuple(piece for literal in narrowing.literals if (piece := literal.rstrip("^"))),
        anchored_start=narrowing.anchored_start and not narrowing.first.startswith("^"),
        anchored_end=narrowing.anchored_end,
        test=name.matches,
    )


_Spans = Callable[[str], tuple[int, int] | None]


def _spans(vr: str, zone: int) -> _Spans:
    """How a date or time is read; DT values without an offset are in `zone`."""
    if vr == "DT":
        return lambda text: span[:2] if (span := parse_datetime(text, zone)) else None
    return parse_date if vr == "DA" else parse_time


def _span_matcher(tag: int, vr: str, key: str, zone: int) -> Matcher:
    """Rules M14 to M16 and M23: dates and times, single or as a range that includes both its ends."""
    try:
        ends = split_range(key, vr)
    except RangeError:
        raise MatchingError(tag, f"not a value or range of VR {vr}") from None
    parse = _spans(vr, zone)
    low, high = _bounds(tag, vr, ends or (key, key), parse)

    def overlaps(value: str) -> bool:
        span = parse(value)
        return span is not None and (low is None or span[1] >= low) and (high is None or span[0] <= high)

    kind = Matching.SINGLE if ends is None else Matching.RANGE
    return Matcher(tag, vr, kind, key, low=low, high=high, test=overlaps if not _reversed(low, high) else _never)


def _bounds(tag: int, vr: str, ends: tuple[str, str], parse: _Spans) -> tuple[int | None, int | None]:
    bounds: list[int | None] = []
    for place, end in enumerate(ends):
        span = parse(end) if end else None
        if end and span is None:
            raise MatchingError(tag, f"not a value or range of VR {vr}")
        bounds.append(span[place] if span else None)
    return bounds[0], bounds[1]


def _reversed(low: int | None, high: int | None) -> bool:
    """Rules M14, M15: a range from later to earlier matches nothing; midnight can't be crossed."""
    return low is not None and high is not None and low > high


def _never(value: str) -> bool:
    return False


def _multiple_matcher(tag: int, vr: str, keys: Sequence[str], options: MatchingOptions) -> Matcher:
    """Rule M12. All values, where that was negotiated, in any order and without wild cards; otherwise any one."""
    every = options.multiple_value
    keys = tuple(dict.fromkeys(keys))
    parts = tuple(_value_matcher(tag, vr, key, options, literal=every) for key in keys)
    universal = [part for part in parts if part.matching is Matching.UNIVERSAL]
    if universal and not every:
        return universal[0]
    alternatives: tuple[str, ...] = ()
    if all(part.alternatives for part in parts):
        alternatives = tuple(dict.fromkeys(value for part in parts for value in part.alternatives))
    return Matcher(tag, vr, Matching.MULTIPLE, "", alternatives, parts=parts, every_part=every)
