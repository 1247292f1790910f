"""What values of each VR mean: padding, dates and times, numbers, person names (PS3.5 6.2)."""

import re
import unicodedata
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

MICROSECONDS_A_DAY: Final = 86_400_000_000
_MINUTE: Final = 60_000_000

_STRIPPED_ON_BOTH_SIDES: Final = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "SH", "TM", "UI"))


def strip_padding(text: str, vr: str) -> str:
    """One value without insignificant spaces and NULs (rule M4): on both sides, or behind only for longer text."""
    if vr in _STRIPPED_ON_BOTH_SIDES:
        return text.strip(" \0")
    return text.rstrip(" \0")


def normalize(text: str, vr: str) -> str:
    """One value as it is compared: without padding, in Unicode normalization form C (rules M4, M8)."""
    text = strip_padding(text, vr)
    return text if text.isascii() else unicodedata.normalize("NFC", text)


# Letters with strokes and ligatures, which Unicode doesn't take for accented ones.
_WITHOUT_STROKE: Final = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe"}
)
# The combining marks of European scripts. Not those of others (kana, Thai, Hebrew …), where they are letters; nor the
# breve of й, which is a letter of its own.
_ACCENTS: Final = re.compile("(?<!и)[\u0300-\u036f]|(?<=и)[\u0300-\u0305\u0307-\u036f]")


def fold(text: str) -> str:
    """`text` as names are matched: without case and accents, full-width as half-width (PS3.4 C.2.2.2.1).

    Idempotent. ASCII is only lowered.
    """
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = _ACCENTS.sub("", unicodedata.normalize("NFD", text))
    return unicodedata.normalize("NFKC", text.translate(_WITHOUT_STROKE))


def person_name_groups(text: str) -> tuple[str, ...]:
    """The component groups of one PN value: alphabetic, ideographic, phonetic; trailing empty ones left out.

    Trailing empty components are left out too, so that equal names are equal groups (rule M10).
    """
    groups = ["^".join([part.strip(" \0") for part in group.split("^")]).rstrip("^") for group in text.split("=")]
    while groups and not groups[-1]:
        groups.pop()
    return tuple(groups)


def parse_number(text: str) -> Decimal | None:
    """The number of an IS or DS value; None if it is none."""
    try:
        number = Decimal(text.strip(" \0"))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


_DATE: Final = re.compile(r"(\d{4})(?:(\d\d)(\d\d)?|\.(\d\d)\.(\d\d))?\Z", re.ASCII)


def parse_date(text: str) -> tuple[int, int] | None:
    """The first and the last day of a DA value as numbers yyyymmdd; None if it is no date.

    A full date is one day. YYYY.MM.DD of ACR-NEMA is read too (rule M23), and YYYYMM and YYYY as what they cover.
    """
    match = _DATE.match(text.strip(" \0"))
    if match is None:
        return None
    year = int(match[1]) * 10000
    month, day = match[2] or match[4], match[3] or match[5]
    if month is None:
        return year + 101, year + 1231
    if not 1 <= int(month) <= 12:
        return None
    first = year + int(month) * 100
    if day is None:
        return first + 1, first + 31
    return (first + int(day), first + int(day)) if 1 <= int(day) <= 31 else None


_TIME: Final = re.compile(
    r"(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?|:(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?)?\Z", re.ASCII
)


def parse_time(text: str) -> tuple[int, int] | None:
    """The span of a TM value in microseconds of the day, both ends included; None if it is no time.

    `12` covers 12:00:00.000000 to 12:59:59.999999 (rule M15). HH:MM:SS of ACR-NEMA is read too (rule M23).
    """
    match = _TIME.match(text.strip(" \0"))
    if match is None:
        return None
    hour, minute, second, fraction = match[1], match[2] or match[5], match[3] or match[6], match[4] or match[7]
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 60:
        return None
    low = int(hour) * 60 * _MINUTE + int(minute or 0) * _MINUTE + int(second or 0) * 1_000_000
    if minute is None:
        return low, low + 60 * _MINUTE - 1
    if second is None:
        return low, low + _MINUTE - 1
    if fraction is None:
        return low, low + 999_999
    low += int(fraction.ljust(6, "0"))
    return low, low + 10 ** (6 - len(fraction)) - 1


_OFFSET: Final = re.compile(r"([+-])(\d\d)(\d\d)\Z", re.ASCII)


