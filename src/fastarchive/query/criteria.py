"""What an entity has to meet: the matchers of a query, each with the level whose documents it is read from.

A criterion decides on one document with the pure rules of ``dicom.matching``. What looks at more than one attribute is
here: a date and a time read as one moment (M17), and both read in the time zone of the query (M18).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fastarchive.dicom.attributes import Level
from fastarchive.dicom.dictionary import keyword_of
from fastarchive.dicom.matching import Matcher, Matching
from fastarchive.dicom.values import parse_date, parse_time
from fastarchive.index.documents import Document
from fastarchive.query.computed import AGGREGATES, values_of
from fastarchive.query.identifier import FindQuery
from fastarchive.query.zones import TIME_OF_DATE, values_in_zone

_REMEMBERED: Final = 4096
_FIRST_MOMENT = (0, 0)
_LAST_MOMENT = (99_999_999, 24 * 3_600_000_000)


@dataclass(frozen=True, slots=True)
class AttributeCriterion:
    """One attribute against one key; a date or time is read in ``zone`` (minutes east of UTC) if there is one."""

    level: Level
    matcher: Matcher
    zone: int | None = None

    @property
    def matchers(self) -> tuple[Matcher, ...]:
        """The matchers this comes from."""
        return (self.matcher,)

    def accepts(self, document: Document) -> bool:
        """Whether the document's values match."""
        tag = self.matcher.tag
        return self.matcher.matches(
            values_of(document, tag) if self.zone is None else values_in_zone(document, tag, self.zone)
        )

    def __str__(self) -> str:
        return keyword_of(self.matcher.tag)


@dataclass(frozen=True, slots=True)
class MomentCriterion:
    """A range of dates and a range of times read as one interval, both ends included (M17).

    An entity without a time may lie anywhere in its day, as far as is known: it matches if any part of the day does.
    """

    level: Level
    date: Matcher
    time: Matcher
    zone: int | None = None

    @property
    def matchers(self) -> tuple[Matcher, ...]:
        """The matchers this comes from."""
        return (self.date, self.time)

    def accepts(self, document: Document) -> bool:
        """Whether the stored date and time lie in the interval."""
        dates, times = (
            document.values(tag) if self.zone is None else values_in_zone(document, tag, self.zone)
            for tag in (self.date.tag, self.time.tag)
        )
        day = parse_date(dates[0]) if dates else None
        if day is None:
            return False
        clock = parse_time(times[0]) if times else None
        first_clock, last_clock = clock or (_FIRST_MOMENT[1], _LAST_MOMENT[1])
        return (day[0], first_clock) <= self.high and (day[1], last_clock) >= self.low

    @property
    def low(self) -> tuple[int, int]:
        """The first moment: yyyymmdd and µs since midnight. A bound on one side holds for date and time together."""
        if self.date.low is None:
            return _FIRST_MOMENT
        return self.date.low, self.time.low or 0

    @property
    def high(self) -> tuple[int, int]:
        """The last moment: yyyymmdd and µs since midnight."""
        if self.date.high is None:
            return _LAST_MOMENT
        return self.date.high, _LAST_MOMENT[1] if self.time.high is None else self.time.high

    def __str__(self) -> str:
        return f"{keyword_of(self.date.tag)} with {keyword_of(self.time.tag)}"


Criterion = AttributeCriterion | MomentCriterion


def criteria_of(query: FindQuery) -> tuple[Criterion, ...]:
    """Every condition of a query; with combined date-time matching, a range of both is one condition."""
    matching = {key.tag: key for key in query.keys if key.matcher is not None}
    criteria: list[Criterion] = []
    combined: set[int] = set()
    if query.options.combined_datetime:
        for date_tag, time_tag in TIME_OF_DATE.items():
            date, time = matching.get(date_tag), matching.get(time_tag)
            if date is None or time is None or date.matcher is None or time.matcher is None:
                continue
            if date.matcher.matching is time.matcher.matching is Matching.RANGE:
                criteria.append(MomentCriterion(date.holder, date.matcher, time.matcher, query.zone))
                combined |= {date_tag, time_tag}
    for key in matching.values():
        if key.matcher is not None and key.tag not in combined:
            zone = query.zone if key.vr in ("DA", "TM", "DT") else None
            criteria.append(AttributeCriterion(key.holder, key.matcher, zone))
    return tuple(criteria)


def decider(criterion: Criterion) -> Callable[[Document], bool]:
    """``criterion.accepts`` with a memory: in one search the same few values come again and again."""
    if not isinstance(criterion, AttributeCriterion) or criterion.zone is not None:
        return criterion.accepts
    tag = criterion.matcher.tag
    tags, aggregate = (tag,), AGGREGATES.get(tag)
    known: dict[object, bool] = {}

    def decide(document: Document) -> bool:
        value = document.pick(tags)[0] if aggregate is None else aggregate(document)
        verdict = known.get(value)
        if verdict is None:
            if len(known) >= _REMEMBERED:
                known.clear()
            verdict = known[value] = criterion.accepts(document)
        return verdict

    return decide
