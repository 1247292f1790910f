"""Which plan a query gets, and how it is explained."""

from __future__ import annotations

import json
import re

import pytest

from fastarchive.dicom.attributes import InformationModel, Level
from fastarchive.dicom.dictionary import tag_of
from fastarchive.dicom.matching import Matching
from fastarchive.index.conditions import Everything, Grams, Term
from fastarchive.query.criteria import criteria_of
from fastarchive.query.execute import matches
from fastarchive.query.explain import CLAUSES, RULES, explain
from fastarchive.query.keywords import explained
from fastarchive.query.options import FindOptions
from fastarchive.query.plan import Lookup, Plan, Scan, Select, Walk, plan
from tests.query.archives import Instance, MemoryView, documents_of
from tests.query.identifiers import query

RELATIONAL = FindOptions(relational=True)
VIEW = MemoryView(
    documents_of(
        Instance(f"P{n}", f"1.{n}", f"1.{n}.1", f"9.{n}", {"PatientName": f"NAME^{n}", "Modality": "CT"})
        for n in range(20)
    )
)


def test_unique_keys_are_looked_up() -> None:
    found = plan(query("STUDY", StudyInstanceUID="1.2\\1.3\\1.2"), VIEW).root
    assert found.source == Lookup(Level.STUDY, ("1.2", "1.3"))
    assert found.joins == ()


def test_children_of_a_named_parent_are_scanned() -> None:
    found = plan(query("SERIES", StudyInstanceUID="1.2", Modality="CT"), VIEW).root
    assert isinstance(found.source, Scan)
    assert Term(tag_of("StudyInstanceUID"), ("1.2",)) in found.source.condition.parts  # type: ignore[union-attr]
    assert found.joins == (Level.STUDY,)


