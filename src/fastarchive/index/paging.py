"""Hits of a search, page by page: the first ones early, few in one search, many window by window.

Hits come in the order documents lie in. Sorted by a field they would cost several times as much: the sort opens its
column in every segment, which for few hits is most of the search.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import tantivy

from fastarchive.index import schema

FEW: Final = 20_000
"""Hits that are found in one search rather than window by window."""
MANY: Final = 400_000
"""Hits of which even the first ones are sooner found in a window than among all."""
_MOST_BUCKETS: Final = 4096
"""Buckets in one window at most: each is a list to read in every segment."""
_BUCKET: Final = 1 << schema.BUCKET_BITS

Hits = list[tantivy.DocAddress]


def count(searcher: tantivy.Searcher, query: tantivy.Query) -> int:
    """How many documents meet a query."""
    return searcher.search(query, 1, count=True).count or 0  # type: ignore[attr-defined]  # missing in stubs


def first_hits(searcher: tantivy.Searcher, query: tantivy.Query, most: int) -> Hits:
    """Documents that meet a query, at most so many: the first ones in an order that is the same for every `most`."""
    # Where all weigh the same nothing is weighed, and the place of a document decides.
    unweighed = tantivy.Query.const_score_query(query, 1.0)
    return [address for _, address in searcher.search(unweighed, most, count=False).hits]


def all_hits(searcher: tantivy.Searcher, query: tantivy.Query, expected: int) -> Hits:
    """All documents that meet a query; about as many as `expected` are found in one search."""
    found = first_hits(searcher, query, expected + 1)
    return found if len(found) <= expected else first_hits(searcher, query, max(1, count(searcher, query)))


class Paging:
    """The hits of one query in pages: the first of about `first_page`, later ones of about `page_size`.

    estimate: an upper bound of the hits, seldom too low. buckets: how many there are in the index.
    """

    def __init__(
        self,
        searcher: tantivy.Searcher,
        query: tantivy.Query,
        *,
        estimate: int,
        buckets: int,
        first_page: int,
        page_size: int,
    ) -> None:
        self._searcher = searcher
        self._query = query
        self._estimate = estimate
        self._buckets = buckets
        self._first_page = first_page
        self._page_size = page_size
        self._given: set[tuple[int, int]] = set()
        """What was given of hits that are going to be found again."""

    def pages(self) -> Iterator[Hits]:
        """Each hit once; no page is empty.

        The first page of hits that are not very many is searched for alone. The others follow in one search if they
        are few. Of many each page is a window of buckets, so that none waits for the last one and nothing is kept.
        """
        if self._estimate > MANY:
            yield from self._windows(self._buckets * self._first_page // self._estimate, self._first_page)
            return
        expected = self._estimate if self._estimate <= self._page_size else self._first_page
        hits = first_hits(self._searcher, self._query, expected + 1)
        if hits:
            yield hits[: self._first_page]
        if len(hits) <= expected:
            yield from _slices(hits[self._first_page :], self._page_size)
            return
        self._give(hits[: self._first_page])
        actual = self._estimate if self._estimate <= FEW else count(self._searcher, self._query)
        if actual <= FEW:
            yield from self._rest(actual)
        else:
            yield from self._windows(self._buckets * self._page_size // actual, self._page_size)

    def _windows(self, width: int, wanted: int) -> Iterator[Hits]:
        """Hits in windows of buckets, the first one so wide, each to give about a page."""
        first, may_be_few = 0, self._estimate > MANY
        while first < self._buckets:
            width = max(1, min(width, _MOST_BUCKETS))
            between = schema.bucket_query(first, first + width - 1)
            window = tantivy.Query.boolean_query([(tantivy.Occur.Must, self._query), (tantivy.Occur.Must, between)])
            most = 2 * wanted + _BUCKET  # one bucket never has more
            hits = first_hits(self._searcher, window, most + 1)
            if len(hits) > most:
                width = min(width // 2, width * wanted // most)
                continue
            first += width
            fresh = self._without_given(hits)
            if may_be_few:
                self._give(fresh)
            yield from _slices(fresh, wanted)
            if may_be_few and (len(hits) * 4 < wanted or len(self._given) > FEW):
                may_be_few = False
                if len(self._given) <= FEW and (actual := count(self._searcher, self._query)) <= FEW:
                    yield from self._rest(actual)
                    return
                self._given.clear()
            if hits:
                wanted = min(self._page_size, wanted * 4)
            width = min(width * 8, width * wanted // max(1, len(hits)) + 1)

    def _rest(self, expected: int) -> Iterator[Hits]:
        """All hits that were not given yet, found in one search."""
        yield from _slices(self._without_given(all_hits(self._searcher, self._query, expected)), self._page_size)

    def _give(self, hits: Hits) -> None:
        self._given.update((hit.segment_ord, hit.doc) for hit in hits)

    def _without_given(self, hits: Hits) -> Hits:
        given = self._given
        return [hit for hit in hits if (hit.segment_ord, hit.doc) not in given] if given else hits


def _slices(hits: Hits, size: int) -> Iterator[Hits]:
    for start in range(0, len(hits), size):
        yield hits[start : start + size]
