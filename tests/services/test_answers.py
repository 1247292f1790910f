"""Answers encoded straight from rows are those encoded one by one from documents, in every variant of the C code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.dicom.attributes import InformationModel, Level
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Encoding
from fastarchive.index.rows import decode_row, encode_row
from fastarchive.native import answers as native
from fastarchive.native.loading import libraries
from fastarchive.query.execute import matches
from fastarchive.query.identifier import FindQuery
from fastarchive.query.match import Match
from fastarchive.query.options import FindOptions
from fastarchive.query.plan import plan
from fastarchive.query.respond import Responder
from fastarchive.services import answers
from fastarchive.services.answers import Answerer, Answers
from fastarchive.upperlayer import frame_message
from tests.query.archives import CT, Instance, MemoryView, documents_of
from tests.query.identifiers import query
from tests.query.random_archives import archives, questions

LIBRARIES = libraries()
COMMAND: Final = b"a command set, encoded"
RETURNED: Final = {
    InformationModel.PATIENT_ROOT: ("NumberOfPatientRelatedStudies", "NumberOfPatientRelatedInstances", "PatientSex"),
    InformationModel.STUDY_ROOT: ("NumberOfStudyRelatedSeries", "ModalitiesInStudy", "SOPClassesInStudy", "StudyID"),
}
"""More than what questions() asks for, as far as it is known at or above the level."""
BELOW: Final = {
    Level.SERIES: ("NumberOfSeriesRelatedInstances", "SeriesNumber", "BodyPartExamined"),
    Level.IMAGE: ("SOPClassUID", "Rows", "ContentDate", "NumberOfFrames", "ImageComments"),
}


def stored(instances: Sequence[Instance], tail: Sequence[str] = ()) -> MemoryView:
    """A view of what an index gives; those in the tail are as they are read from records."""
    documents = documents_of(instances)
    rows = {
        level: {key: one if key in tail else decode_row(encode_row(one)) for key, one in found.items()}
        for level, found in documents.items()
    }
    return MemoryView(rows, tail)


def one_by_one(responder: Responder, found: Sequence[Match], longest: int) -> list[bytes]:
    return [frame_message(5, COMMAND, responder.identifier(match), longest) for match in found]


def apart(encoded: Answers) -> list[bytes]:
    assert encoded.part(0, encoded.count) == encoded.data
    return [encoded.part(number, number + 1) for number in range(encoded.count)]


def found_by(asked: FindQuery, view: MemoryView) -> list[Match]:
    return [match for page in matches(plan(asked, view), view) for match in page]


OPTIONS: Final = st.builds(
    FindOptions, relational=st.just(True), timezone=st.booleans(), match_unknown=st.booleans(), fuzzy=st.booleans()
)


@pytest.mark.parametrize("variant", sorted(LIBRARIES))
@settings(max_examples=150, deadline=None)
@given(
    archives(),
    st.lists(st.sampled_from([f"9.{number}" for number in range(12)] + ["1.1", "1.2.1"]), max_size=3),
    questions(),
    OPTIONS,
    st.sampled_from(["", "ISO_IR 192", "ISO_IR 100", "GB18030"]),
    st.sampled_from([EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG]),
    st.sampled_from([100, 250, 16_378, 1 << 32]),
)
def test_F4_X6_rows_answer_as_documents_do(  # noqa: PLR0917
    variant: str,
    instances: list[Instance],
    tail: list[str],
    question: tuple[InformationModel, Level, dict[str, str]],
    options: FindOptions,
    character_set: str,
    encoding: Encoding,
    longest: int,
) -> None:
    model, level, keys = question
    returned = [*RETURNED.get(model, ()), *BELOW.get(level, ())]
    given_keys: dict[str, str | bytes | int] = {**dict.fromkeys(returned, ""), **keys}
    asked = query(level.value, given_keys, model=model, options=options, character_set=character_set)
    view = stored(instances, tail)
    responder = Responder(asked, encoding, "ARCHIVE")
    found = found_by(asked, view)
    expected = one_by_one(responder, found, longest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "encode_answers", native.encoder(LIBRARIES[variant]))
        got = Answerer(responder, level.depth, COMMAND, 5, longest).answers(found)
    assert apart(got) == expected


def test_most_answers_come_from_rows() -> None:
    """The comparison above is of two ways, not of one with itself."""
    shared: dict[str, str | bytes] = {"PatientName": "Jérôme", "StudyDate": "20240110", "Modality": "CT"}
    view = stored(
        [Instance("P1", "1.1", "1.1.1", f"9.{n}", {**shared, "InstanceNumber": str(n)}, CT) for n in range(9)]
    )
    keys: dict[str, str | bytes | int] = {"PatientName": "", "InstanceNumber": "", "NumberOfStudyRelatedInstances": ""}
    asked = query("IMAGE", {"StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.1", **keys})
    responder = Responder(asked, EXPLICIT_LITTLE, "ARCHIVE")
    how = responder.row_template
    assert how is not None
    assert native.encode_answers is not None
    found = found_by(asked, view)
    rows = [encode_row(match.image) for match in found if match.image is not None]
    framing = native.Framing(frame_message(5, COMMAND, None, 1000), 5, 1000)
    data, ends = native.encode_answers(rows, how.template, how.values_above(found[0]), framing)
    assert len(set(ends)) == 9
    assert data == b"".join(one_by_one(responder, found, 1000))


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(["PATIENT", "STUDY", "SERIES", "IMAGE"]))
def test_rows_that_are_damaged_harm_nobody(data: st.DataObject, level: str) -> None:
    """Whatever bytes a row has, the answers with the rows beside it are right."""
    documents = documents_of([Instance("P1", "1.1", "1.1.1", "9.1", {"PatientName": "A^B", "Modality": "CT"}, CT)])
    row = encode_row(next(iter(documents[Level(level)].values())))
    if data.draw(st.booleans()):
        bad = row[: data.draw(st.integers(0, len(row)))]
    else:
        spoilt = bytearray(row)
        for _ in range(data.draw(st.integers(1, 4))):
            spoilt[data.draw(st.integers(0, len(row) - 1))] = data.draw(st.sampled_from([0, 1, 3, 0x7F, 0xFF]))
        bad = bytes(spoilt)
    model = InformationModel.PATIENT_ROOT
    asked = query(level, dict.fromkeys(RETURNED[model], ""), model=model, options=FindOptions(relational=True))
    how = Responder(replace(asked), EXPLICIT_LITTLE, "ARCHIVE").row_template
    assert how is not None
    above = [b"value"] * len(how.above)
    framing = native.Framing(frame_message(5, COMMAND, None, 1000), 5, 1000)
    for path in LIBRARIES.values():
        encode = native.encoder(path)
        (alone, (end,)) = encode([row], how.template, above, framing)
        assert end
        together, ends = encode([row, bad, row], how.template, above, framing)
        assert together[: ends[0]] == alone
        assert together[ends[1] :] == alone
