"""The same small archive and the same questions put to dcmqrscp and to Orthanc: every difference has its reason here.

A peer that agrees where a difference is listed fails the test as well, so that the tables stay true.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import pytest

from bench.peers import Dcmqrscp, Fastarchive, Peer
from bench.requestor import PATIENT_ROOT_FIND, STUDY_ROOT_FIND, Context
from fastarchive.dicom.attributes import UNIQUE_KEYS, Level
from fastarchive.dicom.elements import walk
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE
from tests.docs.example_archive import MUELLER, SMITHERS, Patient, Series, Study, images, images_of
from tests.peers import conftest
from tests.query.identifiers import identifier

ODD_STUDIES: Final = (
    # No time at all, description in lower case with characters that mean something elsewhere.
    Study(21, SMITHERS, "20240501", "", "B-[1]_%", "ct chest", (Series("CT", "", 1),)),
    # A name that is written out with empty components, in another case.
    Study(22, Patient("P1004", "smith^jane^^^", "", "F", ""), "20240502", "235959.5", "B2", "", (Series("MR", "", 1),)),
    # An accession number with spaces in it.
    Study(23, MUELLER, "20241231", "000000", "B 3", "Thorax", (Series("CR", "", 1),)),
)


@dataclass(frozen=True)
class Question:
    """One query; ``keys`` without Query/Retrieve Level and Specific Character Set, which is UTF-8."""

    level: str
    keys: Mapping[str, str]
    model: str = STUDY_ROOT_FIND


def study(**keys: str) -> Question:
    """A query for studies."""
    return Question("STUDY", {"StudyInstanceUID": "", **keys})


QUESTIONS: Final[dict[str, Question]] = {
    "universal": study(),
    "M3 accession number": study(AccessionNumber="A0012"),
    "M3 case of accession number": study(AccessionNumber="a0012"),
    "M3 case of description": study(StudyDescription="CT Chest"),
    "M3 case of name": study(PatientName="smith^john"),
    "M3 name in part": study(PatientName="SMITH"),
    "M4 padded key": study(PatientID="P1001 "),
    "M4 number with zeros": Question("SERIES", {"StudyInstanceUID": "1.2.3.11", "SeriesNumber": "001"}),
    "M5 wild card": study(PatientName="SMITH*"),
    "M5 wild card inside": study(PatientName="S*N"),
    "M5 question mark": study(PatientID="P100?"),
    "M5 question marks": study(PatientID="P?0?1"),
    "M5 wild card and case": study(StudyDescription="ct*"),
    "M5 wild card in a UID": study(StudyInstanceUID="1.2.3.1*"),
    "M6 star": study(AccessionNumber="*"),
    "M7 brackets": study(AccessionNumber="B-[1]_%"),
    "M7 brackets with a wild card": study(AccessionNumber="B-[1]*"),
    "M7 underscore": study(AccessionNumber="A001_"),
    "M7 percent": study(AccessionNumber="A%"),
    "M8 one character": study(PatientName="王^小?"),
    "M9 ideographic group": study(PatientName="=王^小明"),
    "M9 group alone": study(PatientName="王^小明"),
    "M10 empty components": study(PatientName="SMITH^JOHN^^^"),
    "M10 stored empty components": study(PatientName="SMITH^JANE"),
    "M11 list": study(StudyInstanceUID="1.2.3.11\\1.2.3.15\\1.2.3.99"),
    "M11 list with repetition": study(StudyInstanceUID="1.2.3.11\\1.2.3.11"),
    "M12 list": study(ModalitiesInStudy="MR\\US"),
    "M12 list of accession numbers": study(AccessionNumber="A0011\\A0012"),
    "M13 one of several": study(ModalitiesInStudy="PT"),
    "M14 dates": study(StudyDate="20240116-20240118"),
    "M14 until": study(StudyDate="-20240115"),
    "M14 from": study(StudyDate="20240501-"),
    "M14 one date": study(StudyDate="20240320"),
    "M14 reversed": study(StudyDate="20240118-20240116"),
    "M15 times": study(StudyTime="080000-093000"),
    "M15 hours": study(StudyTime="08-09"),
    "M15 last second": study(StudyTime="235959-"),
    "M17 dates and times": study(StudyDate="20240116-20240117", StudyTime="230000-120000"),
    "M21 no accession number": study(AccessionNumber="A*"),
    "M21 no time": study(StudyDate="20240501", StudyTime="000000-235959"),
    "M23 old date": study(StudyDate="2024.01.15"),
    "X5 character set": study(StudyDescription="*平扫*"),
    "accents": study(PatientName="MULLER*"),
    "accents as stored": study(PatientName="Müller*"),
    "Q5 key below the level": study(Modality="MR"),
    "series": Question("SERIES", {"StudyInstanceUID": "1.2.3.15", "SeriesInstanceUID": ""}),
    "series of a modality": Question("SERIES", {"StudyInstanceUID": "1.2.3.15", "Modality": "PT"}),
    "images": Question("IMAGE", {"StudyInstanceUID": "1.2.3.11", "SeriesInstanceUID": "1.2.3.11.1"}),
    "image of a number": Question(
        "IMAGE", {"StudyInstanceUID": "1.2.3.11", "SeriesInstanceUID": "1.2.3.11.1", "InstanceNumber": "2"}
    ),
    "Q3 series without study": Question("SERIES", {"Modality": "CT"}),
    "Q3 study list above": Question("SERIES", {"StudyInstanceUID": "1.2.3.11\\1.2.3.12"}),
    "Q1 no level": Question("", {"StudyInstanceUID": "1.2.3.11"}),
    "Q1 no such level": Question("INSTANCE", {"StudyInstanceUID": "1.2.3.11"}),
    "Q2 patients in Study Root": Question("PATIENT", {"PatientID": "P1001"}),
    "patients": Question("PATIENT", {"PatientName": "*"}, PATIENT_ROOT_FIND),
    "patients by name": Question("PATIENT", {"PatientName": "*SMITH*"}, PATIENT_ROOT_FIND),
    "studies of a patient": Question("STUDY", {"PatientID": "P1001"}, PATIENT_ROOT_FIND),
    "Q3 studies of nobody in Patient Root": Question("STUDY", {"StudyDate": "20240115"}, PATIENT_ROOT_FIND),
    "header key that no study has": study(SliceThickness="5", PatientID="P1001"),
    "header key in every study": study(SliceThickness="5"),
    "header key of a patient's studies": study(PhotometricInterpretation="MONOCHROME2", PatientID="P1001"),
    "header key of series": Question("SERIES", {"StudyInstanceUID": "1.2.3.11", "PhotometricInterpretation": "MONO*"}),
    "header key no series meets": Question(
        "SERIES", {"StudyInstanceUID": "1.2.3.11", "PhotometricInterpretation": "RGB"}
    ),
    "header key of images": Question(
        "IMAGE",
        {"StudyInstanceUID": "1.2.3.11", "SeriesInstanceUID": "1.2.3.11.1", "PhotometricInterpretation": "MONO*"},
    ),
}

_AS_ONE_TEXT: Final = "compares the name as one text, component groups and all; here each group is compared (M9)"
_AS_WRITTEN: Final = "compares names as they are written; here empty components at the end don't count (M10)"
_ACCENTS: Final = "accents count; C.2.2.2.1 leaves that to the archive"
_NUMBER_TEXT: Final = "compares IS as text, so 001 is not 1; here numbers are numbers (M4)"
_NO_MODALITIES: Final = "doesn't know Modalities in Study and ignores the key"
_NO_HEADERS: Final = "doesn't know attributes that aren't in its index and ignores the key"
_LENIENT: Final = "searches relationally without negotiation; the baseline is hierarchical (C.4.1.2.1)"

DIFFERENCES: Final[dict[str, dict[str, str]]] = {
    "dcmqrscp": {
        "M3 case of name": "case counts in names; C.2.2.2.1 leaves that to the archive",
        "M4 number with zeros": _NUMBER_TEXT,
        "M5 wild card": "case counts in names: smith^jane is missing",
        "M8 one character": _AS_ONE_TEXT,
        "M9 ideographic group": _AS_ONE_TEXT,
        "M9 group alone": _AS_ONE_TEXT,
        "M10 empty components": _AS_WRITTEN,
        "M10 stored empty components": _AS_WRITTEN + "; and case counts",
        "M12 list": _NO_MODALITIES,
        "M12 list of accession numbers": "takes the list as one text with a backslash in it; undefined without byte 7",
        "M13 one of several": _NO_MODALITIES,
        "M15 hours": "takes the end 09 as 09:00:00: the study of 09:30 is missing; here it is the whole hour",
        "accents": _ACCENTS,
        "Q3 study list above": "takes a list of UIDs above the level of the query, which C.4.1.2.1 doesn't have",
        "patients by name": "case counts in names: smith^jane is missing",
        "header key that no study has": _NO_HEADERS,
        "header key no series meets": _NO_HEADERS,
    },
    "orthanc": {
        "M4 number with zeros": _NUMBER_TEXT,
        "M5 wild card in a UID": "refuses the query; here a UID with a star is one that nothing has (M5)",
        "M8 one character": _AS_ONE_TEXT,
        "M9 ideographic group": _AS_ONE_TEXT,
        "M9 group alone": _AS_ONE_TEXT,
        "M10 empty components": _AS_WRITTEN,
        "M10 stored empty components": _AS_WRITTEN,
        "M15 hours": "compares times as text: 093000 and even 090000 come after the end 09",
        "M23 old date": "doesn't read dates with dots, which PS3.5 6.2 lets an archive do",
        "accents": _ACCENTS,
        "Q3 series without study": _LENIENT,
        "Q3 study list above": _LENIENT,
        "Q3 studies of nobody in Patient Root": _LENIENT,
        "Q1 no such level": "takes INSTANCE for IMAGE; C.6.2.1 has no such level",
        "Q2 patients in Study Root": "answers at a level Study Root doesn't have",
        "Q5 key below the level": "finds no Modality in a study and so no study; here the key is ignored, with FF01",
        "header key in every study": "reads every header; here it is ignored, with FF01, where nothing is named",
    },
}
"""Peer → question → why it answers something else."""

Answers = dict[str, tuple[str, list[str]]]


def answers_of(peer: Peer) -> Answers:
    """Question → "success" or "failure", and the unique keys of the entities found, in order."""
    found: Answers = {}
    for name, question in QUESTIONS.items():
        level = Level.__members__.get(question.level, Level.STUDY)
        keys = {**dict.fromkeys([_KEYWORDS[level]], ""), **question.keys}
        data = identifier(question.level or None, keys, character_set="ISO_IR 192")
        with peer.associate(Context(question.model), timeout=20) as association:
            answer = association.find(question.model, data)
        uids = sorted(_value(one, UNIQUE_KEYS[level]) for one in answer.identifiers)
        found[name] = ("success" if answer.response.status == 0 else "failure", uids)
    return found


_KEYWORDS: Final = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}


def _value(data: bytes, tag: int) -> str:
    values = {element.tag: element.value for element in walk(data, EXPLICIT_LITTLE)}
    return values.get(tag, b"").decode().strip(" \0")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Answers]]:
    """The answers of all three, each filled with the same images over the network."""
    folder = tmp_path_factory.mktemp("differential")
    peers: dict[str, Peer] = {
        "fastarchive": Fastarchive(folder / "fastarchive", workers=1),
        "dcmqrscp": Dcmqrscp(folder / "dcmqrscp"),
        "orthanc": conftest.TestedOrthanc(folder / "orthanc"),
    }

    def ask(peer: Peer) -> Answers:
        with peer:
            instances = [*images(), *(image for odd in ODD_STUDIES for image in images_of(odd))]
            contexts = [Context(uid) for uid in sorted({image.sop_class for image in instances})]
            with peer.associate(*contexts) as association:
                for image in instances:
                    stored = association.store(
                        image.sop_class, image.sop_instance, "1.2.840.10008.1.2.1", image.data_set
                    )
                    assert stored.status == 0, (peer.name, image.sop_instance, stored)
            return answers_of(peer)

    with ThreadPoolExecutor(len(peers)) as pool:
        yield dict(zip(peers, pool.map(ask, peers.values()), strict=True))


@pytest.mark.parametrize("peer", DIFFERENCES)
@pytest.mark.parametrize("question", QUESTIONS)
def test_differences(answers: dict[str, Answers], peer: str, question: str) -> None:
    ours, theirs = answers["fastarchive"][question], answers[peer][question]
    reason = DIFFERENCES[peer].get(question)
    if reason is None:
        assert theirs == ours, f"{peer} answers {theirs}, fastarchive {ours}"
    else:
        assert theirs != ours, f"{peer} answers the same now; listed: {reason}"


def test_every_difference_is_about_a_question() -> None:
    for table in DIFFERENCES.values():
        assert set(table) <= set(QUESTIONS)