def parse_offset(text: str) -> int | None:
    """The minutes east of UTC of `+HHMM` or `-HHMM` (PS3.3 C.12.1.1.8); None outside -1200 … +1400."""
    match = _OFFSET.match(text.strip(" \0"))
    if match is None or int(match[3]) > 59:
        return None
    minutes = int(match[2]) * 60 + int(match[3])
    if match[1] == "-":
        return -minutes if minutes <= 720 else None
    return minutes if minutes <= 840 else None


_DATETIME: Final = re.compile(
    r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:(?<=\d{14})\.(\d{1,6}))?([+-]\d{4})?\Z", re.ASCII
)


class DateTimeSpan(NamedTuple):
    """The span of a DT value in microseconds since 0001-01-01, both ends included, and whether it is in UTC."""

    low: int
    high: int
    has_offset: bool


def parse_datetime(text: str, offset_minutes: int = 0) -> DateTimeSpan | None:
    """The span of a DT value in UTC; None if it is none. `offset_minutes` is that of values without an offset."""
    match = _DATETIME.match(text.strip(" \0"))
    if match is None:
        return None
    days = parse_date(match[1] + (match[2] or "") + (match[3] or ""))
    own_offset = None
    if match[8] is not None:
        own_offset = parse_offset(match[8])
        if own_offset is None:
            return None
    if days is None:
        return None
    first, last = _ordinal(days[0]), _ordinal(days[1])
    if first is None or last is None:
        return None
    low, high = first * MICROSECONDS_A_DAY, (last + 1) * MICROSECONDS_A_DAY - 1
    if match[4] is not None:
        time = match[4] + (match[5] or "") + (match[6] or "") + (f".{match[7]}" if match[7] else "")
        span = parse_time(time)
        if span is None:
            return None
        low, high = low + span[0], low + span[1]
    shift = (offset_minutes if own_offset is None else own_offset) * _MINUTE
    return DateTimeSpan(low - shift, high - shift, own_offset is not None)


def _ordinal(day: int) -> int | None:
    """Days since 0001-01-01 of yyyymmdd; the day after the last of a short month counts as that last one."""
    year, month, of_month = day // 10000, day // 100 % 100, day % 100
    if not 1 <= year <= 9998:
        return None
    for candidate in (of_month, 30, 29, 28):
        if candidate <= of_month:
            try:
                return date(year, month, candidate).toordinal() - 1
            except ValueError:
                continue
    return None


class RangeError(ValueError):
    """A key that is neither a value of its VR nor a range of such values."""


def split_range(text: str, vr: str) -> tuple[str, str] | None:
    """The two ends of a range key of VR DA, TM or DT, "" for an open one; None if it is a single value (M14 to M16).

    In DT a hyphen may also begin an offset from UTC. A key that can be read as one value is one: `2024-0500` is the
    year 2024 in a zone 5 hours behind UTC, and `2024-2025`, because there is no such zone, a range.
    Raises RangeError if no reading makes sense.
    """
    if "-" not in text:
        return None
    if vr != "DT":
        low, _, high = text.partition("-")
        if "-" in high or not (low.strip() or high.strip()):
            raise RangeError("not a range")
        return low.strip(), high.strip()
    if _is_datetime(text):
        return None
    for position, character in enumerate(text):
        if character == "-":
            low, high = text[:position].strip(), text[position + 1 :].strip()
            if (low or high) and (not low or _is_datetime(low)) and (not high or _is_datetime(high)):
                return low, high
    raise RangeError("not a range")


def _is_datetime(text: str) -> bool:
    return parse_datetime(text) is not None


def shift_datetime(day: str, time: str, minutes: int) -> tuple[str, str]:
    """A DA and a TM value moved by `minutes` (rule M18), in the precision given.

    Values that can't be moved (not a date, not a time, a time without minutes against an odd offset) stay as they are.
    """
    days, span = parse_date(day), parse_time(time)
    if days is None or days[0] != days[1] or span is None or not minutes:
        return day, time
    digits = time.strip(" \0").replace(":", "")
    if len(digits) < 4 and minutes % 60:
        return day, time
    try:
        base = datetime.strptime(str(days[0]).zfill(8), "%Y%m%d")  # noqa: DTZ007 - a wall clock, moved between zones by hand
        moved = base + timedelta(microseconds=span[0]) + timedelta(minutes=minutes)
    except (ValueError, OverflowError):
        return day, time
    return f"{moved:%Y%m%d}", f"{moved:%H%M%S.%f}"[: len(digits)]
