"""Running a plan: pages of matches, the first one early, none held longer than it takes to send (F11).

Everything here is a generator. Whoever asked may stop between any two pages, after a C-CANCEL for example, by closing
it (F10); pages may be empty, so that a long search without a match can be stopped as well.

What the tail of the log has touched is looked at first and decided on by the criteria alone; the pages of the index
leave it out.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from time import perf_counter
from typing import Final, TypeVar

from fastarchive.dicom.attributes import UNIQUE_KEYS, Level
from fastarchive.index.conditions import And, Term
from fastarchive.index.documents import Document
from fastarchive.index.view import View
from fastarchive.query.criteria import decider
from fastarchive.query.headers import HeaderReader
from fastarchive.query.match import Match
from fastarchive.query.plan import Lookup, Plan, Scan, Select, Trace, Walk

PAGE: Final = 500
"""How many entities are looked up, or taken from the tail, at a time."""
REMEMBERED: Final = 4_000
"""How many entities of a level above are kept at hand for the next page."""


_Item = TypeVar("_Item")


def matches(
    plan: Plan, view: View, trace: Trace | None = None, headers: HeaderReader | None = None
) -> Generator[list[Match], None, None]:
    """The matches of a plan, each once, page by page; pages may be empty. A trace is told what each step does.

    Only with ``headers`` keys the index does not hold are looked up; then TooManyHeaders may be raised. With a trace
    that limits how many entities are looked at, so may TooMuchToLookAt.
    """
    trace = trace or Trace()
    found = _select(plan.root, view, trace)
    query = plan.query
    keys = query.header_keys
    return found if headers is None or not keys else headers.decide(found, query.level, keys, view, trace.headers)


def _select(step: Select, view: View, trace: Trace) -> Generator[list[Match], None, None]:
    joiner = Joiner(view, step.level, step.joins)
    criteria = [(criterion.level.depth, decider(criterion)) for criterion in step.criteria]
    work = trace.of(step)
    pages = _documents(step.source, view, trace)
    while True:
        started = perf_counter()
        page = next(pages, None)
        if page is None:
            return
        trace.look_at(step, len(page))
        found = joiner.join(page)
        for depth, accepts in criteria:
            found = [match for match in found if (document := match[depth]) is not None and accepts(document)]
        work.found += len(found)
        work.seconds += perf_counter() - started
        yield found


def _documents(source: Lookup | Scan | Walk, view: View, trace: Trace) -> Iterator[Sequence[Document]]:
    match source:
        case Lookup(level, keys):
            for some in _slices(keys):
                yield view.get_many(level, some)
        case Scan(level, condition):
            yield from _slices(view.tail_documents(level))
            yield from view.pages(level, condition)
        case Walk(level, parents, condition):
            yield from _slices(view.tail_documents(level))
            for found in _select(parents, view, trace):
                above = {document.key: document for match in found if (document := match[parents.level.depth])}
                if above:
                    below = Term(UNIQUE_KEYS[parents.level], tuple({_uid(one) for one in above.values()}))
                    for page in view.pages(level, And((below, condition))):
                        # Two studies may use one Series Instance UID; only these parents' children count.
                        yield [document for document in page if document.key_at(parents.level) in above]


def _uid(document: Document) -> str:
    """The UID of a study or a series."""
    return document.series if document.level is Level.SERIES else document.study


class Joiner:
    """Adds the entities above to those found, looked up a page at a time."""

    def __init__(self, view: View, level: Level, joins: Sequence[Level]) -> None:
        self._view = view
        self._level = level
        # The study before the patient: only the study says whose it is.
        self._joins = sorted(joins, key=lambda upper: upper.depth, reverse=True)
        self._known: dict[Level, dict[str, Document]] = {upper: {} for upper in joins}

    def join(self, page: Sequence[Document]) -> list[Match]:
        """The page as matches, in its order."""
        columns: list[Sequence[Document | None]] = [[None] * len(page)] * len(Level)
        columns[self._level.depth] = page
        for upper in self._joins:
            if upper is Level.PATIENT:
                studies = columns[Level.STUDY.depth]
                keys = ["" if study is None else study.patient for study in studies]
            else:
                keys = [document.key_at(upper) for document in page]
            columns[upper.depth] = self._look_up(upper, keys)
        return [Match(*row) for row in zip(*columns, strict=True)]

    def _look_up(self, level: Level, keys: Sequence[str]) -> list[Document | None]:
        known = self._known[level]
        wanted = set(keys)
        missing = wanted.difference(known)
        if missing:
            if len(known) + len(missing) > REMEMBERED:
                known = self._known[level] = {key: known[key] for key in wanted.intersection(known)}
            known.update((document.key, document) for document in self._view.get_many(level, missing))
        return [known.get(key) for key in keys]


def _slices(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), PAGE):
        yield items[start : start + PAGE]
