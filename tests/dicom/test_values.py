"""What values mean."""

from datetime import date, time, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastarchive.dicom.values import (
    MICROSECONDS_A_DAY,
    RangeError,
    fold,
    parse_date,
    parse_datetime,
    parse_number,
    parse_offset,
    parse_time,
    person_name_groups,
    shift_datetime,
    split_range,
    strip_padding,
)

SECOND = 1_000_000
HOUR = 3600 * SECOND


@pytest.mark.parametrize("vr", ["AE", "CS", "DS", "IS", "LO", "SH"])
def test_M4_spaces_on_both_sides_are_padding(vr: str) -> None:
    assert strip_padding("  A B ", vr) == "A B"


@pytest.mark.parametrize("vr", ["LT", "ST", "UT", "PN", "UC"])
def test_M4_leading_spaces_of_longer_text_count(vr: str) -> None:
    assert strip_padding("  A B ", vr) == "  A B"


def test_M4_uids_end_in_nul_or_space() -> None:
    assert strip_padding("1.2\0", "UI") == strip_padding("1.2 ", "UI") == "1.2"


@pytest.mark.parametrize("text, number", [("007", 7), (" 7 ", 7), ("+7", 7), ("7.0", 7), ("7e0", 7), ("-0", 0)])
def test_M4_numbers_are_equal_however_written(text: str, number: int) -> None:
    assert parse_number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "x", "1,5", "NaN", "Infinity", "1 2"])
