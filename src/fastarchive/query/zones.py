"""Dates and times of a document in another time zone (rule M18; PS3.4 C.2.2.2.1, PS3.3 C.12.1.1.8).

A document that does not say its Timezone Offset From UTC (0008,0201) is left as it is, and so is a date without a
time: what is not known is not guessed.
"""

from __future__ import annotations

import re
from typing import Final

from fastarchive.dicom.attributes import TIMEZONE_OFFSET_FROM_UTC
from fastarchive.dicom.dictionary import vr_of
from fastarchive.dicom.values import parse_offset, shift_datetime
from fastarchive.index.documents import Document

TIME_OF_DATE: Final = {
    0x0008_0020: 0x0008_0030,  # Study
    0x0008_0021: 0x0008_0031,  # Series
    0x0008_0022: 0x0008_0032,  # Acquisition
    0x0008_0023: 0x0008_0033,  # Content
    0x0010_0030: 0x0010_0032,  # Patient's Birth
    0x0040_0244: 0x0040_0245,  # Performed Procedure Step Start
}
"""Date → its time, where the two describe one moment (PS3.4 C.2.2.2.5)."""
DATE_OF_TIME: Final = {time: date for date, time in TIME_OF_DATE.items()}

_DATE_TIME: Final = re.compile(r"(\d{8})(\d{2,6}(?:\.\d{1,6})?)([+-]\d{4})?\Z", re.ASCII)


def format_offset(minutes: int) -> str:
    """Minutes east of UTC as a value of (0008,0201)."""
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"


def values_in_zone(document: Document, tag: int, zone: int) -> list[str]:
    """The stored values of a DA, TM or DT attribute, moved into ``zone`` (minutes east of UTC)."""
    values = document.values(tag)
    offset = _offset_of(document)
    if vr_of(tag) == "DT":
        return [move_date_time(value, offset, zone) for value in values]
    if offset is None or offset == zone:
        return values
    if tag in TIME_OF_DATE:
        times = document.values(TIME_OF_DATE[tag])
        return [shift_datetime(date, time, zone - offset)[0] for date, time in _pair(values, times)]
    if tag in DATE_OF_TIME:
        dates = document.values(DATE_OF_TIME[tag])
        return [shift_datetime(date, time, zone - offset)[1] for time, date in _pair(values, dates)]
    return values


def _offset_of(document: Document) -> int | None:
    values = document.values(TIMEZONE_OFFSET_FROM_UTC)
    return parse_offset(values[0]) if values else None


def _pair(values: list[str], partners: list[str]) -> list[tuple[str, str]]:
    """Each value with the partner at its place, "" where there is none."""
    return [(value, partners[place] if place < len(partners) else "") for place, value in enumerate(values)]


def move_date_time(value: str, offset: int | None, zone: int) -> str:
    """A DT value in another zone, with its suffix; its own suffix goes before the offset of the data set (minutes east
    of UTC, None if it tells none)."""
    match = _DATE_TIME.match(value)
    own = parse_offset(match[3]) if match is not None and match[3] else offset
    if match is None or own is None:
        return value
    return f"{''.join(shift_datetime(match[1], match[2], zone - own))}{format_offset(zone)}"
