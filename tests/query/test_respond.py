"""What an answer holds (rules F3–F5, F7, F8, Q7, X6)."""

from __future__ import annotations

import pytest
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset

from fastarchive.dicom.attributes import InformationModel, Level
from fastarchive.dicom.dictionary import tag_of
from fastarchive.dicom.elements import Element, encode, walk
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Encoding
from fastarchive.query.execute import matches
from fastarchive.query.identifier import FindQuery, parse_find
from fastarchive.query.match import Match
from fastarchive.query.options import FindOptions
from fastarchive.query.plan import plan
from fastarchive.query.respond import Responder
from tests.query.archives import CT, MR, Instance, MemoryView, documents_of
from tests.query.identifiers import identifier, query

ENCODINGS = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG)


def an_archive(**attributes: str | bytes) -> MemoryView:
    shared = {"PatientName": "Yamada^Tarou", "StudyDate": "20240110", "Modality": "CT", **attributes}
    return MemoryView(
        documents_of(
            [
                Instance("P1", "1.1", "1.1.1", "1.1.1.1", {**shared, "InstanceNumber": "1", "Rows": b"\x80\0"}),
                Instance("P1", "1.1", "1.1.2", "1.1.2.1", {**shared, "Modality": "MR"}, MR),
            ]
        )
    )


def answers(asked: FindQuery, view: MemoryView, encoding: Encoding = EXPLICIT_LITTLE) -> list[bytes]:
    responder = Responder(asked, encoding, "ARCHIVE")
    return [responder.identifier(match) for page in matches(plan(asked, view), view) for match in page]


def decoded(data: bytes, encoding: Encoding = EXPLICIT_LITTLE) -> Dataset:
    """As pydicom reads it."""
    return read_dataset(DicomBytesIO(data), not encoding.explicit, encoding.little)


def values(data: bytes, encoding: Encoding = EXPLICIT_LITTLE) -> dict[int, bytes]:
    elements = list(walk(data, encoding))
    assert [element.tag for element in elements] == sorted({element.tag for element in elements})
    return {element.tag: element.value for element in elements}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_F4_every_requested_attribute_is_present(encoding: Encoding) -> None:
    asked = query(
        "IMAGE",
        StudyInstanceUID="1.1",
        SeriesInstanceUID="1.1.1",
        InstanceNumber="",
        Rows=b"",
        PatientName="",
        PatientBirthDate="",
        ContentDate="",
    )
    (answer,) = answers(asked, an_archive(), encoding)
    found = values(answer, encoding)
    assert {tag: found[tag] for tag in (tag_of("PatientBirthDate"), tag_of("ContentDate"))} == {
        tag_of("PatientBirthDate"): b"",
        tag_of("ContentDate"): b"",
    }
    data_set = decoded(answer, encoding)
    assert data_set.Rows == 128
    assert data_set.PatientName == "Yamada^Tarou"
    assert data_set.InstanceNumber == 1
    assert data_set.StudyInstanceUID == "1.1"
    requested = {key.tag for key in asked.keys}
    assert set(found) == requested | {tag_of("QueryRetrieveLevel"), tag_of("RetrieveAETitle")}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_F5_level_and_retrieve_ae_title_are_always_there(encoding: Encoding) -> None:
    (answer,) = answers(query("STUDY"), an_archive(), encoding)
    assert values(answer, encoding) == {
        tag_of("QueryRetrieveLevel"): b"STUDY ",
        tag_of("RetrieveAETitle"): b"ARCHIVE ",
    }


def test_F7_availability_when_requested() -> None:
    (answer,) = answers(query("STUDY", InstanceAvailability=""), an_archive())
    assert decoded(answer).InstanceAvailability == "ONLINE"


def test_F8_counts_and_lists() -> None:
    (answer,) = answers(
        query(
            "STUDY",
            ModalitiesInStudy="",
            SOPClassesInStudy="",
            NumberOfStudyRelatedSeries="",
            NumberOfStudyRelatedInstances="",
            NumberOfPatientRelatedStudies="",
        ),
        an_archive(),
    )
    data_set = decoded(answer)
    assert sorted(data_set.ModalitiesInStudy) == ["CT", "MR"]
    assert sorted(data_set.SOPClassesInStudy) == sorted([CT, MR])
    assert data_set.NumberOfStudyRelatedSeries == 2
    assert data_set.NumberOfStudyRelatedInstances == 2
    assert data_set.NumberOfPatientRelatedStudies == 1


