"""The index finds everything the pure matching rules accept, for any key and any values."""

from __future__ import annotations

import pytest
import tantivy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastarchive.dicom.attributes import Level
from fastarchive.dicom.dictionary import vr_of
from fastarchive.dicom.matching import Matcher, Matching, MatchingError, MatchingOptions, compile_matcher
from fastarchive.index import paging, schema
from fastarchive.index.conditions import And, Condition, Everything, Grams, Or, Range, Term
from fastarchive.index.documents import Document, nameless_patient, patient_key
from fastarchive.index.snapshot import Snapshot
from tests.index.effort import effort

NAME, PATIENT, BIRTH = 0x00100010, 0x00100020, 0x00100030
OF_PATIENTS = [NAME, PATIENT, 0x00100040, 0x00101000, 0x00104000]
TEXTS = {Level.PATIENT: OF_PATIENTS, Level.STUDY: [0x00081030, 0x00080050, *OF_PATIENTS]}
NUMBER, TIME = 0x00200011, 0x00080031

_letters = st.text(st.sampled_from("aAäÄsSßmi小东王ｓＳéeе^=  .*?[]İıﬁ가ｶﾞя"), max_size=8)
_values = st.one_of(
    _letters,
    st.sampled_from(
        [
            "SMITH^JOHN",
            "Müller^Jürgen",
            "王^小东",
            "Wang^XiaoDong=王^小东=",
            "ＳＭＩＴＨ",
            "A^^^",
            "S",
            "小",
            "O'Neil^A^^Dr",
        ]
    ),
)
_keys = st.one_of(
    _letters,
    st.sampled_from(
        [
            "SMITH*",
            "*SMI*",
            "*ITH",
            "王*",
            "*小*",
            "S*",
            "*S",
            "?*",
            "*^J*",
            "s?i*",
            "*=王*",
            "SMITH^JOHN^^",
            " S *",
            "*",
        ]
    ),
)


def _index(documents: list[Document]) -> Snapshot:
    index = tantivy.Index(schema.SCHEMA)
    schema.register_tokenizers(index)
    writer = index.writer(15_000_000, 1)
    for number, document in enumerate(documents, 1):
        document.rowid = number
        writer.add_json(schema.index_document(document))
    writer.add_document(schema.private_document(schema.CHECKPOINT, "", _checkpoint(len(documents) + 1)))
    writer.commit()
    index.reload()
    return Snapshot(index.searcher())


def _checkpoint(next_rowid: int) -> bytes:
    from fastarchive.index.snapshot import FRESH

    return FRESH._replace(next_rowid=next_rowid).encode()


def _condition(matcher: Matcher) -> Condition:
    if matcher.alternatives:
        return Term(matcher.tag, matcher.alternatives)
    if matcher.pattern:
        return Grams(matcher.tag, matcher.pattern, matcher.anchored_start, matcher.anchored_end)
    if matcher.parts:
        parts = tuple(map(_condition, matcher.parts))
        return And(parts) if matcher.every_part else Or(parts)
    if matcher.low is not None or matcher.high is not None:
        return Range(matcher.tag, matcher.low, matcher.high)
    return Everything()


def _document(level: Level, number: int, tag: int, value: str) -> Document:
    document = Document(level, patient=f"P{number}", study=f"1.{number}", series=f"2.{number}")
    document.elements[tag] = value.encode()
    document.origins[tag] = (1, 1, 1)
    if tag == PATIENT:
        document.patient = patient_key(value.encode()) or nameless_patient(document.study)
    return document


def _found(snapshot: Snapshot, level: Level, condition: Condition) -> set[int]:
    pages = snapshot.pages(level, condition, (), 3, 4)
    return {document.rowid for page in pages for document in page}


def _check(level: Level, tag: int, values: list[str], keys: list[str]) -> None:
    documents = [_document(level, number, tag, value) for number, value in enumerate(values)]
    snapshot = _index(documents)
    for key in keys:
        for multiple in (False, True):
            try:
                matcher = compile_matcher(tag, vr_of(tag), key, MatchingOptions(multiple_value=multiple))
            except MatchingError:
                continue
            if matcher.matching is Matching.EMPTY:
                continue
            matching = {document.rowid for document in documents if matcher.matches(document.values(tag))}
            condition = _condition(matcher)
            found = _found(snapshot, level, condition)
            assert matching <= found, (key, matcher, [values[rowid - 1] for rowid in matching - found])
            assert snapshot.estimate(level, condition) >= len(found)


@settings(max_examples=effort(35, 600), deadline=None)
@given(
    st.sampled_from([(level, tag) for level, tags in TEXTS.items() for tag in tags]),
    st.lists(st.one_of(_values, st.lists(_values, max_size=3).map("\\".join)), min_size=1, max_size=12),
    st.lists(_keys, min_size=1, max_size=12),
)
@example(
    (Level.PATIENT, NAME), ["SMITH^JOHN", "ＳＭＩＴＨ^J", "王^小东", "x=y=王^小东"], ["smith*", "*小*", "王*", "*東"]
)
@example((Level.PATIENT, 0x00104000), ["x" * 1000 + "needle", "needle"], ["*needle", "x*", "*eed*"])
@example((Level.PATIENT, PATIENT), ["A\\B", "A"], ["A", "B"])
@example((Level.STUDY, PATIENT), ["A\\B", "A", "", "\x1f1"], ["A", "B", "1", "*1"])
def test_M8_texts(what: tuple[Level, int], values: list[str], keys: list[str]) -> None:
    _check(*what, values, keys)


