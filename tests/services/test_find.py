"""C-FIND: how answers are streamed, and every way a query can end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

import anyio
import pytest

from fastarchive.dicom.attributes import Level
from fastarchive.metrics import Metrics, exposition
from fastarchive.query.identifier import IdentifierError
from fastarchive.services import find
from fastarchive.services.answers import NO_ANSWERS, Answers
from fastarchive.services.context import Limits, open_context
from fastarchive.upperlayer import AssociationAborted, Command, CommandField, frame_message
from tests.services.fakes import STUDY_FIND, FakeArchive, FakeAssociation, FakeMessage, presentation

REQUEST = Command(
    field=CommandField.C_FIND_RQ, message_id=11, affected_sop_class=STUDY_FIND, has_data_set=True, priority=0
)
Pages = Callable[[find._Search], Iterator[Any]]


def ask(
    monkeypatch: pytest.MonkeyPatch,
    pages: Pages,
    *,
    association: FakeAssociation | None = None,
    limits: Limits | None = None,
    metrics: Metrics | None = None,
    request: Command = REQUEST,
    identifier: bytes = b"identifier",
) -> FakeAssociation:
    """Run one query whose search gives `pages`."""
    monkeypatch.setattr(find._Search, "_search", pages)
    fake = association or FakeAssociation()
    peer: Any = fake
    archive: Any = FakeArchive()
    message: Any = FakeMessage(presentation(STUDY_FIND), request, [identifier])

    async def main() -> None:
        with open_context(archive, limits=limits, metrics=metrics) as context:
            await find.handle(peer, message, context)

    anyio.run(main)
    return fake


def framed(pairs: list[tuple[bytes, bytes]]) -> Answers:
    """Command sets and identifiers as a search gives them."""
    messages = [frame_message(1, command, identifier, 16_378) for command, identifier in pairs]
    return Answers(b"".join(messages), list(accumulate(map(len, messages))))


def giving(*sizes: int, code: int = 0xFF00) -> Pages:
    """A search with pages of so many answers."""

    def search(self: find._Search) -> Iterator[Any]:
        self.level = Level.STUDY
        pending = find._pending(self._command, code)
        number = 0
        for size in sizes:
            yield framed([(pending, b"%d" % (number + index)) for index in range(size)])
            number += size

    return search


def test_F1_one_pending_for_each_match_then_one_final_without_identifier(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    association = ask(monkeypatch, giving(1, 0, 400, 3), metrics=metrics)
    *pending, (_, final, nothing) = association.sent
    assert [data_set for _, _, data_set in pending] == [b"%d" % number for number in range(404)]
    assert {command.status for _, command, _ in pending} == {0xFF00}
    assert all(command.has_data_set and command.responding_to == 11 for _, command, _ in pending)
    assert (final.status, final.has_data_set, nothing, final.responding_to) == (0x0000, False, None, 11)
    text = exposition(metrics).decode()
    labels = 'level="STUDY",model="Study Root"'
    assert f"fastarchive_find_answers_total{{{labels}}} 404.0" in text
    assert f"fastarchive_find_first_answer_seconds_count{{{labels}}} 1.0" in text
    assert f"fastarchive_find_seconds_count{{{labels}}} 1.0" in text


def test_F2_no_match_is_a_single_success(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(monkeypatch, giving()).statuses == [0x0000]
    assert ask(monkeypatch, giving(0, 0)).statuses == [0x0000]


def test_F3_unsupported_keys_make_every_pending_FF01(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(monkeypatch, giving(2, 1, code=0xFF01)).statuses == [0xFF01, 0xFF01, 0xFF01, 0x0000]


def test_F9_a_wrong_identifier_gets_A900_with_the_offending_element(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(self: find._Search) -> Iterator[Any]:
        raise IdentifierError("QueryRetrieveLevel is missing", 0x00080052)
        yield

    ((_, response, _),) = ask(monkeypatch, search).sent
    assert (response.status, response.offending_elements) == (0xA900, (0x00080052,))
    assert response.error_comment == "QueryRetrieveLevel is missing"


def test_F9_a_search_that_breaks_gets_C001_without_a_word_of_the_data(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def search(self: find._Search) -> Iterator[Any]:
        yield from giving(2)(self)
        raise RuntimeError("SMITH^JOHN")

    association = ask(monkeypatch, search)
    assert association.statuses == [0xFF00, 0xFF00, 0xC001]
    assert "SMITH" not in association.sent[-1][1].error_comment
    assert "RuntimeError" in caplog.text
    assert "SMITH" not in caplog.text


def test_F9_a_limit_is_A700_and_never_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    association = ask(monkeypatch, giving(5, 5, 5), limits=Limits(find_answers=7))
    assert association.statuses == [0xFF00] * 7 + [0xA700]
    assert ask(monkeypatch, giving(5, 2), limits=Limits(find_answers=7)).statuses == [0xFF00] * 7 + [0x0000]
    slow = ask(monkeypatch, giving(1, 1, 1), limits=Limits(find_seconds=1e-9))
    assert slow.statuses == [0xFF00, 0xA700]


def test_F10_a_cancel_stops_the_search_with_FE00(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = 0

    def endless(self: find._Search) -> Iterator[Any]:
        nonlocal searched
        self.level = Level.STUDY
        pending = find._pending(self._command, 0xFF00)
        while True:
            searched += 1
            yield framed([(pending, b"x")] * 1000)

    def cancel_after(association: FakeAssociation, *_: object) -> None:
        if len(association.sent) == 2000:
            association.cancels.add(11)

    association = ask(monkeypatch, endless, association=FakeAssociation(on_send=cancel_after))
    assert association.statuses[-1] == 0xFE00
    assert association.sent[-1][2] is None
    assert len(association.sent) == 2001
    assert searched <= 3


def test_F10_a_cancel_while_the_index_finds_nothing_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    association = FakeAssociation()

    def nothing(self: find._Search) -> Iterator[Any]:
        for round_number in range(1_000_000):
            if round_number == 20:
                association.cancels.add(11)
            yield NO_ANSWERS

    assert ask(monkeypatch, nothing, association=association).statuses == [0xFE00]


def test_F10_a_cancel_that_is_there_before_the_search_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    association = FakeAssociation(cancels={11})
    assert ask(monkeypatch, giving(5), association=association).statuses == [0xFE00]


def test_F10_a_cancel_for_another_message_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    association = FakeAssociation(cancels={10, 12})
    assert ask(monkeypatch, giving(1), association=association).statuses == [0xFF00, 0x0000]


def test_a_short_search_is_answered_in_one_visit_and_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(self: find._Search) -> Iterator[Any]:
        self._is_short = True
        yield from giving(1, 0, 2)(self)

    association = ask(monkeypatch, lookup)
    assert association.statuses == [0xFF00, 0xFF00, 0xFF00, 0x0000]
    assert association.writes == 1
    assert association.sent[-1][2] is None
    assert ask(monkeypatch, giving(1)).writes == 2


def test_F11_pages_are_made_as_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    association = FakeAssociation()
    ahead: list[int] = []

    def search(self: find._Search) -> Iterator[Any]:
        for page in giving(*[100] * 50)(self):
            yield page
            ahead.append(len(association.sent))

    ask(monkeypatch, search, association=association)
    assert ahead == [100 * (number + 1) for number in range(50)]


def test_F11_an_association_that_ends_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []

    def search(self: find._Search) -> Iterator[Any]:
        try:
            yield from giving(*[10] * 1000)(self)
        finally:
            closed.append(True)

    def break_off(association: FakeAssociation, *_: object) -> None:
        if len(association.sent) >= 50:
            association.aborted = (0, 0)

    metrics = Metrics()
    with pytest.raises(AssociationAborted):
        ask(monkeypatch, search, association=FakeAssociation(on_send=break_off), metrics=metrics)
    assert closed == [True]
    assert 'fastarchive_find_requests_total{outcome="aborted"} 1.0' in exposition(metrics).decode()


def test_an_identifier_beyond_the_limit_gets_A700(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(identifier=100)
    assert ask(monkeypatch, giving(1), limits=limits, identifier=b"x" * 101).statuses == [0xA700]


def test_F9_another_sop_class_than_the_contexts_gets_0122(monkeypatch: pytest.MonkeyPatch) -> None:
    request = Command(field=CommandField.C_FIND_RQ, message_id=11, affected_sop_class="1.2.3", has_data_set=True)
    assert ask(monkeypatch, giving(1), request=request).statuses == [0x0122]
