"""A C-FIND with very many matches (F10, F11): answered before the search ends, no faster than the peer reads, stopped
within a page, and in the same memory whatever the number of matches."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Sequence
from typing import Any

import anyio

from fastarchive.dicom.attributes import Level
from fastarchive.index.conditions import Condition
from fastarchive.index.documents import Document
from fastarchive.services import find
from fastarchive.services.context import ServiceContext, open_context
from fastarchive.services.find import _BURST as BURST
from fastarchive.upperlayer import Command, CommandField
from tests.query.archives import MemoryView
from tests.query.identifiers import identifier
from tests.services.fakes import STUDY_FIND, FakeAssociation, FakeMessage, presentation

MANY = 1_000_000 if os.environ.get("FASTARCHIVE_SOAK") else 60_000
ASKED = identifier("STUDY", PatientName="*", StudyInstanceUID="", StudyDescription="", InstanceAvailability="")
REQUEST = Command(field=CommandField.C_FIND_RQ, message_id=7, affected_sop_class=STUDY_FIND, has_data_set=True)
PAGE = 1000


class ManyStudies(MemoryView):
    """A view with so many studies, each made when its page is asked for."""

    def __init__(self, studies: int) -> None:
        super().__init__({level: {} for level in Level})
        self.studies = studies
        self.made = 0
        self.ended = False

    def pages(
        self, level: Level, condition: Condition, *, first_page: int = 50, page_size: int = PAGE
    ) -> Iterator[list[Document]]:
        try:
            while self.made < self.studies:
                size = min(page_size if self.made else first_page, self.studies - self.made)
                page = [study(self.made + number) for number in range(size)]
                self.made += size
                yield page
        finally:
            self.ended = True

    def estimate(self, level: Level, condition: Condition, *, counted: bool = True) -> int:
        return self.studies


def study(number: int) -> Document:
    document = Document(Level.STUDY, study=f"1.2.{number}")
    document.elements.update({0x0020_000D: b"1.2.%d" % number, 0x0010_0010: b"SMITH^%d" % number})
    return document


class FakeArchive:
    """An archive that is this view."""

    def __init__(self, view: ManyStudies) -> None:
        self.index = self
        self.damage = self
        self.seen = view

    def view(self) -> ManyStudies:
        return self.seen

    def marks(self) -> tuple[()]:
        return ()

    def header_of(self, location: object) -> None:
        raise AssertionError("no key is looked up in headers")


class Peer(FakeAssociation):
    """Counts what it is sent and keeps nothing but the last status; between reads it waits as long as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = 0
        self.reads = anyio.Semaphore(0)
        self.patient = False

    async def send_many(self, context_id: int, messages: Sequence[tuple[bytes, bytes | None]]) -> None:
        if not self.patient:
            await self.reads.acquire()
        self.answers += sum(data_set is not None for _, data_set in messages)


async def ask(peer: Peer, context: ServiceContext) -> None:
    association: Any = peer
    message: Any = FakeMessage(presentation(STUDY_FIND), REQUEST, [ASKED])
    await find.handle(association, message, context)


async def settled(view: ManyStudies) -> int:
    """How many studies have been made once no more are being made."""
    made, since = view.made, anyio.current_time()
    with anyio.fail_after(20):
        while not made or anyio.current_time() - since < 0.2:
            await anyio.sleep(0.01)
            if view.made != made:
                made, since = view.made, anyio.current_time()
    return made


def test_F11_the_first_answers_go_out_early_and_a_slow_peer_holds_the_search_back() -> None:
    view, peer = ManyStudies(MANY), Peer()
    archive: Any = FakeArchive(view)

    async def main() -> None:
        with open_context(archive) as context:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, peer, context)
                assert await settled(view) <= 50 + PAGE  # nothing was read yet: the first page, at most one ahead
                peer.reads.release()
                assert await settled(view) <= 50 + 2 * PAGE
                assert 0 < peer.answers <= BURST
                assert not view.ended
                for _ in range(8):
                    peer.reads.release()
                assert await settled(view) <= peer.answers + BURST + 2 * PAGE
                peer.cancels.add(REQUEST.message_id)
                peer.reads.release()

    anyio.run(main)
    assert peer.statuses == [0xFE00]
    assert view.ended
    assert view.made <= peer.answers + BURST + 2 * PAGE < MANY


def test_F10_a_cancel_ends_the_search_within_a_page() -> None:
    view, peer = ManyStudies(MANY), Peer()
    archive: Any = FakeArchive(view)

    async def main() -> None:
        with open_context(archive) as context:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, peer, context)
                for _ in range(12):
                    peer.reads.release()
                await settled(view)
                answered = peer.answers
                peer.cancels.add(REQUEST.message_id)
                peer.reads.release()
            assert peer.answers - answered <= BURST
        assert view.ended

    anyio.run(main)
    assert peer.statuses == [0xFE00]


def test_F11_memory_is_flat_however_many_match() -> None:
    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def run(studies: int) -> int:
        view, peer = ManyStudies(studies), Peer()
        peer.patient = True
        archive: Any = FakeArchive(view)

        async def main() -> None:
            with open_context(archive) as context:
                await ask(peer, context)

        anyio.run(main)
        assert peer.answers == studies
        return peak()

    few = run(MANY // 10)
    assert run(MANY) - few < 8 * 2**20
