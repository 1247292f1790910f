"""Random small archives and random queries that have a fair chance to match them."""

from __future__ import annotations

from hypothesis import strategies as st

from fastarchive.dicom.attributes import InformationModel, Level
from fastarchive.dicom.elements import Element, encode_sequence
from tests.query.archives import CT, MR, Instance

NAMES = (
    *("", "SMITH^JOHN", "Smith^Anna", "Smythe^J", "Müller^Jörg", "A^B^^^"),
    *("王^小东=Wang^XiaoDong", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
)
NAME_KEYS = (
    *("", "*", "SMITH*", "smith^john", "*MIT*", "?mith*", "王*", "*小?*", "Muller*", "=山田*", "*=*"),
    *("A^B", "S*^J*N", "**", "a.b[c]"),
)
DATES = ("", "20240110", "20240131", "20240201", "2024.01.10", "garbage")
DATE_KEYS = ("", "20240110", "20240101-20240131", "-20240110", "20240131-", "20240301-20240101", "2024.01.10")
TIMES = ("", "0930", "093000.5", "1200", "235959")
TIME_KEYS = ("", "0930", "0900-12", "-0930", "12-", "1000-0900")
DESCRIPTIONS = ("", "CT Thorax", "ct thorax ", "Kopf*", "胸部CT", "a\\b")
DESCRIPTION_KEYS = ("", "CT Thorax", "*thorax*", "*ORAX", "胸*", "Kop?*", "b", "*%*")
MODALITIES = ("CT", "MR", "")
MODALITY_KEYS = ("", "CT", "MR", "CT\\MR", "C*", "US", "C*\\US", "*R\\CT")
NUMBERS = ("", "1", "2", "007", "x")
NUMBER_KEYS = ("", "1", "7", "2 ")
PATIENTS = ("P1", "P2", "Ä3", "")

_shared = st.fixed_dictionaries(
    {
        "PatientName": st.sampled_from(NAMES),
        "StudyDate": st.sampled_from(DATES),
        "StudyTime": st.sampled_from(TIMES),
        "StudyDescription": st.sampled_from(DESCRIPTIONS),
        "AccessionNumber": st.sampled_from(("", "A1", "A2")),
        "TimezoneOffsetFromUTC": st.sampled_from(("", "", "+0000", "-0530", "+1300")),
    }
)
_series = st.fixed_dictionaries(
    {
        "Modality": st.sampled_from(MODALITIES),
        "SeriesNumber": st.sampled_from(NUMBERS),
        "SeriesDescription": st.sampled_from(DESCRIPTIONS),
    }
)


SETS = ("ISO_IR 192", "ISO_IR 100", "GB18030", "GBK", "\\ISO 2022 IR 87", "\\ISO 2022 IR 58", "ISO_IR 144", "")
COMMENTS = ("", "胸部 plain", "für", "a\\b", "Грудь")
COMMENT_KEYS = ("", "*", "胸*", "*R", "f?r", "a\\b", "Грудь", "x")
KVPS = ("", "120", "80.0", "80\\120")
KVP_KEYS = ("", "120", "80", "120\\7", "1")
CODES = ("A", "B", "")
MEANINGS = ("", "头", "head", "für")
CREATOR = Element(0x0009_0010, "LO", b"ACME 1.0")
REGION = 0x0008_2218  # Anatomic Region Sequence


def _code(value: str, meaning: str) -> list[Element]:
    return [Element(0x0008_0100, "SH", value.encode()), Element(0x0008_0104, "LO", meaning.encode())]


_items = st.builds(_code, st.sampled_from(CODES), st.sampled_from(MEANINGS))
_wanted_items = st.builds(_code, st.sampled_from(("A", "")), st.sampled_from(("*", "头", "h*")))


@st.composite
def header_elements(draw: st.DrawFn) -> tuple[Element, ...]:
    """What no index holds: a number, a text, a sequence, a private attribute; each may be missing."""
    more = []
    if draw(st.booleans()):
        more.append(Element(0x0018_0060, "DS", draw(st.sampled_from(KVPS)).encode()))
    if draw(st.booleans()):
        more.append(Element(0x0020_4000, "LT", draw(st.sampled_from(COMMENTS)).encode()))
    if draw(st.booleans()):
        more.append(Element(REGION, "SQ", encode_sequence(draw(st.lists(_items, max_size=2)))))
    if draw(st.booleans()):
        more += [CREATOR, Element(0x0009_1001, "LO", draw(st.sampled_from(("", "THIN", "Ä"))).encode())]
    return tuple(more)


@st.composite
def header_keys(draw: st.DrawFn) -> dict[str, str | bytes]:
    """Keys on that, by keyword."""
    keys: dict[str, str | bytes] = {}
    for keyword in draw(st.lists(st.sampled_from(("KVP", "ImageComments", "Region", "private")), max_size=3)):
        if keyword == "KVP":
            keys["KVP"] = draw(st.sampled_from(KVP_KEYS))
        elif keyword == "ImageComments":
            keys["ImageComments"] = draw(st.sampled_from(COMMENT_KEYS))
        elif keyword == "Region":
            wanted = draw(
                st.lists(st.builds(_code, st.sampled_from(("A", "")), st.sampled_from(("*", "头", "h*"))), max_size=1)
            )
            keys["AnatomicRegionSequence"] = encode_sequence(wanted)
        else:
            keys |= {"00090010": CREATOR.value, "00091001": draw(st.sampled_from((b"", b"T*", "Ä".encode())))}
    return keys


@st.composite
def archives(draw: st.DrawFn, largest: int = 12) -> list[Instance]:
    """Instances with distinct UIDs; a study belongs to one patient or tells none, a series to one study."""
    owners: dict[str, str] = {}
    said_by_study: dict[str, dict[str, str]] = {}
    said_by_series: dict[str, dict[str, str]] = {}
    instances = []
    for number in range(draw(st.integers(0, largest))):
        study = f"1.{draw(st.integers(1, 4))}"
        series = f"{study}.{draw(st.integers(1, 2))}"
        patient = owners.setdefault(study, draw(st.sampled_from(PATIENTS)))
        study_says = said_by_study.setdefault(study, draw(_shared))
        series_says = said_by_series.setdefault(series, draw(_series))
        own = {"InstanceNumber": draw(st.sampled_from(NUMBERS)), "ContentDate": draw(st.sampled_from(DATES))}
        if draw(st.booleans()):  # the first instance with a value decides
            own["PatientName"] = draw(st.sampled_from(NAMES))
        sop_class = draw(st.sampled_from((CT, MR)))
        instances.append(
            Instance(patient, study, series, f"9.{number}", {**study_says, **series_says, **own}, sop_class)
        )
    return instances


_keys: dict[str, st.SearchStrategy[str]] = {
    "PatientName": st.sampled_from(NAME_KEYS),
    "TimezoneOffsetFromUTC": st.sampled_from(("", "+0000", "+0900", "-1200")),
    "PatientID": st.sampled_from(("", "P1", "P?", "Ä3", "p1")),
    "StudyDate": st.sampled_from(DATE_KEYS),
    "StudyTime": st.sampled_from(TIME_KEYS),
    "StudyDescription": st.sampled_from(DESCRIPTION_KEYS),
    "AccessionNumber": st.sampled_from(("", "A1", "A?", "a1")),
    "StudyInstanceUID": st.sampled_from(("", "1.1", "1.1\\1.3", "1.9")),
    "ModalitiesInStudy": st.sampled_from(MODALITY_KEYS),
    "NumberOfStudyRelatedSeries": st.sampled_from(("", "1", "2")),
    "NumberOfPatientRelatedStudies": st.sampled_from(("", "1", "2")),
    "Modality": st.sampled_from(MODALITY_KEYS),
    "SeriesNumber": st.sampled_from(NUMBER_KEYS),
    "SeriesDescription": st.sampled_from(DESCRIPTION_KEYS),
    "SeriesInstanceUID": st.sampled_from(("", "1.1.1", "1.1.1\\1.2.1")),
    "InstanceNumber": st.sampled_from(NUMBER_KEYS),
    "ContentDate": st.sampled_from(DATE_KEYS),
    "SOPInstanceUID": st.sampled_from(("", "9.1", "9.1\\9.2\\9.2")),
}


@st.composite
def questions(draw: st.DrawFn) -> tuple[InformationModel, Level, dict[str, str]]:
    """A model, one of its levels, and a few keys."""
    model = draw(st.sampled_from(InformationModel))
    level = draw(st.sampled_from(model.levels))
    keywords = draw(st.lists(st.sampled_from(sorted(_keys)), max_size=4, unique=True))
    return model, level, {keyword: draw(_keys[keyword]) for keyword in keywords}
