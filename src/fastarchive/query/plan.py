"""How a query is answered: a small tree of steps, chosen by what the index can narrow (PS3.4 C.4.1.3.1).

The index only ever narrows. Each step hands on a superset of what it should, and ``Select`` lets the pure matching
rules decide on the entities themselves and on those above them. So a plan can be slow, never wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fastarchive.dicom.attributes import UNIQUE_KEYS, Level
from fastarchive.dicom.matching import Matching
from fastarchive.index.conditions import Condition, Everything, Term
from fastarchive.index.view import View
from fastarchive.query.criteria import AttributeCriterion, Criterion, criteria_of
from fastarchive.query.headers import HeaderWork
from fastarchive.query.identifier import FindQuery
from fastarchive.query.narrow import EVERYTHING, both, narrow_all

LONG_LIST: Final = 100
"""UIDs from which on a list may be worth less than another condition; fewer are looked up before that is weighed."""
WALK_ADVANTAGE: Final = 4
"""Walking down pays when the entities above are this many times fewer than those a scan would look at."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Entities fetched by their UIDs."""

    level: Level
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scan:
    """Entities the index finds by a condition, in its own order."""

    level: Level
    condition: Condition


@dataclass(frozen=True, slots=True)
class Walk:
    """Entities below those another step finds, as far as a condition allows."""

    level: Level
    parents: Select
    condition: Condition


@dataclass(frozen=True, slots=True)
class Select:
    """The entities of a step, joined with those above, that meet every criterion."""

    source: Lookup | Scan | Walk
    criteria: tuple[Criterion, ...]
    joins: tuple[Level, ...]

    @property
    def level(self) -> Level:
        """The level of the entities found."""
        return self.source.level


@dataclass(frozen=True, slots=True)
class Plan:
    """A query and the tree that answers it."""

    query: FindQuery
    root: Select


@dataclass(slots=True)
class Work:
    """What a step has done so far: entities looked at and found, and the time it took with the steps below it."""

    looked_at: int = 0
    found: int = 0
    seconds: float = 0.0


class TooMuchToLookAt(Exception):
    """A query that would have to look at more entities than it may: to be answered with A700."""


class Trace:
    """The work of each step of one run of a plan; it may look at ``most`` entities in all, 0: as many as it needs."""

    def __init__(self, most: int = 0) -> None:
        self._work: dict[int, Work] = {}
        self._left = most or None
        self.headers = HeaderWork()
        """The work on headers of instances, after all steps."""

    def of(self, step: Select) -> Work:
        """The work of a step of the plan that is run."""
        return self._work.setdefault(id(step), Work())

    def look_at(self, step: Select, entities: int) -> None:
        """Count entities a step is about to look at. Raises TooMuchToLookAt."""
        if self._left is not None:
            if entities > self._left:
                raise TooMuchToLookAt
            self._left -= entities
        self.of(step).looked_at += entities


def plan(query: FindQuery, view: View) -> Plan:
    """The plan for a query on a moment of the archive; asks the index for estimates only where there is a choice."""
    planner = _Planner(view)
    return Plan(
        query,
        planner.select(query.level, criteria_of(query), {key.holder for key in query.returns if key.header is None}),
    )


class _Planner:
    def __init__(self, view: View) -> None:
        self._view = view

    def select(self, level: Level, criteria: Sequence[Criterion], returned: Iterable[Level] = ()) -> Select:
        """The step that finds the entities of a level that meet criteria on it and on the levels above."""
        own = tuple(criterion for criterion in criteria if criterion.level is level)
        above = tuple(criterion for criterion in criteria if criterion.level.depth < level.depth)
        joins = {criterion.level for criterion in above} | {upper for upper in returned if upper.depth < level.depth}
        if Level.PATIENT in joins and level is not Level.STUDY:
            joins.add(Level.STUDY)  # only a study says whose it is
        return Select(self._source(level, own, above), own + above, tuple(sorted(joins, key=lambda one: one.depth)))

    def _source(self, level: Level, own: Sequence[Criterion], above: Sequence[Criterion]) -> Lookup | Scan | Walk:
        uids = None if level is Level.PATIENT else _named(level, own)
        if uids is not None:
            others = narrow_all(criterion for criterion in own if not _is_unique_key(level, criterion))
            if len(uids) < LONG_LIST or others == EVERYTHING:
                return Lookup(level, uids)
            rarer = self._view.estimate(level, others) * WALK_ADVANTAGE <= len(uids)
            return Scan(level, others) if rarer else Lookup(level, uids)
        condition = narrow_all(own)
        # Entities above that are named bound the search by themselves; the nearest are the smallest scope.
        for upper in reversed(level.above):
            named = None if upper is Level.PATIENT else _named(upper, above)
            if named is not None:
                return Scan(level, both(Term(UNIQUE_KEYS[upper], named), condition))
        # Of a patient only counts are asked here, which narrow nothing: there is no walk down from patients.
        nearest = max((criterion.level for criterion in above), key=lambda one: one.depth, default=Level.PATIENT)
        if nearest is Level.PATIENT:
            return Scan(level, condition)
        parents = self.select(nearest, above)
        if self._few(parents, level, condition):
            return Walk(level, parents, condition)
        return Scan(level, condition)

    def _few(self, parents: Select, level: Level, condition: Condition) -> bool:
        """Whether walking down from these parents looks at fewer entities than a scan of the level."""
        narrows_above, narrows_here = _narrows(parents), condition != EVERYTHING
        if not narrows_here or not narrows_above:
            return narrows_above
        return self._estimate(parents) * WALK_ADVANTAGE <= self._view.estimate(level, condition)

    def _estimate(self, step: Select) -> int:
        match step.source:
            case Lookup(_, keys):
                return len(keys)
            case Scan(level, condition):
                return self._view.estimate(level, condition)
            case Walk(_, parents, _):
                return self._estimate(parents)


def _is_unique_key(level: Level, criterion: Criterion) -> bool:
    return isinstance(criterion, AttributeCriterion) and criterion.matcher.tag == UNIQUE_KEYS[level]


def _named(level: Level, criteria: Iterable[Criterion]) -> tuple[str, ...] | None:
    """The values the unique key of a level must have one of, if the criteria name them."""
    for criterion in criteria:
        if isinstance(criterion, AttributeCriterion) and _is_unique_key(level, criterion):
            matcher = criterion.matcher
            if matcher.matching in (Matching.SINGLE, Matching.UID_LIST) and not matcher.match_unknown:
                return tuple(dict.fromkeys(matcher.alternatives))
    return None


def _narrows(step: Select) -> bool:
    """Whether a step looks at less than a whole level."""
    match step.source:
        case Lookup():
            return True
        case Scan(_, condition):
            return not isinstance(condition, Everything)
        case Walk(_, parents, condition):
            return not isinstance(condition, Everything) or _narrows(parents)
