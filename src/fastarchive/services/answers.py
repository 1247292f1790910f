"""Answers of a C-FIND as they go on the wire: pending responses, each a command set and an identifier, in PDUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Final

from fastarchive.index.documents import Document
from fastarchive.index.rows import StoredDocument
from fastarchive.native.answers import Framing, encode_answers
from fastarchive.query.match import Match
from fastarchive.query.respond import Responder
from fastarchive.query.template import RowTemplate
from fastarchive.upperlayer import frame_message

__all__ = ["Answerer", "Answers"]


@dataclass(frozen=True, slots=True)
class Answers:
    """Pending responses in P-DATA-TF PDUs, one after the other, and where each of them ends."""

    data: bytes
    ends: Sequence[int]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.ends)

    def part(self, first: int, last: int) -> bytes:
        """Those from number `first` on that come before number `last`."""
        return self.data[self.ends[first - 1] if first else 0 : self.ends[last - 1] if last else 0]

    def __add__(self, other: Answers) -> Answers:
        return _in_turn([self, other])


NO_ANSWERS: Final = Answers(b"", ())


class Answerer:
    """Encodes the matches of one query: straight from stored rows where that can be done, else one by one.

    command: the encoded command set of a pending response, the same for all (F3). longest: bytes of a PDV's fragment.
    """

    def __init__(self, responder: Responder, depth: int, command: bytes, context_id: int, longest: int) -> None:
        self._identifier = responder.identifier
        self._rows = responder.row_template if encode_answers is not None else None
        self._own: Callable[[Match], Document | None] = itemgetter(depth)
        self._above: Callable[[Match], tuple[Document | None, ...]] = itemgetter(slice(depth))
        self._command = command
        self._context_id = context_id
        self._longest = longest
        self._framing = Framing(frame_message(context_id, command, None, longest), context_id, longest)

    def answers(self, page: Sequence[Match]) -> Answers:
        """One answer for each match, in their order."""
        if not page:
            return NO_ANSWERS
        if self._rows is None:
            return _joined([self._answer(match) for match in page])
        if not self._rows.above:
            return self._from_rows(page, self._rows)
        families = [self._from_rows(list(family), self._rows) for _, family in groupby(page, self._above)]
        return families[0] if len(families) == 1 else _in_turn(families)

    def _answer(self, match: Match) -> bytes:
        return frame_message(self._context_id, self._command, self._identifier(match), self._longest)

    def _from_rows(self, page: Sequence[Match], how: RowTemplate) -> Answers:
        """The answers with matches below the same entities; one by one if not all are stored."""
        assert encode_answers is not None
        rows = [document.row for document in map(self._own, page) if type(document) is StoredDocument]
        if len(rows) < len(page):
            return _joined([self._answer(match) for match in page])
        above = how.values_above(page[0]) if how.above else ()
        data, ends = encode_answers(rows, how.template, above, self._framing)
        if len(set(ends)) == len(ends) and ends[0]:
            return Answers(data, ends)
        return _joined(list(self._completed(page, data, ends)))

    def _completed(self, page: Sequence[Match], data: bytes, ends: Sequence[int]) -> Iterator[bytes]:
        start = 0
        for match, end in zip(page, ends, strict=True):
            yield data[start:end] if end > start else self._answer(match)
            start = end


def _in_turn(several: Sequence[Answers]) -> Answers:
    ends: list[int] = []
    start = 0
    for answers in several:
        ends += [start + end for end in answers.ends]
        start += len(answers.data)
    return Answers(b"".join([answers.data for answers in several]), ends)


def _joined(answers: Sequence[bytes]) -> Answers:
    return Answers(b"".join(answers), list(accumulate(map(len, answers))))
