"""Every readable file of pydicom's collections: stored, found at each level, and given back byte for byte."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from bench.encoding import element
from bench.questions import unique_key
from bench.requestor import (
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_GET,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    Context,
    Retrieved,
)
from tests.peers import dcmtk
from tests.peers.conftest import Sink, Stored, associate, files_in, store
from tests.peers.corpus import Sample, samples

IMPLICIT = "1.2.840.10008.1.2"

IDENTIFIED = "no SOP Class UID, SOP Instance UID, Study Instance UID and Series Instance UID"
CUT_OFF = "ends in the middle of an element"
PLACED = "no Study Instance UID and no Series Instance UID"

REFUSED = {
    "JPEGLSNearLossless_08.dcm": (0xA900, PLACED),
    "JPEGLSNearLossless_16.dcm": (0xA900, PLACED),
    "SC_rgb_jls_lossy_line.dcm": (0xA900, PLACED),
    "SC_rgb_jls_lossy_sample.dcm": (0xA900, PLACED),
    "UN_sequence.dcm": (0xA900, IDENTIFIED),
    "chrSQEncoding.dcm": (0xA900, IDENTIFIED),
    "chrSQEncoding1.dcm": (0xA900, IDENTIFIED),
    "empty_charset_LEI.dcm": (0xA900, IDENTIFIED),
    "meta_missing_tsyntax.dcm": (0xA900, IDENTIFIED),
    "nested_priv_SQ.dcm": (0xA900, IDENTIFIED),
    "no_meta_group_length.dcm": (0xA900, IDENTIFIED),
    "priv_SQ.dcm": (0xA900, IDENTIFIED),
    "rtplan_truncated.dcm": (0xC000, CUT_OFF),
}
"""What an archive can't take, the status it answers and why. Everything else is stored."""


def test_everything_is_stored_but_what_has_no_place(stored: Stored) -> None:
    refused = {name: answer for name, answer in stored.answers.items() if answer.status != 0}
    statuses = {name: f"{answer.status:04X}" for name, answer in refused.items()}
    assert statuses == {name: f"{status:04X}" for name, (status, _) in REFUSED.items()}
    assert len(stored.accepted) == len(samples()) - len(REFUSED) > 200


def test_a_refusal_says_why(stored: Stored) -> None:
    for name in REFUSED:
        comment = stored.answers[name].comment
        assert 5 < len(comment) <= 64, (name, comment)


def test_the_list_of_refusals_is_true() -> None:
    lacking = {sample.name for sample in samples() if sample.lacks}
    assert lacking == {name for name, (status, _) in REFUSED.items() if status == 0xA900}


def test_sent_again_it_is_acknowledged_and_not_stored_twice(stored: Stored) -> None:
    before = sum(path.stat().st_size for path in (stored.archive.data / "packs").iterdir())
    again = store(stored.archive, stored.accepted[:40])
    assert {answer.status for answer in again.values()} == {0}
    assert sum(path.stat().st_size for path in (stored.archive.data / "packs").iterdir()) == before


# ---------------------------------------------------------------- found


def _by(samples_: Iterable[Sample], key: str) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples_:
        groups[getattr(sample, key)].append(sample)
    return groups


