"""What one C-FIND, and all of one caller, may take of the archive: A700 with a comment beyond it (F9)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as StudyRootFind

from fastarchive.dicom.attributes import Level
from fastarchive.metrics import Metrics, exposition
from fastarchive.services import find
from fastarchive.services.answers import Answers
from fastarchive.services.context import Limits, ServiceContext, open_context
from fastarchive.setting_values import QueryLimits
from fastarchive.upperlayer import frame_message
from tests.services.fakes import STUDY_FIND, FakeArchive, FakeAssociation, FakeMessage, presentation
from tests.services.loopback import fill, serving, slice_of
from tests.services.scu import find as ask_over_the_port
from tests.services.test_find import REQUEST, Pages, giving

EVERYBODY = Limits(find_answers=10)
SOME: Mapping[str, QueryLimits] = {"SMALL": QueryLimits(matches=3), "FREE": QueryLimits(matches=0)}


def asked_by(caller: str, context: ServiceContext, association: FakeAssociation | None = None) -> Any:
    """A C-FIND of a caller, to be awaited."""
    peer: Any = association or FakeAssociation()
    peer.calling_ae = caller
    message: Any = FakeMessage(presentation(STUDY_FIND), REQUEST, [b"identifier"])
    return find.handle(peer, message, context)


def statuses(monkeypatch: pytest.MonkeyPatch, pages: Pages, caller: str, **options: Any) -> list[int | None]:
    monkeypatch.setattr(find._Search, "_search", pages)
    archive: Any = FakeArchive()
    association = FakeAssociation()

    async def main() -> None:
        with open_context(archive, **options) as context:
            await asked_by(caller, context, association)

    anyio.run(main)
    return association.statuses


@pytest.mark.parametrize(("caller", "most"), [("SMALL", 3), ("ANYBODY", 10), ("FREE", 20)])
def test_F9_each_caller_has_limits_of_its_own(monkeypatch: pytest.MonkeyPatch, caller: str, most: int) -> None:
    found = statuses(monkeypatch, giving(20), caller, limits=EVERYBODY, query_limits=SOME)
    assert found == [0xFF00] * most + [0x0000 if most == 20 else 0xA700]


def test_what_is_not_said_of_a_caller_is_as_for_everybody() -> None:
    archive: Any = FakeArchive()
    special = QueryLimits(seconds=2.5, headers=7, scanned=8, queries=1)
    with open_context(archive, limits=EVERYBODY, query_limits={"A": special}) as context:
        limits = context.limits_for("A")
        assert (limits.find_answers, limits.find_seconds) == (10, 2.5)
        assert (limits.find_headers, limits.find_scanned, limits.find_queries) == (7, 8, 1)
        assert context.limits_for("B") is context.limits is EVERYBODY


def test_F9_one_query_too_many_at_once_is_A700(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one query of a caller is under way the next is refused; another caller's is not, nor one afterwards."""
    archive: Any = FakeArchive()
    metrics = Metrics()
    others: list[FakeAssociation] = []

    async def main() -> None:
        with open_context(archive, query_limits={"A": QueryLimits(queries=1)}, metrics=metrics) as context:
            waiting: list[Any] = []

            def search(self: find._Search) -> Iterator[Any]:
                self.level = Level.STUDY
                pending = find._pending(self._command, 0xFF00)
                for identifier in (b"first", b"second"):
                    answer = frame_message(1, pending, identifier, 1000)
                    yield Answers(answer, [len(answer)])

            monkeypatch.setattr(find._Search, "_search", search)

            class Slow(FakeAssociation):
                async def send_many(self, context_id: int, messages: Any) -> None:
                    await super().send_many(context_id, messages)
                    if not waiting:
                        waiting.append(True)
                        for caller in ("A", "B"):
                            others.append(FakeAssociation())
                            await asked_by(caller, context, others[-1])

            first = Slow()
            await asked_by("A", context, first)
            assert first.statuses == [0xFF00, 0xFF00, 0x0000]
            others.append(FakeAssociation())
            await asked_by("A", context, others[-1])
            assert not context.running_queries

    anyio.run(main)
    refused, of_another, afterwards = others
    ((_, response, identifier),) = refused.sent
    assert (response.status, identifier) == (0xA700, None)
    assert response.error_comment.startswith("too many queries of this AE")
    assert of_another.statuses == afterwards.statuses == [0xFF00, 0xFF00, 0x0000]
    assert 'fastarchive_find_requests_total{outcome="refused"} 1.0' in exposition(metrics).decode()


def test_F9_a_query_that_looks_at_too_much_is_A700(tmp_path: Path) -> None:
    """Studies have to be looked at where no index tells which match; those found so far have been answered."""
    with serving(tmp_path, query_limits={"SCU": QueryLimits(scanned=4)}) as loopback:
        fill(loopback.archive, [slice_of(1, study) for study in range(1, 7)])
        everything = {"QueryRetrieveLevel": "STUDY", "NumberOfStudyRelatedInstances": "1"}
        (status, _), *rest = ask_over_the_port(loopback, StudyRootFind, **everything)
        assert (status, rest) == (0xA700, [])
        one = ask_over_the_port(loopback, StudyRootFind, StudyInstanceUID="1.2.826.1.1\\1.2.826.1.2", **everything)
        assert [status for status, _ in one] == [0xFF00, 0xFF00, 0x0000]