def test_what_is_no_number(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize(
    "text, span",
    [
        ("20240229", (20240229, 20240229)),
        ("2024.02.29", (20240229, 20240229)),
        (" 20240229 ", (20240229, 20240229)),
        ("202402", (20240201, 20240231)),
        ("2024", (20240101, 20241231)),
        ("20241301", None),
        ("20240132", None),
        ("20240100", None),
        ("2024.02", None),
        ("2024-02-29", None),
        ("20240229x", None),
        ("٢٠٢٤٠٢٢٩", None),
        ("", None),
    ],
)
def test_M23_dates(text: str, span: tuple[int, int] | None) -> None:
    assert parse_date(text) == span


@pytest.mark.parametrize(
    "text, span",
    [
        ("12", (12 * HOUR, 13 * HOUR - 1)),
        ("1230", (12 * HOUR + 1800 * SECOND, 12 * HOUR + 1860 * SECOND - 1)),
        ("123015", (12 * HOUR + 1815 * SECOND, 12 * HOUR + 1816 * SECOND - 1)),
        ("123015.5", (12 * HOUR + 1815 * SECOND + 500_000, 12 * HOUR + 1815 * SECOND + 599_999)),
        ("123015.123456", (12 * HOUR + 1815 * SECOND + 123_456,) * 2),
        ("12:30:15", (12 * HOUR + 1815 * SECOND, 12 * HOUR + 1816 * SECOND - 1)),
        ("12:30", (12 * HOUR + 1800 * SECOND, 12 * HOUR + 1860 * SECOND - 1)),
        ("24", None),
        ("1260", None),
        ("123061", None),
        ("1", None),
        ("123", None),
        ("1230.5", None),
        ("123015.1234567", None),
        ("", None),
    ],
)
def test_M15_M23_times_cover_their_span(text: str, span: tuple[int, int] | None) -> None:
    assert parse_time(text) == span


@pytest.mark.parametrize(
    "text, minutes",
    [("+0530", 330), ("-1200", -720), ("+1400", 840), ("-1201", None), ("+1401", None), ("+0060", None)],
)
def test_offsets_from_utc(text: str, minutes: int | None) -> None:
    assert parse_offset(text) == minutes


@given(st.dates(date(1, 1, 2), date(9998, 12, 30)), st.times(), st.integers(-720, 840))
def test_M16_offsets_are_applied(day: date, clock: time, minutes: int) -> None:
    offset = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"
    text = f"{day.year:04}{day:%m%d}{clock:%H%M%S}.{clock.microsecond:06}"
    since_midnight = timedelta(
        hours=clock.hour, minutes=clock.minute - minutes, seconds=clock.second, microseconds=clock.microsecond
    )
    utc = (day - date(1, 1, 1) + since_midnight) // timedelta(microseconds=1)
    assert parse_datetime(text + offset) == (utc, utc, True)
    assert parse_datetime(text, minutes) == (utc, utc, False)


@pytest.mark.parametrize(
    "text, first, microseconds",
    [
        ("2024", date(2024, 1, 1), 366 * MICROSECONDS_A_DAY),
        ("202402", date(2024, 2, 1), 29 * MICROSECONDS_A_DAY),
        ("20240229", date(2024, 2, 29), MICROSECONDS_A_DAY),
        ("2024022923", date(2024, 2, 29), HOUR),
    ],
)
def test_M16_truncated_datetimes_cover_their_span(text: str, first: date, microseconds: int) -> None:
    span = parse_datetime(text)
    assert span is not None
    assert span.high - span.low + 1 == microseconds
    assert span.low // MICROSECONDS_A_DAY == first.toordinal() - 1


@pytest.mark.parametrize("text", ["", "20", "202413", "20240101250000", "2024-1300", "20240101.5", "00000101", "x"])
def test_what_is_no_datetime(text: str) -> None:
    assert parse_datetime(text) is None


@pytest.mark.parametrize(
    "vr, text, ends",
    [
        ("DA", "20240101", None),
        ("DA", "20240101-20240201", ("20240101", "20240201")),
        ("DA", "-20240201", ("", "20240201")),
        ("DA", "20240101-", ("20240101", "")),
        ("DA", "20240101 - 20240201", ("20240101", "20240201")),
        ("TM", "1000-1130", ("1000", "1130")),
        ("DT", "20240101120000-0500", None),
        ("DT", "20240101-20240201", ("20240101", "20240201")),
        ("DT", "2024-0500", None),
        ("DT", "2024-2025", ("2024", "2025")),
        ("DT", "20240101-0500-20240201-0500", ("20240101-0500", "20240201-0500")),
        ("DT", "20240101-0500-20240201", ("20240101-0500", "20240201")),
        ("DT", "20240101-20240201-0500", ("20240101", "20240201-0500")),
        ("DT", "-20240201-0500", ("", "20240201-0500")),
        ("DT", "20240101-0500-", ("20240101-0500", "")),
        ("DT", "20240101+0100-20240201+0100", ("20240101+0100", "20240201+0100")),
    ],
)
def test_M14_M16_ranges_are_told_from_offsets(vr: str, text: str, ends: tuple[str, str] | None) -> None:
    assert split_range(text, vr) == ends


@pytest.mark.parametrize("vr, text", [("DA", "-"), ("DA", "2024-01-01"), ("DT", "-"), ("DT", "x-y"), ("TM", " - ")])
def test_what_is_no_range(vr: str, text: str) -> None:
    with pytest.raises(RangeError):
        split_range(text, vr)


@pytest.mark.parametrize(
    "name, groups",
    [
        ("A^B", ("A^B",)),
        ("A^B^^^", ("A^B",)),
        ("A^B=", ("A^B",)),
        ("A^B==", ("A^B",)),
        ("A ^B =C^=D", ("A^B", "C", "D")),
        ("=C", ("", "C")),
        ("", ()),
        ("^^=^", ()),
        ("^B", ("^B",)),
    ],
)
def test_M10_trailing_empty_components_are_nothing(name: str, groups: tuple[str, ...]) -> None:
    assert person_name_groups(name) == groups


@pytest.mark.parametrize(
    "one, other",
    [
        ("SMITH", "smith"),
        ("Müller", "muller"),
        ("Mu\u0308ller", "MÜLLER"),
        ("ＹＡＭＡＤＡ", "yamada"),
        ("ﾔﾏﾀﾞ", "ヤマダ"),
        ("Straße", "STRASSE"),
        ("Łukasz", "lukasz"),
        ("Sørensen", "Sorensen"),
        ("Ёлкин", "елкин"),
        ("ΓΙΏΡΓΟΣ", "γιωργος"),
        ("Iğdır", "igdir"),
    ],
)
def test_M3_names_that_are_alike(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize("one, other", [("か", "が"), ("ハ", "パ"), ("и", "й"), ("กา", "ก็า"), ("ب", "ت"), ("山", "川")])
def test_M3_marks_that_make_another_letter_count(one: str, other: str) -> None:
    assert fold(one) != fold(other)


@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@pytest.mark.parametrize(
    "day, clock, minutes, moved",
    [
        ("20240101", "003000", -60, ("20231231", "233000")),
        ("20240228", "2330", 60, ("20240229", "0030")),
        ("20240228", "23", 60, ("20240229", "00")),
        ("20240228", "23", 30, ("20240228", "23")),
        ("20240101", "120000.123", 330, ("20240101", "173000.123")),
        ("2024.01.01", "12:00:00", 60, ("20240101", "130000")),
        ("20240101", "", 60, ("20240101", "")),
        ("", "1200", 60, ("", "1200")),
        ("00010101", "0000", -60, ("00010101", "0000")),
        ("20240101", "1200", 0, ("20240101", "1200")),
    ],
)
def test_M18_dates_and_times_move_between_zones(day: str, clock: str, minutes: int, moved: tuple[str, str]) -> None:
    assert shift_datetime(day, clock, minutes) == moved
