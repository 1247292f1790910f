"""An archive to which anything may happen: at every moment plans find what brute force finds in what it was told.

Instances come in mixed character sets and are sent again, the same or different; studies, series and instances are
deleted and sent anew; the index commits now and then, often enough that its segments are merged. Queries are asked of
the archive as it is and of moments of it that were kept.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from fastarchive.admission import Outcome
from fastarchive.archive import Archive
from fastarchive.dicom.attributes import InformationModel, Level
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from fastarchive.index.view import View
from fastarchive.index.writer import IndexWriter
from fastarchive.query.execute import matches
from fastarchive.query.headers import HeaderReader
from fastarchive.query.identifier import FindQuery
from fastarchive.query.match import LookedUp
from fastarchive.query.options import FindOptions
from fastarchive.query.plan import plan
from fastarchive.upkeep.deletion import delete, make_plan
from fastarchive.upkeep.selection import select
from tests.folders import remove
from tests.query.archives import CT, MR, Instance
from tests.query.brute_force import bare, brute_force, found_by_plan, header_answers, identity_of
from tests.query.identifiers import query
from tests.query.random_archives import SETS, archives, header_elements, header_keys, questions

KEPT: Final = 3
SEGMENTS: Final = 9
"""Commits after which segments are merged: more than eight of a size are."""
OWNERS: Final = {"1.1": "P1", "1.2": "P1", "1.3": "Ä3", "1.4": ""}

OPTIONS = st.builds(
    FindOptions,
    relational=st.just(True),
    combined_datetime=st.booleans(),
    fuzzy=st.booleans(),
    timezone=st.booleans(),
    empty_value=st.booleans(),
    multiple_value=st.booleans(),
    match_unknown=st.booleans(),
    headers=st.just(True),
)
SCOPES: Final[Mapping[str, Mapping[str, str]]] = {
    "": {},
    "studies": {"StudyInstanceUID": "1.1\\1.2\\1.4"},
    "patient": {"PatientID": "P1"},
}
EVERY_HEADER: Final[Mapping[str, str | bytes]] = {
    "StudyInstanceUID": "1.1\\1.2\\1.3\\1.4",
    **{"KVP": "", "ImageComments": "", "AnatomicRegionSequence": b"", "00090010": b"ACME 1.0", "00091001": b""},
}
QUESTIONS: Final = st.tuples(questions(), header_keys(), OPTIONS, st.sampled_from(sorted(SCOPES)))
Question = tuple[tuple[InformationModel, Level, dict[str, str]], dict[str, str | bytes], FindOptions, str]
SOAK: Final = bool(os.environ.get("FASTARCHIVE_SOAK"))
MANY: Final = 150


def as_told(instance: Instance, **changes: Any) -> Instance:
    """An instance of one of four studies, each of which is always said to be of the same patient."""
    return replace(instance, patient=OWNERS[instance.study], **changes)


class ArchiveMachine(RuleBasedStateMachine):
    """``told`` is all the archive ought to hold, in the order in which it was received."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="fastarchive-random-"))
        self.archive = Archive.open(self.directory, write_index=False)
        self.writer = IndexWriter(self.directory)
        self.told: list[Instance] = []
        self.known: list[Instance] = []
        self.moments: list[tuple[View, list[Instance]]] = []

    def teardown(self) -> None:
        self.writer.close()
        self.archive.close()
        remove(self.directory)

    @initialize(some=archives(8), data=st.data())
    def begin(self, some: list[Instance], data: st.DataObject) -> None:
        for instance in some:
            self.send_any(instance, data)

    def send_any(self, instance: Instance, data: st.DataObject, **changes: Any) -> None:
        """Send an instance with whatever header, in whatever character set."""
        more, character_set = data.draw(header_elements()), data.draw(st.sampled_from(SETS))
        self.send(as_told(instance, more=more, character_set=character_set, **changes))

    def send(self, instance: Instance) -> None:
        """Send an instance, and remember it if the archive ought to."""
        receipt = self.archive.store(instance.data_set(), transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN)
        known = next((one for one in self.told if one.uid == instance.uid), None)
        if known is None:
            assert receipt.outcome is Outcome.STORED
            self.told.append(instance)
            self.known.append(instance)
        else:
            same = known.data_set() == instance.data_set()
            assert receipt.outcome is (Outcome.ALREADY_PRESENT if same else Outcome.CONFLICT_KEPT_FIRST)

    @rule(some=archives(4), number=st.integers(20, 60), data=st.data())
    def store(self, some: list[Instance], number: int, data: st.DataObject) -> None:
        for place, instance in enumerate(some):
            self.send_any(instance, data, uid=f"9.{number + place}")

    @precondition(lambda self: self.known)
    @rule(data=st.data(), different=st.booleans())
    def send_again(self, data: st.DataObject, different: bool) -> None:
        instance = data.draw(st.sampled_from(self.known))
        self.send(as_told(instance, sop_class=MR if instance.sop_class == CT else CT) if different else instance)

    @precondition(lambda self: self.told)
    @rule(data=st.data(), level=st.sampled_from((Level.STUDY, Level.SERIES, Level.IMAGE)))
    def delete(self, data: st.DataObject, level: Level) -> None:
        one = data.draw(st.sampled_from(self.told))
        name = {Level.STUDY: one.study, Level.SERIES: one.series, Level.IMAGE: one.uid}[level]
        view = self.archive.view()
        delete(self.directory, make_plan(view, select(view, level, [name])), reason="by chance")
        self.told = [each for each in self.told if name not in (each.study, each.series, each.uid)]

    @rule()
    def commit(self) -> None:
        self.writer.finish()

    @rule(some=archives(2))
    def commit_often(self, some: list[Instance]) -> None:
        """Small commits, one after another, until segments are merged."""
        for number in range(SEGMENTS):
            if some:
                self.send(as_told(some[number % len(some)], uid=f"9.{70 + number}"))
            self.writer.finish()

    @rule()
    def keep_this_moment(self) -> None:
        self.moments = [*self.moments[1 - KEPT :], (self.archive.view(), list(self.told))]

    @rule(asked=st.lists(QUESTIONS, min_size=3, max_size=6))
    def ask(self, asked: list[Question]) -> None:
        for (model, level, keys), in_headers, options, scope in asked:
            named = {"PatientID": "P1"} if scope and level is Level.PATIENT else SCOPES[scope]
            question = query(level, {**keys, **in_headers, **named}, model=model, options=options)
            self.check_all(question)
        for level in (Level.STUDY, Level.SERIES, Level.IMAGE):
            self.check_all(query(level.value, EVERY_HEADER, options=FindOptions(relational=True, headers=True)))

    def check_all(self, question: FindQuery) -> None:
        """Ask the archive as it is, and moments of it."""
        for view, told in (*self.moments, (self.archive.view(), self.told)):
            self.check(question, view, told)

    def check(self, question: FindQuery, view: View, told: list[Instance]) -> None:
        """Each match once, none too many, none missing, and with the answers of the right headers."""
        expected = brute_force(question, told)
        answers = header_answers(question, told) if question.header_keys else {}
        found = set()
        for page in matches(plan(question, view), view, headers=HeaderReader(self.archive.header_of, most=0)):
            for match in page:
                name = identity_of(match, question.level)
                assert name not in found
                found.add(name)
                if isinstance(match, LookedUp):
                    assert {tag: bare(one) for tag, one in match.header.items()} == answers[name]
        assert found == expected


