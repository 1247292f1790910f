"""Query service: C-FIND of the Query/Retrieve information models (PS3.4 C.4.1).

A worker thread reads the identifier, plans, and finds and encodes the matches page by page; the event loop sends each
page while the next one is being found and nothing is kept of those before. No more is found than the peer takes, so a
slow peer holds up its own query and nothing else (F11), and between bursts of answers a C-CANCEL ends it (F10).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Generator, Iterator
from time import perf_counter
from typing import Final, NamedTuple

from fastarchive.archive import Archive
from fastarchive.dicom.attributes import INSTANCE_AVAILABILITY, InformationModel, Level, model_of
from fastarchive.dicom.transfer_syntaxes import Encoding, encoding_of
from fastarchive.metrics import Metrics
from fastarchive.query.availability import availability
from fastarchive.query.execute import is_short, matches
from fastarchive.query.explain import Explanation, explain
from fastarchive.query.headers import HeaderReader, TooManyHeaders
from fastarchive.query.identifier import IdentifierError, parse_find
from fastarchive.query.options import FindOptions
from fastarchive.query.plan import TooMuchToLookAt, Trace, plan
from fastarchive.query.respond import responder_to
from fastarchive.services import status
from fastarchive.services.answers import NO_ANSWERS, Answerer, Answers
from fastarchive.services.context import Limits, ServiceContext
from fastarchive.services.faults import log_unexpected
from fastarchive.services.responses import caller_of, refuse, response_to
from fastarchive.upperlayer import (
    Association,
    AssociationError,
    Command,
    DataSetTooLarge,
    Message,
    encode_command,
    frame_message,
)

__all__ = ["handle"]

_log: Final = logging.getLogger(__name__)

_BURST: Final = 500
"""Answers given to the transport at a time; a C-CANCEL is looked for between bursts."""


class _Page(NamedTuple):
    """Answers, and whether they are the last ones."""

    answers: Answers
    last: bool


class _End(NamedTuple):
    """How a search ended: the final status, what to say about it, and the word it is counted under."""

    status: int
    outcome: str
    comment: str = ""
    offending_elements: tuple[int, ...] = ()


_TOO_BUSY: Final = _End(status.OUT_OF_RESOURCES, "refused", "too many queries of this AE at once; try again later")
_COMPLETE: Final = _End(status.SUCCESS, "success")
_ANSWERED: Final = _End(status.SUCCESS, "success", "the final response has been sent")
_CANCELLED: Final = _End(status.CANCELLED, "cancelled")
_TOO_MANY: Final = _End(status.OUT_OF_RESOURCES, "refused", "more matches than one query may have")
_TOO_LONG: Final = _End(status.OUT_OF_RESOURCES, "refused", "the search took longer than one query may")
_TOO_MANY_HEADERS: Final = _End(status.OUT_OF_RESOURCES, "refused", "too many instances to look into; ask for fewer")
_TOO_MUCH: Final = _End(status.OUT_OF_RESOURCES, "refused", "too much to look at; add keys that tell more")
_FAILED: Final = _End(status.UNABLE_TO_PROCESS, "failed", "internal error, the search was given up")


async def handle(association: Association, message: Message, context: ServiceContext) -> None:
    """Answer one C-FIND: a pending response for each match, then exactly one final response (F1 to F3, F9)."""
    started = perf_counter()
    command = message.command
    known = model_of(message.context.abstract_syntax)
    if known is None or command.affected_sop_class != message.context.abstract_syntax:
        await refuse(
            association, message, status.SOP_CLASS_NOT_SUPPORTED, "Affected SOP Class UID is not that of the context"
        )
        return
    try:
        identifier = await message.data_set(context.limits.identifier)
    except DataSetTooLarge:
        await refuse(association, message, status.OUT_OF_RESOURCES, "the identifier is too large")
        return
    caller = association.calling_ae
    limits = context.limits_for(caller)
    if limits.find_queries and context.running_queries[caller] >= limits.find_queries:
        response = response_to(command, _TOO_BUSY.status, comment=_TOO_BUSY.comment)
        context.metrics.count_find(_TOO_BUSY.outcome)
        await association.send(message.context.id, response)
        return
    context.running_queries[caller] += 1
    search = _Search(
        archive=context.archive,
        command=command,
        identifier=identifier,
        encoding=encoding_of(message.context.transfer_syntax),
        model=known[0],
        options=FindOptions.agreed(
            association.extended_negotiation.get(message.context.abstract_syntax),
            match_unknown=context.match_unknown or caller in context.match_unknown_for,
            declared_character_set=context.character_sets.get(caller),
            headers=True,
        ),
        retrieve_ae=context.title_for(association.called_ae),
        limits=limits,
        context_id=message.context.id,
        longest=association.longest_fragment,
    )
    watch = _Watch(context.metrics, caller_of(association), known[0], started)
    try:
        end = await _stream(association, message, context, search, watch)
    except AssociationError:
        context.metrics.count_find("aborted")
        raise
    except IdentifierError as error:
        end = _End(error.status, "refused", error.comment, tuple(error.offending))
    except TooManyHeaders:
        end = _TOO_MANY_HEADERS
    except TooMuchToLookAt:
        end = _TOO_MUCH
    except Exception as error:  # the peer gets a status for whatever went wrong
        log_unexpected(_log, "C-FIND", error)
        context.metrics.unexpected_errors.labels(service="C-FIND").inc()
        end = _FAILED
    finally:
        if not search.ended:
            context.queries.submit(search.close)
        context.running_queries[caller] -= 1
        if not context.running_queries[caller]:
            del context.running_queries[caller]
    if end is not _ANSWERED:
        response = response_to(command, end.status, comment=end.comment, offending_elements=end.offending_elements)
        await association.send(message.context.id, response)
    watch.finished(search.level, search.answered, end)


async def _stream(
    association: Association,
    message: Message,
    context: ServiceContext,
    search: _Search,
    watch: _Watch,
) -> _End:
    """Send all matches; what is returned says how the search came to its end.

    The final response of a search that is complete with its last page goes in one write with the last answers.
    """
    message_id = message.command.message_id
    coming: asyncio.Future[_Page] | None = None
    try:
        while not association.cancelled(message_id):
            page = await (coming or context.queries.start(search.page))
            coming = None
            answers = page.answers
            permitted = _permitted(search.answered, answers.count, search.limits)
            for first in range(0, permitted, _BURST):
                if association.cancelled(message_id):
                    return _CANCELLED
                last = min(first + _BURST, permitted)
                burst = answers.part(first, last)
                search.answered += last - first
                complete = page.last and last == answers.count
                if complete:
                    burst += search.final
                await association.send_framed(burst)
                watch.answered()
                if complete:
                    return _ANSWERED
                if coming is None and not page.last:  # now and not sooner: it would hold up the first answers
                    coming = context.queries.start(search.page)
            if permitted < answers.count:
                return _TOO_MANY
            if page.last:
                return _COMPLETE
            if watch.exceeds(search.limits.find_seconds):
                return _TOO_LONG
        return _CANCELLED
    finally:
        if coming is not None:
            coming.cancel()


def _permitted(answered: int, more: int, limits: Limits) -> int:
    """How many of `more` answers may still be sent after `answered`."""
    return min(more, limits.find_answers - answered) if limits.find_answers else more


class _Search:
    """One query, from identifier to encoded answers. Its methods run in worker threads; one waits for another."""

    def __init__(
        self,
        *,
        archive: Archive,
        command: Command,
        identifier: bytes,
        encoding: Encoding,
        model: InformationModel,
        options: FindOptions,
        retrieve_ae: str,
        limits: Limits,
        context_id: int,
        longest: int,
    ) -> None:
        self.final = frame_message(context_id, encode_command(response_to(command, status.SUCCESS)), None, longest)
        """The final response of a search that is complete, as it goes on the wire."""
        self._context_id = context_id
        self._longest = longest
        self.level: Level | None = None
        self.answered = 0
        self.ended = False
        """Whether the last page was found: there is nothing to let go of."""
        self.limits = limits
        self._archive = archive
        self._command = command
        self._identifier = identifier
        self._encoding = encoding
        self._model = model
        self._options = options
        self._retrieve_ae = retrieve_ae
        self._pages: Iterator[Answers] | None = None
        self._is_short = False
        self._at_work = threading.Lock()

    def page(self) -> _Page:
        """The next answers. A page may be empty: then the search goes on, unless it is the last one.

        Raises IdentifierError (A900).
        """
        with self._at_work:
            return self._page()

    def close(self) -> None:
        """Give the search up and let go of what it holds, once a page that is being found is done."""
        with self._at_work:
            if isinstance(self._pages, Generator):
                self._pages.close()
            self._pages = iter(())

    def _page(self) -> _Page:
        if self._pages is None:
            self._pages = self._search()
        answers = next(self._pages, None)
        if answers is None:
            return self._last(NO_ANSWERS)
        while self._is_short and answers.count <= _BURST:  # another visit would cost more than looking for the end
            more = next(self._pages, None)
            if more is None:
                return self._last(answers)
            answers += more
        return _Page(answers, last=False)

    def _last(self, answers: Answers) -> _Page:
        self.ended = True
        return _Page(answers, last=True)

    def _search(self) -> Iterator[Answers]:
        query = parse_find(self._identifier, self._encoding, self._model, self._options)
        self.level = query.level
        view = self._archive.index.view()
        damage = availability(view, self._archive.damage.marks()) if INSTANCE_AVAILABILITY in query.asked else None
        responder = responder_to(query, self._encoding, self._retrieve_ae, damage)
        pending = _pending(self._command, responder.pending_status)
        answerer = Answerer(responder, query.level.depth, pending, self._context_id, self._longest)
        how = plan(query, view)
        self._is_short = is_short(how, view)
        trace = Trace(self.limits.find_scanned)
        headers = HeaderReader(self._archive.header_of, self.limits.find_headers)
        try:
            for page in matches(how, view, trace, headers):
                yield answerer.answers(page)
        finally:
            if _log.isEnabledFor(logging.DEBUG):
                self._log_explanation(explain(how, view, trace, values=False))

    def _log_explanation(self, explanation: Explanation) -> None:
        """How the query was answered, line by line and without the values of its keys, which are patient data."""
        for line in explanation.lines():
            _log.debug("C-FIND %d explained: %s", self._command.message_id, line)


def _pending(command: Command, code: int) -> bytes:
    """The command set of a pending response, the same for all matches of a query (F3)."""
    return encode_command(
        Command(
            field=command.field.response,
            responding_to=command.message_id,
            affected_sop_class=command.affected_sop_class,
            status=code,
            has_data_set=True,
        )
    )


class _Watch:
    """Times one query and counts what it answered."""

    def __init__(self, metrics: Metrics, caller: str, model: InformationModel, started: float) -> None:
        self._caller = caller
        self._metrics = metrics
        self._model = model.value
        self._started = started
        self._first: float | None = None

    def answered(self) -> None:
        """A burst was sent; only the first one matters."""
        if self._first is None:
            self._first = perf_counter() - self._started

    def exceeds(self, seconds: float) -> bool:
        """Whether the query takes longer than `seconds`; 0 stands for no limit."""
        return bool(seconds) and perf_counter() - self._started > seconds

    def finished(self, level: Level | None, answers: int, end: _End) -> None:
        """The final response was sent; `level` is None if the identifier could not be read."""
        metrics = self._metrics
        metrics.count_find(end.outcome)
        if level is None:
            _log.info("C-FIND from %s refused: %04XH %s", self._caller, end.status, end.comment)
            return
        whole = perf_counter() - self._started
        first = whole if self._first is None else self._first
        metrics.time_find(self._model, level.value, first=first, whole=whole, answers=answers)
        _log.debug(
            "C-FIND %s from %s: %d answers in %.1f ms, %04XH",
            level.value,
            self._caller,
            answers,
            whole * 1000,
            end.status,
        )