def test_F3_status_says_whether_every_key_was_supported() -> None:
    assert Responder(query("STUDY", PatientName=""), EXPLICIT_LITTLE, "A").pending_status == 0xFF00
    assert Responder(query("STUDY", Modality=""), EXPLICIT_LITTLE, "A").pending_status == 0xFF01
    assert Responder(query("STUDY", KVP=""), EXPLICIT_LITTLE, "A").pending_status == 0xFF01


def test_F4_unsupported_attributes_are_absent() -> None:
    (answer,) = answers(query("STUDY", KVP="", Modality=""), an_archive())
    assert set(values(answer)) == {tag_of("QueryRetrieveLevel"), tag_of("RetrieveAETitle")}


def test_Q7_group_lengths_are_not_echoed() -> None:
    data = identifier("STUDY", PatientName="")
    with_group_length = encode([*walk(data, EXPLICIT_LITTLE), Element(0x0010_0000, "UL", bytes(4))], EXPLICIT_LITTLE)
    asked = parse_find(with_group_length, EXPLICIT_LITTLE, InformationModel.STUDY_ROOT)
    assert 0x0010_0000 not in values(answers(asked, an_archive())[0])


@pytest.mark.parametrize(
    ("asked_in", "name", "expected"),
    [
        ("", "Yamada^Tarou", None),
        ("ISO_IR 100", "Yamada^Tarou", None),
        ("", "Müller^Jörg", "ISO_IR 192"),
        ("ISO_IR 100", "Müller^Jörg", "ISO_IR 100"),
        ("ISO_IR 100", "王^小东", "ISO_IR 192"),
        ("GB18030", "王^小东", "GB18030"),
        ("ISO_IR 192", "王^小东", "ISO_IR 192"),
        ("ISO_IR 144", "Люкceмбypг", "ISO_IR 144"),
    ],
)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_X6_character_set_of_the_answer(asked_in: str, name: str, expected: str | None, encoding: Encoding) -> None:
    asked = query("STUDY", character_set=asked_in, PatientName="", StudyDate="")
    (answer,) = answers(asked, an_archive(PatientName=name), encoding)
    data_set = decoded(answer, encoding)
    assert data_set.get("SpecificCharacterSet") == expected
    data_set.decode()
    assert data_set.PatientName == name
    assert data_set.StudyDate == "20240110"
    assert all(len(value) % 2 == 0 for value in values(answer, encoding).values())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_long_and_odd_values(encoding: Encoding) -> None:
    view = an_archive(PatientComments="c" * 3_001, PatientID="P1", StudyDescription="odd")
    (answer,) = answers(query("STUDY", PatientComments="", StudyDescription=""), view, encoding)
    data_set = decoded(answer, encoding)
    assert data_set.PatientComments == "c" * 3_001
    assert data_set.StudyDescription == "odd"


def test_M18_times_are_answered_in_the_zone_of_the_query() -> None:
    view = an_archive(StudyDate="20240131", StudyTime="2330", TimezoneOffsetFromUTC="+0000")
    keys = {"StudyDate": "", "StudyTime": "", "TimezoneOffsetFromUTC": "+0100"}
    (moved,) = answers(query("STUDY", keys, options=FindOptions(timezone=True)), view)
    assert (decoded(moved).StudyDate, decoded(moved).StudyTime) == ("20240201", "0030")
    assert decoded(moved).TimezoneOffsetFromUTC == "+0100"
    (plain,) = answers(query("STUDY", keys), view)
    assert (decoded(plain).StudyDate, decoded(plain).StudyTime) == ("20240131", "2330")
    assert decoded(plain).TimezoneOffsetFromUTC == "+0000"


def test_an_entity_without_its_parents_is_still_answered() -> None:
    image = documents_of([Instance("P", "1", "2", "3")])[Level.IMAGE]["3"]
    asked = query("IMAGE", StudyInstanceUID="1", SeriesInstanceUID="2", PatientName="", SOPInstanceUID="")
    data_set = decoded(Responder(asked, EXPLICIT_LITTLE, "A").identifier(Match(image=image)))
    assert data_set.SOPInstanceUID == "3"
    assert data_set.StudyInstanceUID == ""