_dates = st.one_of(
    st.dates().map(lambda day: day.strftime("%Y%m%d")),
    st.sampled_from(["2024", "202402", "2024.02.03", "x", "20240203"]),
)
_date_keys = st.one_of(
    _dates, st.tuples(_dates, _dates).map("-".join), _dates.map("-{}".format), _dates.map("{}-".format)
)


@settings(max_examples=effort(15, 400), deadline=None)
@given(
    st.sampled_from([Level.PATIENT, Level.STUDY]),
    st.lists(_dates, min_size=1, max_size=12),
    st.lists(_date_keys, min_size=1, max_size=12),
)
def test_M14_dates(level: Level, values: list[str], keys: list[str]) -> None:
    _check(level, BIRTH, values, keys)


_times = st.one_of(
    st.times().map(lambda time: time.strftime("%H%M%S.%f")), st.sampled_from(["12", "1230", "12:30:01", "123060", "x"])
)
_time_keys = st.one_of(
    _times, st.tuples(_times, _times).map("-".join), _times.map("-{}".format), _times.map("{}-".format)
)


@settings(max_examples=effort(15, 400), deadline=None)
@given(st.lists(_times, min_size=1, max_size=12), st.lists(_time_keys, min_size=1, max_size=12))
def test_M15_times(values: list[str], keys: list[str]) -> None:
    _check(Level.SERIES, TIME, values, keys)


_numbers = st.sampled_from(["7", "007", "+7", "7.0", "-7", "x", " 7 ", "7\\8", "1e1", "10", ""])


@settings(max_examples=effort(15, 400), deadline=None)
@given(st.lists(_numbers, min_size=1, max_size=8), st.lists(_numbers, min_size=1, max_size=8))
def test_M4_numbers(values: list[str], keys: list[str]) -> None:
    _check(Level.SERIES, NUMBER, values, keys)


def _names(snapshot: Snapshot, key: str) -> list[str]:
    condition = _condition(compile_matcher(NAME, "PN", key))
    pages = snapshot.pages(Level.PATIENT, condition, (), 50, 1000)
    return [document.values(NAME)[0] for page in pages for document in page]


def test_wildcards_narrow() -> None:
    names = ["SMITH^JOHN", "Schmidt^A", "王^小东", "Wang^X=王^小东", "Müller^Sofie", "", "ＳＭＩＴＨ^A"]
    snapshot = _index([_document(Level.PATIENT, number, NAME, name) for number, name in enumerate(names)])
    assert _names(snapshot, "SMITH*") == ["SMITH^JOHN", "ＳＭＩＴＨ^A"]
    assert _names(snapshot, "*SMI*") == ["SMITH^JOHN", "ＳＭＩＴＨ^A"]
    assert _names(snapshot, "S*") == ["SMITH^JOHN", "Schmidt^A", "ＳＭＩＴＨ^A"]
    assert _names(snapshot, "王*") == ["王^小东", "Wang^X=王^小东"]
    assert _names(snapshot, "*小*") == ["王^小东", "Wang^X=王^小东"]
    assert _names(snapshot, "*hn") == ["SMITH^JOHN"]
    assert _names(snapshot, "muller*") == ["Müller^Sofie"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Term(0x00080061, ("CT",)), 1),
        (Term(0x00080061, ("XX",)), 0),
        (Term(0x00080062, ("1.2", "9")), 1),
        (Term(0x0020000D, ("1.0",)), 1),
        (Term(0x00100020, ("P0",)), 1),
        (Term(0x00100010, ("P0",)), 0),
        (Term(0x00080070, ("P0",)), 1),  # not an attribute of studies: narrows nothing
        (Or(()), 0),
        (And(()), 1),
        (Range(0x00080020, 3, 2), 0),
    ],
)
def test_conditions_on_studies(condition: Condition, expected: int) -> None:
    study = _document(Level.STUDY, 0, 0x00081030, "HEAD")
    study.modalities, study.sop_classes = ("CT", "SR"), ("1.2",)
    assert len(_found(_index([study]), Level.STUDY, condition)) == expected


@pytest.mark.parametrize("many", [1000, 100_000])
def test_many_hits_come_page_by_page(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    monkeypatch.setattr(paging, "FEW", 500)
    monkeypatch.setattr(paging, "MANY", many)
    documents = [_document(Level.STUDY, number, 0x00081030, "HEAD" if number % 7 else "FOOT") for number in range(7000)]
    snapshot = _index(documents)
    for condition, expected in (
        (Everything(), 7000),
        (Grams(0x00081030, ("head",)), 6000),
        (And((Grams(0x00081030, ("head",)), Term(0x0020000D, ("1.4001", "1.4002")))), 2),
        (Or((Grams(0x00081030, ("foo",)), Grams(0x00081030, ("hea",)))), 7000),
        (And((Grams(0x00081030, ("head",)), Grams(0x00081030, ("eat",)))), 0),
    ):
        pages = list(snapshot.pages(Level.STUDY, condition, (), 50, 300))
        rowids = [document.rowid for page in pages for document in page]
        assert len(rowids) == len(set(rowids)) == expected
        assert max(map(len, pages), default=0) <= 300
        assert expected < 7000 or len(pages[0]) <= 256
