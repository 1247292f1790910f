"""Running a plan: pages of matches, the first one early, none held longer than it takes to send (F11).

Everything here is a generator. Whoever asked may stop between any two pages, after a C-CANCEL for example, by closing
it (F10); pages may be empty, so that a long search without a match can be stopped as well.

What the tail of the log has touched is looked at first and decided on by the criteria alone; the pages of the index
leave it out.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from time import perf_counter
from typing import Final, TypeVar

from fastarchive.dicom.attributes import SERIES_INSTANCE_UID, STUDY_INSTANCE_UID, UNIQUE_KEYS, Level
from fastarchive.index.conditions import And, Condition, Term
from fastarchive.index.documents import Document
from fastarchive.index.rows import are_one_family
from fastarchive.index.view import View
from fastarchive.query.criteria import decider
from fastarchive.query.headers import HeaderReader
from fastarchive.query.match import Match
from fastarchive.query.plan import Lookup, Plan, Scan, Select, Trace, Walk

PAGE: Final = 500
"""How many entities are looked up, or taken from the tail, at a time."""
_DECIDED: Final = (25, 250)
"""How many entities the first page and those after it have where each has to be decided on: at most some milliseconds
of work, which is how soon a search that nobody waits for any more makes room for others."""
_NOT_DECIDED: Final = (500, 1000)
"""How many where each is an answer."""
REMEMBERED: Final = 4_000
"""How many entities of a level above are kept at hand for the next page."""


_Item = TypeVar("_Item")
_BELOW: Final = [(None,) * (3 - depth) for depth in range(4)]
_NAMES: Final = {STUDY_INSTANCE_UID: attrgetter("study"), SERIES_INSTANCE_UID: attrgetter("series")}
_Decider = Callable[[Document], bool]


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


def is_short(plan: Plan, view: View) -> bool:
    """Whether all matches come with one search, so that looking for the end of them costs next to nothing."""
    match plan.root.source:
        case Lookup():
            return True
        case Scan(level, condition) if not plan.query.header_keys:
            decided = any(criterion.level is level for criterion in plan.root.criteria)
            return view.estimate(level, condition, counted=False) <= (_DECIDED[0] if decided else _NOT_DECIDED[1])
        case _:
            return False


def _select(step: Select, view: View, trace: Trace) -> Generator[list[Match], None, None]:
    joiner = Joiner(view, step.level, step.joins)
    own = [decider(criterion) for criterion in step.criteria if criterion.level is step.level]
    above = [
        (criterion.level.depth, decider(criterion)) for criterion in step.criteria if criterion.level is not step.level
    ]
    work = trace.of(step)
    pages = _documents(step.source, view, trace, _DECIDED if own else _NOT_DECIDED)
    while True:
        started = perf_counter()
        page = next(pages, None)
        if page is None:
            return
        trace.look_at(step, len(page))
        for accepts in own:
            page = [document for document in page if accepts(document)]
        found = joiner.join(page, above)
        work.found += len(found)
        work.seconds += perf_counter() - started
        yield found


def _documents(
    source: Lookup | Scan | Walk, view: View, trace: Trace, sizes: tuple[int, int]
) -> Iterator[Sequence[Document]]:
    first_page, page_size = sizes
    match source:
        case Lookup(level, keys):
            for some in _slices(keys):
                yield view.get_many(level, some)
        case Scan(level, condition):
            yield from _slices(_below_named(condition, view.tail_documents(level)))
            yield from view.pages(level, condition, first_page=first_page, page_size=page_size)
        case Walk(level, parents, condition):
            # Those parents are not known yet; what the tail holds is decided on by what is above each.
            yield from _slices(view.tail_documents(level))
            for found in _select(parents, view, trace):
                above = {document.key: document for match in found if (document := match[parents.level.depth])}
                if above:
                    below = Term(UNIQUE_KEYS[parents.level], tuple({_uid(one) for one in above.values()}))
                    for page in view.pages(level, And((below, condition)), first_page=first_page, page_size=page_size):
                        # Two studies may use one Series Instance UID; only these parents' children count.
                        yield [document for document in page if document.key_at(parents.level) in above]


def _below_named(condition: Condition, documents: Sequence[Document]) -> Sequence[Document]:
    """Those in the studies and series that a condition names: of a tail of a thousand instances, few are."""
    for part in condition.parts if isinstance(condition, And) else (condition,):
        if isinstance(part, Term) and part.tag in _NAMES:
            name, named = _NAMES[part.tag], frozenset(part.values)
            documents = [document for document in documents if name(document) in named]
    return documents


def _uid(document: Document) -> str:
    """The UID of a study or a series."""
    return document.series if document.level is Level.SERIES else document.study


class Joiner:
    """Adds the entities above to those found, looked up a page at a time, and asks them what they are to meet.

    Many entities of a page are below the same ones, and it is settled for all of them at once.
    """

    def __init__(self, view: View, level: Level, joins: Sequence[Level]) -> None:
        self._view = view
        self._level = level
        # The study before the patient: only the study says whose it is.
        self._joins = sorted(joins, key=lambda upper: upper.depth, reverse=True)
        self._known: dict[Level, dict[str, Document]] = {upper: {} for upper in joins}

    def join(self, page: Sequence[Document], criteria: Sequence[tuple[int, _Decider]] = ()) -> list[Match]:
        """Those of the page whose entities above meet the criteria, as matches, in its order.

        criteria: each with the depth of the level it is of.
        """
        if not self._joins:
            return _matches((None,) * self._level.depth, page)
        if len(page) > 1 and are_one_family(page):
            (match, *_) = self.join(page[:1], criteria) or (None,)
            return [] if match is None else _matches(match[: self._level.depth], page)
        ancestries = [document.ancestry for document in page]
        families = dict(zip(ancestries, page, strict=True))
        above = self._above(list(families.values()))
        accepted = {
            ancestry: uppers
            for ancestry, uppers in zip(families, above, strict=True)
            if all((document := uppers[depth]) is not None and accepts(document) for depth, accepts in criteria)
        }
        found: list[Match] = []
        for ancestry, family in groupby(zip(ancestries, page, strict=True), itemgetter(0)):
            if (uppers := accepted.get(ancestry)) is not None:
                found += _matches(uppers, [document for _, document in family])
        return found

    def _above(self, documents: Sequence[Document]) -> list[tuple[Document | None, ...]]:
        """For each document those above it, by depth."""
        columns: list[Sequence[Document | None]] = [[None] * len(documents)] * self._level.depth
        for upper in self._joins:
            if upper is Level.PATIENT:
                known = documents if self._level is Level.STUDY else columns[Level.STUDY.depth]
                keys = ["" if study is None else study.patient for study in known]
            else:
                keys = [document.key_at(upper) for document in documents]
            columns[upper.depth] = self._look_up(upper, keys)
        return list(zip(*columns, strict=True))

    def _look_up(self, level: Level, keys: Sequence[str]) -> list[Document | None]:
        known = self._known[level]
        wanted = set(keys)
        missing = wanted.difference(known)
        if missing:
            if len(known) + len(missing) > REMEMBERED:
                known = self._known[level] = {key: known[key] for key in wanted.intersection(known)}
            known.update((document.key, document) for document in self._view.get_many(level, missing))
        return [known.get(key) for key in keys]


def _matches(above: tuple[Document | None, ...], documents: Iterable[Document]) -> list[Match]:
    """Entities below the same ones. Match's own constructor would cost as much as reading an entity."""
    new, below = tuple.__new__, _BELOW[len(above)]
    if not below:
        return [new(Match, (*above, document)) for document in documents]
    return [new(Match, (*above, document, *below)) for document in documents]


def _slices(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), PAGE):
        yield items[start : start + PAGE]