@pytest.mark.parametrize("model", [InformationModel.PATIENT_ROOT, InformationModel.STUDY_ROOT])
def test_Q6_patient_attributes_are_those_of_the_study(model: InformationModel) -> None:
    keys = {"PatientID": "P2", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.1", "PatientName": "NAME*"}
    assert plan(query("IMAGE", keys, model=model), VIEW).root.joins == (Level.STUDY, Level.SERIES)
    found = plan(query("STUDY", model=model, options=RELATIONAL, PatientName="NAME*", PatientID=""), VIEW).root
    assert found.source == Scan(Level.STUDY, Grams(tag_of("PatientName"), ("name",), anchored_start=True))
    assert found.joins == ()


def test_counts_of_the_patient_are_joined_through_the_study() -> None:
    asked = query("IMAGE", StudyInstanceUID="1.2", SeriesInstanceUID="1.2.1", NumberOfPatientRelatedStudies="")
    assert plan(asked, VIEW).root.joins == (Level.PATIENT, Level.STUDY, Level.SERIES)
    assert plan(query("STUDY", NumberOfPatientRelatedStudies=""), VIEW).root.joins == (Level.PATIENT,)
    assert plan(query("STUDY", StudyDate=""), VIEW).root.joins == ()
    narrows_nothing = query("SERIES", options=RELATIONAL, NumberOfPatientRelatedStudies="1")
    assert plan(narrows_nothing, VIEW).root.source == Scan(Level.SERIES, Everything())


def test_a_condition_above_is_walked_down_from() -> None:
    found = plan(query("IMAGE", options=RELATIONAL, PatientName="NAME^1", PatientID="P1"), VIEW).root
    assert isinstance(found.source, Walk)
    assert found.source.parents.level is Level.STUDY
    assert isinstance(found.source.parents.source, Scan)


def test_a_condition_the_index_cannot_use_is_not_walked_from() -> None:
    found = plan(query("SERIES", options=RELATIONAL, NumberOfStudyRelatedSeries="1"), VIEW).root
    assert isinstance(found.source, Scan)


def test_the_more_selective_side_drives() -> None:
    few_above = query("SERIES", options=RELATIONAL, AccessionNumber="X", Modality="CT")
    view = MemoryView(
        documents_of(
            Instance("P", f"1.{n}", f"1.{n}.1", f"9.{n}", {"AccessionNumber": "X" if n == 3 else "Y", "Modality": "CT"})
            for n in range(20)
        )
    )
    assert isinstance(plan(few_above, view).root.source, Walk)
    few_here = query("SERIES", options=RELATIONAL, AccessionNumber="Y", Modality="MR")
    assert isinstance(plan(few_here, view).root.source, Scan)


def test_explain_names_keys_and_steps() -> None:
    asked = query(
        "SERIES", model=InformationModel.STUDY_ROOT, StudyInstanceUID="1.2", Modality="C*", SeriesNumber="", KVP=""
    )
    assert explain(plan(asked, VIEW)).lines() == [
        "SERIES query in Study Root, hierarchical",
        "keys",
        "  Modality          required  matches by wild card (C.2.2.2.4, M5), index: Modality holds c…",
        "  KVP               unknown   ignored: not supported (F3)",
        "  StudyInstanceUID  unique    matches by single value (C.2.2.2.1, M3), index: StudyInstanceUID is 1.2",
        "  SeriesNumber      required  is returned (C.2.2.2.3, M1)",
        "plan",
        "  find SERIES",
        "    each has to meet Modality, StudyInstanceUID",
        "    each is joined with STUDY",
        "    search SERIES for StudyInstanceUID is 1.2 and Modality holds c…",
        "residual: none, an index narrows every matching key",
    ]


def test_explain_shows_a_walk() -> None:
    asked = query("IMAGE", options=RELATIONAL, PatientID="P1")
    (owner,) = criteria_of(asked)
    parents = Select(Scan(Level.STUDY, Term(tag_of("PatientID"), ("P1",))), (owner,), (Level.PATIENT,))
    root = Select(Walk(Level.IMAGE, parents, Everything()), (), (Level.STUDY,))
    assert explain(Plan(asked, root)).lines()[3:] == [
        "plan",
        "  find IMAGE",
        "    each is joined with STUDY",
        "    walk down to IMAGE, everything, from",
        "      find STUDY",
        "        each has to meet PatientID",
        "        each is joined with PATIENT",
        "        search STUDY for PatientID is P1",
        "residual: none, an index narrows every matching key",
    ]


def test_explain_tells_what_was_expected_and_done() -> None:
    explanation = explained(query("STUDY", PatientID="P1"), VIEW)
    lines = explanation.lines()
    assert re.fullmatch(r"  find STUDY: 1 found, 1 looked at, \d+\.\d ms", lines[4])
    assert "    search STUDY for PatientID is P1 (expected: 1)" in lines
    step = explanation.as_json()["plan"]
    assert (step["found"], step["looked_at"], step["expected"]) == (1, 1, 1)
    assert json.loads(json.dumps(explanation.as_json())) == explanation.as_json()


def test_explain_expects_of_a_walk_what_its_parents_have() -> None:
    asked = query("IMAGE", options=RELATIONAL, PatientID="P1")
    step = explained(asked, VIEW).step
    assert step.from_step is not None
    assert (step.from_step.expected, step.expected, step.found) == (1, 1, 1)


def test_explain_names_what_is_not_narrowed() -> None:
    asked = query("STUDY", StudyTime="1000-", NumberOfStudyRelatedSeries="1")
    fuzzy = query("STUDY", options=FindOptions(fuzzy=True), PatientName="JON")
    assert explain(plan(asked, VIEW)).residual == ("NumberOfStudyRelatedSeries",)
    assert explain(plan(fuzzy, VIEW)).residual == ("PatientName",)
    assert explain(plan(fuzzy, VIEW)).options == ("fuzzy names",)


def test_an_explanation_without_values_repeats_none() -> None:
    keys = {
        "PatientName": "SECRET*\\*SECRET",
        "PatientID": "SECRET",
        "StudyDate": "19470615",
        "StudyTime": "194706-1948",
        "AccessionNumber": "SECRET\\SECRET2",
        "StudyInstanceUID": "1.2.19470615",
    }
    for level in ("STUDY", "SERIES", "IMAGE"):
        asked = query(level, keys, options=RELATIONAL)
        explanation = explained(asked, VIEW, values=False)
        text = "\n".join(explanation.lines()) + json.dumps(explanation.as_json())
        assert "secret" not in text.lower()
        assert "1947" not in text


def test_explain_says_when_it_was_stopped() -> None:
    explanation = explained(query("STUDY"), VIEW, seconds=0)
    assert not explanation.complete
    assert explanation.lines()[-1].startswith("stopped before the end")
    assert explained(query("STUDY"), VIEW, seconds=60).complete


def test_every_kind_of_matching_has_its_clause() -> None:
    assert set(CLAUSES) == set(RULES) == set(Matching)


def test_explain_names_the_rule_of_the_vr_and_what_was_combined() -> None:
    keys = {"StudyDate": "20240101-20240102", "StudyTime": "1000-1100", "NumberOfStudyRelatedSeries": "1"}

    def rules(options: FindOptions) -> dict[str, str]:
        return {key.keyword: key.rule for key in explain(plan(query("STUDY", keys, options=options), VIEW)).keys}

    apart = {"StudyDate": "M14", "StudyTime": "M15", "NumberOfStudyRelatedSeries": "M4"}
    assert rules(FindOptions()) == apart
    assert rules(FindOptions(combined_datetime=True)) == {**apart, "StudyDate": "M17", "StudyTime": "M17"}


def test_a_long_list_of_uids_does_not_drive_where_another_key_is_rarer() -> None:
    view = MemoryView(
        documents_of(
            Instance("P", f"1.{n}", f"1.{n}.1", f"9.{n}", {"AccessionNumber": "X" if n == 3 else "Y"})
            for n in range(200)
        )
    )
    uids = "\\".join(f"1.{n}" for n in range(150))
    rare = plan(query("STUDY", StudyInstanceUID=uids, AccessionNumber="X"), view)
    assert rare.root.source == Scan(Level.STUDY, Term(tag_of("AccessionNumber"), ("X",)))
    assert [match.study.key for page in matches(rare, view) for match in page if match.study] == ["1.3"]
    common = plan(query("STUDY", StudyInstanceUID=uids, AccessionNumber="Y"), view)
    assert isinstance(common.root.source, Lookup)
    few = plan(query("STUDY", StudyInstanceUID="1.1\\1.3", AccessionNumber="X"), view)
    assert isinstance(few.root.source, Lookup)
