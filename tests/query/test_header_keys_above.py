"""Keys the index does not hold, asked of series, studies and patients: who speaks for them, and within which bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastarchive.archive import Archive
from fastarchive.dicom.attributes import InformationModel, Level
from fastarchive.dicom.dictionary import keyword_of, tag_of, vr_of
from fastarchive.dicom.elements import Element, encode, encode_sequence
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE, EXPLICIT_VR_LITTLE_ENDIAN
from fastarchive.query.execute import matches
from fastarchive.query.explain import explain
from fastarchive.query.headers import HeaderReader, TooManyHeaders
from fastarchive.query.identifier import FindQuery, Use
from fastarchive.query.match import LookedUp
from fastarchive.query.options import FindOptions
from fastarchive.query.plan import Trace, plan
from fastarchive.upkeep.deletion import delete, make_plan
from fastarchive.upkeep.selection import select
from tests.query.identifiers import query

LOOKING = FindOptions(headers=True, relational=True)


def element(keyword: str, value: str | bytes) -> Element:
    tag = tag_of(keyword)
    return Element(tag, vr_of(tag), value if isinstance(value, bytes) else value.encode())


def store(archive: Archive, uid: str, **more: str | bytes) -> None:
    """An instance 1.<study>.<series>.<number> of patient P<study>; the studies 1.2 and 1.3 are of one patient."""
    _, study, series, _ = uid.split(".")
    given = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "SOPInstanceUID": uid,
        "StudyInstanceUID": f"1.{study}",
        "SeriesInstanceUID": f"1.{study}.{series}",
        "PatientID": f"P{min(int(study), 2)}",
        **more,
    }
    elements = [element(keyword, value) for keyword, value in given.items()]
    archive.store(encode(elements, EXPLICIT_LITTLE), transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    region = encode_sequence([[element("CodeValue", "HEAD")]])
    with Archive.open(tmp_path_factory.mktemp("above") / "data", commit_seconds=60) as archive:
        store(archive, "1.1.1.1", KVP="120", ImageComments="erste für")
        store(archive, "1.1.1.2", KVP="80", ImageComments="second", SliceThickness="5")
        store(archive, "1.1.2.1", KVP="", SliceThickness="1", AnatomicRegionSequence=region)
        store(archive, "1.2.1.1", KVP="100")
        store(archive, "1.3.1.1", SliceThickness="3")
        yield archive


def asked(level: str, **keys: str | bytes) -> FindQuery:
    model = InformationModel.PATIENT_ROOT if level == "PATIENT" else InformationModel.STUDY_ROOT
    return query(level, keys, model=model, options=LOOKING)


def found(archive: Archive, wanted: FindQuery, most: int = 0) -> dict[str, dict[str, str]]:
    """By unique key of the entities found: what their headers answered."""
    view, told = archive.view(), {}
    for page in matches(plan(wanted, view), view, headers=HeaderReader(archive.header_of, most)):
        for match in page:
            document = match[wanted.level.depth]
            assert document is not None
            assert isinstance(match, LookedUp)
            key = document.series if wanted.level is Level.SERIES else document.key
            told[key] = {
                keyword_of(tag): one.value.decode(errors="replace").strip() for tag, one in match.header.items()
            }
    return told


def test_the_earliest_instance_of_a_series_tells(archive: Archive) -> None:
    assert found(archive, asked("SERIES", StudyInstanceUID="1.1", KVP="", SliceThickness="")) == {
        "1.1.1": {"KVP": "120", "SliceThickness": ""},
        "1.1.2": {"KVP": "", "SliceThickness": "1"},
    }
    assert list(found(archive, asked("SERIES", StudyInstanceUID="1.1", KVP="120.0"))) == ["1.1.1"]
    assert found(archive, asked("SERIES", StudyInstanceUID="1.1", KVP="80")) == {}
    assert list(found(archive, asked("SERIES", SeriesInstanceUID="1.1.1\\1.1.2", ImageComments="*für"))) == ["1.1.1"]


def test_the_first_value_among_the_series_of_a_study_tells(archive: Archive) -> None:
    assert found(archive, asked("STUDY", StudyInstanceUID="1.1", KVP="", SliceThickness="")) == {
        "1.1": {"KVP": "120", "SliceThickness": "1"}
    }
    assert list(found(archive, asked("STUDY", PatientID="P2", SliceThickness="3"))) == ["1.3"]
    assert found(archive, asked("STUDY", PatientID="P2", SliceThickness="5")) == {}


def test_M19_sequences_of_a_study(archive: Archive) -> None:
    head = encode_sequence([[element("CodeValue", "HEAD")]])
    assert list(found(archive, asked("STUDY", StudyInstanceUID="1.1\\1.2", AnatomicRegionSequence=head))) == ["1.1"]
    foot = encode_sequence([[element("CodeValue", "FOOT")]])
    assert found(archive, asked("STUDY", StudyInstanceUID="1.1\\1.2", AnatomicRegionSequence=foot)) == {}


def test_the_first_value_among_all_series_of_a_patient_tells(archive: Archive) -> None:
    assert found(archive, asked("PATIENT", PatientID="P2", KVP="", SliceThickness="")) == {
        "P2": {"KVP": "100", "SliceThickness": "3"}
    }
    assert found(archive, asked("PATIENT", PatientID="P2", KVP="120")) == {}


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        ("PATIENT", {"PatientName": "A*"}),
        ("PATIENT", {"PatientID": "P*"}),
        ("STUDY", {"StudyDate": "20240101"}),
        ("STUDY", {"PatientID": "P?"}),
        ("SERIES", {"Modality": "CT"}),
        ("SERIES", {"SOPInstanceUID": "1.1.1.1"}),  # of a level below: it bounds nothing (Q5)
    ],
)
def test_F3_a_query_that_names_nothing_is_FF01(level: str, keys: dict[str, str]) -> None:
    wanted = asked(level, KVP="120", **keys)
    assert tag_of("KVP") in wanted.unsupported
    assert {key.tag: key.use for key in wanted.keys}[tag_of("KVP")] is Use.UNSCOPED


def test_F3_what_the_model_has_no_level_for_is_not_looked_up() -> None:
    keys = {"StudyInstanceUID": "1.1", "Modality": "CT", "KVP": ""}
    wanted = query("STUDY", keys, model=InformationModel.PATIENT_STUDY_ONLY, options=LOOKING)
    assert wanted.unsupported == (tag_of("Modality"),)


def test_M18_date_times_of_headers_move_to_the_zone_of_the_query(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "data", commit_seconds=60) as archive:
        store(archive, "1.1.1.1", FrameReferenceDateTime="20240131233000", TimezoneOffsetFromUTC="+0000")
        options = FindOptions(headers=True, timezone=True)
        for key, known in (("20240201", 1), ("20240131", 0), ("", 1)):
            keys = {"StudyInstanceUID": "1.1", "TimezoneOffsetFromUTC": "+0100", "FrameReferenceDateTime": key}
            told = found(archive, query("SERIES", keys, options=options))
            assert told == ({"1.1.1": {"FrameReferenceDateTime": "20240201003000+0100"}} if known else {})


def test_F9_headers_of_series_are_counted_and_bounded(archive: Archive) -> None:
    wanted = asked("STUDY", PatientID="P2", AcquisitionProtocolName="")
    assert len(found(archive, wanted, most=2)) == 2
    with pytest.raises(TooManyHeaders):
        found(archive, wanted, most=1)
    in_first_series = asked("STUDY", StudyInstanceUID="1.1", KVP="")  # and not looked for any further
    assert len(found(archive, in_first_series, most=1)) == 1


def test_explain_says_what_was_read_and_why_not(archive: Archive) -> None:
    view, trace = archive.view(), Trace()
    how = plan(asked("STUDY", StudyInstanceUID="1.1", SliceThickness="1"), view)
    list(matches(how, view, trace, HeaderReader(archive.header_of)))
    lines = explain(how, view, trace).lines()
    step = next(line for line in lines if "read the header" in line)
    assert "of the first instance of each series, until there is a value (expected: 1): 1 found, 2 read, " in step
    assert any(
        re.match(r"  SliceThickness +optional  matches by single value \(C.2.2.2.1, M4\), i", one) for one in lines
    )
    told = archive.explain("STUDY", {"StudyDate": "20240101", "SliceThickness": "1"}).lines()
    assert any("SliceThickness" in line and "no patient, study, series or instance is named" in line for line in told)


def test_a_deleted_first_instance_tells_no_more(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "data", commit_seconds=60) as archive:
        store(archive, "1.1.1.1", KVP="120")
        store(archive, "1.1.1.2", KVP="80")
        wanted = asked("SERIES", StudyInstanceUID="1.1", KVP="")
        assert found(archive, wanted) == {"1.1.1": {"KVP": "120"}}
        going = make_plan(archive.view(), select(archive.view(), Level.IMAGE, ["1.1.1.1"]))
        delete(tmp_path / "data", going, reason="test")
        assert found(archive, wanted) == {"1.1.1": {"KVP": "80"}}
        store(archive, "1.1.1.1", KVP="60")
        assert found(archive, wanted) == {"1.1.1": {"KVP": "80"}}
