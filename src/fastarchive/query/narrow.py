"""What the index can narrow a query with: never to less than the matching rules accept.

Where no condition is certain to hold everything a criterion accepts (a name that sounds alike, a time in another zone,
a value that is unknown and so matches anything) the condition is ``Everything``, and the criterion alone decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from fastarchive.dicom.matching import Matcher
from fastarchive.index.conditions import And, Condition, Everything, Grams, Or, Range, Term
from fastarchive.query.computed import COUNTS
from fastarchive.query.criteria import AttributeCriterion, Criterion, MomentCriterion

EVERYTHING = Everything()
DAY = timedelta(days=1)


def narrow(criterion: Criterion) -> Condition:
    """A condition every entity that meets the criterion meets."""
    match criterion:
        case MomentCriterion(_, day, _, zone):
            return _dates(day, zone)
        case AttributeCriterion(_, matcher, None):
            return _attribute(matcher)
        case AttributeCriterion(_, matcher, zone) if matcher.vr == "DA":
            return _dates(matcher, zone)
        case _:
            return EVERYTHING


def _attribute(matcher: Matcher) -> Condition:
    if matcher.match_unknown or matcher.tag in COUNTS:
        return EVERYTHING
    if matcher.alternatives:
        return Term(matcher.tag, matcher.alternatives)
    if matcher.pattern:
        return Grams(matcher.tag, matcher.pattern, matcher.anchored_start, matcher.anchored_end)
    if matcher.parts:
        parts = tuple(map(_attribute, matcher.parts))
        if matcher.every_part:
            return both(*parts)
        return EVERYTHING if EVERYTHING in parts else Or(parts)
    return _dates(matcher, None) if matcher.vr in ("DA", "TM") else EVERYTHING


def _dates(matcher: Matcher, zone: int | None) -> Condition:
    """The span of a date or time; in another zone a stored date may be a day off."""
    low, high = matcher.low, matcher.high
    if matcher.match_unknown or (low is None and high is None):
        return EVERYTHING
    if zone is not None:
        low, high = _shifted(low, -DAY), _shifted(high, DAY)
    return Range(matcher.tag, low, high)


def _shifted(day: int | None, by: timedelta) -> int | None:
    if day is None:
        return None
    try:
        moved = date(day // 10_000, day // 100 % 100, day % 100) + by
    except (ValueError, OverflowError):
        return None
    return moved.year * 10_000 + moved.month * 100 + moved.day


def both(*conditions: Condition) -> Condition:
    """All of some conditions, as simple as it can be said."""
    parts = tuple(condition for condition in conditions if not isinstance(condition, Everything))
    if len(parts) == 1:
        return parts[0]
    return And(parts) if parts else EVERYTHING


def narrow_all(criteria: Iterable[Criterion]) -> Condition:
    """A condition every entity that meets all the criteria meets."""
    return both(*map(narrow, criteria))