def test_found_at_each_level_of_study_root(stored: Stored) -> None:
    studies = _by(stored.accepted, "study")
    found = dcmtk.findscu(
        stored.archive,
        "study root",
        {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "", "NumberOfStudyRelatedInstances": ""},
    )
    counts = {str(answer.StudyInstanceUID): int(answer.NumberOfStudyRelatedInstances) for answer in found}
    assert counts == {study: len(group) for study, group in studies.items()}
    for study, group in studies.items():
        series = _by(group, "series")
        found = dcmtk.findscu(
            stored.archive,
            "study root",
            {
                "QueryRetrieveLevel": "SERIES",
                "StudyInstanceUID": study,
                "SeriesInstanceUID": "",
                "NumberOfSeriesRelatedInstances": "",
            },
        )
        counts = {str(answer.SeriesInstanceUID): int(answer.NumberOfSeriesRelatedInstances) for answer in found}
        assert counts == {uid: len(members) for uid, members in series.items()}
        for uid, members in series.items():
            keys = {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": study, "SeriesInstanceUID": uid}
            found = dcmtk.findscu(stored.archive, "study root", keys | {"SOPInstanceUID": "", "SOPClassUID": ""})
            classes = {str(answer.SOPInstanceUID): str(answer.SOPClassUID) for answer in found}
            assert classes == {sample.sop_instance: sample.sop_class for sample in members}


def test_found_at_each_level_of_patient_root(stored: Stored) -> None:
    patients = _by(stored.accepted, "patient_id")
    found = dcmtk.findscu(stored.archive, "patient root", {"QueryRetrieveLevel": "PATIENT", "PatientID": ""})
    assert {str(answer.get("PatientID") or "").strip() for answer in found} == set(patients)
    named = {patient_id: group for patient_id, group in patients.items() if patient_id}
    assert len(named) > 20
    with associate(stored.archive, Context(PATIENT_ROOT_FIND)) as association:
        for patient_id, group in named.items():
            studies = _by(group, "study")
            patient = element(0x00100020, "LO", patient_id.encode())
            answers = association.find(
                PATIENT_ROOT_FIND, element(0x00080052, "CS", "STUDY") + patient + element(0x0020000D, "UI", "")
            )
            assert {unique_key(one, 0x0020000D) for one in answers.identifiers} == set(studies), patient_id
            for study, members in studies.items():
                keys = patient + element(0x0020000D, "UI", study) + element(0x0020000E, "UI", "")
                answers = association.find(PATIENT_ROOT_FIND, element(0x00080052, "CS", "SERIES") + keys)
                expected = {sample.series for sample in members}
                assert {unique_key(one, 0x0020000E) for one in answers.identifiers} == expected


def test_found_at_each_level_of_patient_study_only(stored: Stored) -> None:
    found = dcmtk.findscu(stored.archive, "patient/study only", {"QueryRetrieveLevel": "PATIENT", "PatientID": "ID1"})
    assert [answer.PatientID for answer in found] == ["ID1"]
    keys = {"QueryRetrieveLevel": "STUDY", "PatientID": "ID1", "StudyInstanceUID": ""}
    found = dcmtk.findscu(stored.archive, "patient/study only", keys)
    expected = {sample.study for sample in stored.accepted if sample.patient_id == "ID1"}
    assert {str(answer.StudyInstanceUID) for answer in found} == expected


def test_names_in_every_character_set_are_found(stored: Stored) -> None:
    """The names of the charset files, asked for in UTF-8, come back readable."""
    expected = {
        "chrArab.dcm": "قباني^لنزار",
        "chrFren.dcm": "Buc^Jérôme",
        "chrGerm.dcm": "Äneas^Rüdiger",
        "chrGreek.dcm": "Διονυσιος",
        "chrH31.dcm": "山田^太郎",
        "chrH32.dcm": "山田^太郎",
        "chrHbrw.dcm": "שרון^דבורה",
        "chrI2.dcm": "홍^길동",
        "chrJapMulti.dcm": "やまだ^たろう",
        "chrKoreanMulti.dcm": "김희중",
        "chrRuss.dcm": "Люкceмбypг",
        "chrX1.dcm": "王^小東",
        "chrX2.dcm": "王^小东",
    }
    by_name = {sample.name: sample for sample in stored.accepted}
    for name, text in expected.items():
        sample = by_name[name]
        pieces = text.replace("^", "*")
        query = (
            element(0x00080005, "CS", "ISO_IR 192")
            + element(0x00080052, "CS", "STUDY")
            + element(0x00100010, "PN", f"*{pieces}*".encode())
            + element(0x0020000D, "UI", "")
        )
        with associate(stored.archive, Context(STUDY_ROOT_FIND)) as association:
            answers = association.find(STUDY_ROOT_FIND, query)
        assert answers.response.status == 0, (name, answers.response)
        assert sample.study in {unique_key(one, 0x0020000D) for one in answers.identifiers}, name


# ---------------------------------------------------------------- retrieved


def compare(wanted: Sequence[Sample], received: dict[str, bytes]) -> None:
    """Fails with the names of the samples that are missing or differ.

    One file has an odd number of bytes (it is deflated); messages are even, so it goes out with a NUL (PS3.5 A.5).
    """
    missing = [sample.name for sample in wanted if sample.sop_instance not in received]
    different = [
        sample.name
        for sample in wanted
        if sample.sop_instance in received and received[sample.sop_instance] != even(sample.data_set)
    ]
    assert (missing, different) == ([], [])
    assert len(received) == len(wanted)


def even(data_set: bytes) -> bytes:
    """With a NUL at the end if the length is odd."""
    return data_set + b"\0" * (len(data_set) % 2)


def get_everything(stored: Stored, model: str, identifiers: Sequence[bytes]) -> dict[str, bytes]:
    """All of the corpus through C-GET, every transfer syntax as it was sent."""
    pairs = sorted({(sample.sop_class, sample.transfer_syntax) for sample in stored.accepted})
    contexts = [Context(model), *(Context(sop_class, (syntax,), scp=True) for sop_class, syntax in pairs)]
    received: dict[str, bytes] = {}

    def keep(retrieved: Retrieved) -> int:
        received[retrieved.sop_instance] = retrieved.data_set
        return 0

    with associate(stored.archive, *contexts) as association:
        for identifier in identifiers:
            response, _ = association.get(model, identifier, keep)
            assert response.status == 0, response
            assert response.number(0x1022) in (0, None)
    return received


def test_c_get_of_studies_gives_back_the_same_bytes(stored: Stored) -> None:
    studies = sorted(_by(stored.accepted, "study"))
    # One request with a list of UIDs, and one by one.
    half = len(studies) // 2
    level = element(0x00080052, "CS", "STUDY")
    identifiers = [level + element(0x0020000D, "UI", "\\".join(studies[:half]))]
    identifiers += [level + element(0x0020000D, "UI", study) for study in studies[half:]]
    compare(stored.accepted, get_everything(stored, STUDY_ROOT_GET, identifiers))


def test_c_get_of_patients_series_and_images_gives_back_the_same_bytes(stored: Stored) -> None:
    named = [sample for sample in stored.accepted if sample.patient_id]
    identifiers = [
        element(0x00080052, "CS", "PATIENT") + element(0x00100020, "LO", patient_id.encode())
        for patient_id in _by(named, "patient_id")
    ]
    compare(named, get_everything(stored, PATIENT_ROOT_GET, identifiers))
    some = stored.accepted[::7]
    identifiers = [
        element(0x00080018, "UI", sample.sop_instance)
        + element(0x00080052, "CS", "IMAGE")
        + element(0x0020000D, "UI", sample.study)
        + element(0x0020000E, "UI", sample.series)
        for sample in some
    ]
    compare(some, get_everything(stored, STUDY_ROOT_GET, identifiers))


def test_getscu_gives_back_the_same_bytes(stored: Stored, tmp_path: Path) -> None:
    """getscu proposes one transfer syntax for each SOP class, so each is asked for by image.

    DCMTK 3.6.7 proposes Explicit VR even when told to take Implicit VR only (+xi): those are converted on the way.
    """
    for number, group in enumerate(_by(stored.accepted, "series").values()):
        for syntax, members in _by(group, "transfer_syntax").items():
            folder = tmp_path / f"{number}-{syntax}"
            folder.mkdir()
            keys = {
                "QueryRetrieveLevel": "IMAGE",
                "StudyInstanceUID": members[0].study,
                "SeriesInstanceUID": members[0].series,
                "SOPInstanceUID": "\\".join(sample.sop_instance for sample in members),
            }
            dcmtk.getscu(stored.archive, "study root", keys, syntax, folder)
            if syntax != IMPLICIT:
                compare(members, files_in(folder))
                continue
            received = {str(one.SOPInstanceUID): one for one in map(pydicom.dcmread, folder.iterdir())}
            assert len(received) == len(members)
            for sample in members:
                assert_same_meaning(received[sample.sop_instance], pydicom.dcmread(BytesIO(sample.file())))


def assert_same_meaning(received: pydicom.Dataset, sent: pydicom.Dataset) -> None:
    """Equal elements, but for group lengths, which are retired."""
    assert received.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    for data_set in (received, sent):
        for tag in list(data_set.keys()):
            if tag.element == 0:
                del data_set[tag]
    assert received == sent


def test_movescu_to_a_storescp_gives_the_same_bytes(stored: Stored, sink: Sink) -> None:
    sink.data_sets()
    for study in _by(stored.accepted, "study"):
        keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study}
        said = dcmtk.movescu(stored.archive, "study root", keys, "SINK")
        assert "Received Final Move Response (Success)" in said, said
    compare(stored.accepted, sink.data_sets())


@pytest.mark.parametrize("model", ["patient root", "patient/study only"])
def test_movescu_by_patient(stored: Stored, sink: Sink, model: str) -> None:
    sink.data_sets()
    wanted = [sample for sample in stored.accepted if sample.patient_id == "ID1"]
    said = dcmtk.movescu(stored.archive, model, {"QueryRetrieveLevel": "PATIENT", "PatientID": "ID1"}, "SINK")
    assert "Received Final Move Response (Success)" in said, said
    compare(wanted, sink.data_sets())


def test_movescu_by_series_and_image(stored: Stored, sink: Sink) -> None:
    sink.data_sets()
    sample = max(stored.accepted, key=lambda one: sum(other.series == one.series for other in stored.accepted))
    keys = {
        "QueryRetrieveLevel": "SERIES",
        "StudyInstanceUID": sample.study,
        "SeriesInstanceUID": sample.series,
    }
    assert "(Success)" in dcmtk.movescu(stored.archive, "study root", keys, "SINK")
    compare([other for other in stored.accepted if other.series == sample.series], sink.data_sets())
    keys |= {"QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": sample.sop_instance}
    assert "(Success)" in dcmtk.movescu(stored.archive, "study root", keys, "SINK")
    compare([sample], sink.data_sets())