ArchiveMachine.TestCase.settings = settings(
    max_examples=MANY if SOAK else 8,
    stateful_step_count=40 if SOAK else 14,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
test_whatever_happens_to_an_archive = ArchiveMachine.TestCase


def test_queries_during_commits_and_merges(tmp_path: Path) -> None:
    """While instances come in and the index commits all the time: whatever was acknowledged before a query is found,
    nothing twice, and nothing that was not sent."""
    acknowledged: list[str] = []
    failures: list[BaseException] = []
    with Archive.open(tmp_path / "data", commit_seconds=0.005) as archive:

        def ingest() -> None:
            try:
                for number in range(150):
                    study = f"1.{number % 4 + 1}"
                    one = Instance(OWNERS[study], study, f"{study}.1", f"9.{number}", {"PatientName": "SMITH^JOHN"})
                    archive.store(one.data_set(), transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN)
                    acknowledged.append(one.uid)
            except BaseException as error:
                failures.append(error)

        sender = threading.Thread(target=ingest)
        sender.start()
        options = FindOptions(relational=True)
        asked = [
            query("IMAGE", {"PatientName": "smith*"}, options=options),
            query("IMAGE", {"StudyInstanceUID": "1.1\\1.2\\1.3\\1.4"}, options=options),
            query("IMAGE", {}, options=options),
        ]
        rounds = 0
        while sender.is_alive() or rounds < len(asked):
            before = set(acknowledged)
            view = archive.view()
            found = found_by_plan(asked[rounds % len(asked)], view)
            assert len(found) == len(set(found)) == view.counts()[Level.IMAGE]
            assert before <= set(found)
            rounds += 1
        sender.join()
        assert not failures
        assert set(found_by_plan(asked[0], archive.view())) == set(acknowledged)
        assert rounds > 10
