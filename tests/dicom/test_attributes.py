"""The tables of the information models, transfer syntaxes, UIDs and the dictionary."""

import pytest
from pydicom.uid import UID_dictionary

from fastarchive.dicom import attributes, uids
from fastarchive.dicom.attributes import (
    COMPUTED,
    STORED_ATTRIBUTES,
    STORED_TAGS,
    UNIQUE_KEYS,
    InformationModel,
    Kind,
    Level,
    model_of,
)
from fastarchive.dicom.dictionary import keyword_of, tag_of, vr_of
from fastarchive.dicom.transfer_syntaxes import (
    ALL_TRANSFER_SYNTAXES,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    encoding_of,
    is_deflated,
    is_encapsulated,
)

PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY = InformationModel

# Tables C.6-1 to C.6-5 as they stand: unique and required keys.
TABLES = {
    (PATIENT_ROOT, Level.PATIENT): ({"PatientID"}, {"PatientName"}),
    (PATIENT_ROOT, Level.STUDY): ({"StudyInstanceUID"}, {"StudyDate", "StudyTime", "AccessionNumber", "StudyID"}),
    (PATIENT_ROOT, Level.SERIES): ({"SeriesInstanceUID"}, {"Modality", "SeriesNumber"}),
    (PATIENT_ROOT, Level.IMAGE): ({"SOPInstanceUID"}, {"InstanceNumber"}),
    (STUDY_ROOT, Level.STUDY): (
        {"StudyInstanceUID"},
        {"StudyDate", "StudyTime", "AccessionNumber", "StudyID", "PatientName", "PatientID"},
    ),
    (STUDY_ROOT, Level.SERIES): ({"SeriesInstanceUID"}, {"Modality", "SeriesNumber"}),
    (STUDY_ROOT, Level.IMAGE): ({"SOPInstanceUID"}, {"InstanceNumber"}),
    (PATIENT_STUDY_ONLY, Level.PATIENT): ({"PatientID"}, {"PatientName"}),
    (PATIENT_STUDY_ONLY, Level.STUDY): (
        {"StudyInstanceUID"},
        {"StudyDate", "StudyTime", "AccessionNumber", "StudyID"},
    ),
}


@pytest.mark.parametrize("model, level", TABLES)
def test_keys_are_those_of_the_tables(model: InformationModel, level: Level) -> None:
    unique, required = TABLES[model, level]
    assert {keyword_of(tag) for tag in model.keys_of(level, [Kind.UNIQUE])} == unique
    assert {keyword_of(tag) for tag in model.keys_of(level, [Kind.REQUIRED])} == required
    assert {tag_of(keyword) for keyword in unique} == {UNIQUE_KEYS[level]}


def test_Q2_models_have_their_levels() -> None:
    assert PATIENT_ROOT.levels == tuple(Level)
    assert STUDY_ROOT.levels == (Level.STUDY, Level.SERIES, Level.IMAGE)
    assert PATIENT_STUDY_ONLY.levels == (Level.PATIENT, Level.STUDY)
    assert {level for model in InformationModel for level in model.levels} == {level for _, level in TABLES}
    assert STUDY_ROOT.kind_of(attributes.PATIENT_ID, Level.PATIENT) is None
    assert PATIENT_STUDY_ONLY.kind_of(attributes.MODALITY, Level.SERIES) is None
    assert PATIENT_STUDY_ONLY.level_of(attributes.MODALITY) is None


def test_Q6_patient_attributes_are_of_studies_in_study_root() -> None:
    for attribute in STORED_ATTRIBUTES[Level.PATIENT]:
        assert STUDY_ROOT.level_of(attribute.tag) is Level.STUDY
        assert PATIENT_ROOT.level_of(attribute.tag) is Level.PATIENT
        assert STUDY_ROOT.kind_of(attribute.tag, Level.STUDY) is not None
        assert PATIENT_ROOT.kind_of(attribute.tag, Level.STUDY) is None


def test_F7_F8_computed_attributes_are_optional_keys_of_their_level() -> None:
    for tag, level in COMPUTED.items():
        assert PATIENT_ROOT.kind_of(tag, level) is Kind.OPTIONAL
    for level in Level:
        for keyword in ("RetrieveAETitle", "InstanceAvailability", "TimezoneOffsetFromUTC"):
            assert PATIENT_ROOT.kind_of(tag_of(keyword), level) is Kind.OPTIONAL
    assert PATIENT_ROOT.kind_of(tag_of("SpecificCharacterSet"), Level.STUDY) is None
    assert PATIENT_ROOT.kind_of(tag_of("PatientMotherBirthName"), Level.PATIENT) is None


def test_levels_know_what_encloses_them() -> None:
    assert [level.depth for level in Level] == [0, 1, 2, 3]
    assert Level.SERIES.above == (Level.PATIENT, Level.STUDY)
    assert Level.SERIES.below == (Level.IMAGE,)
    assert Level.PATIENT.above == Level.IMAGE.below == ()


def test_stored_attributes_are_named_and_at_one_level_each() -> None:
    tags = [attribute.tag for level in Level for attribute in STORED_ATTRIBUTES[level]]
    assert len(tags) == len(set(tags))
    assert set(tags) < STORED_TAGS
    for level in Level:
        for attribute in STORED_ATTRIBUTES[level]:
            assert attribute.level is level
            assert tag_of(attribute.keyword) == attribute.tag
            assert attribute.vr == vr_of(attribute.tag) != "UN"


def test_models_are_told_by_their_sop_class() -> None:
    assert model_of(uids.STUDY_ROOT_FIND) == (STUDY_ROOT, "FIND")
    assert model_of(uids.PATIENT_ROOT_MOVE) == (PATIENT_ROOT, "MOVE")
    assert model_of(uids.PATIENT_STUDY_ONLY_GET) == (PATIENT_STUDY_ONLY, "GET")
    assert model_of(uids.VERIFICATION) is None
    for classes, verb in (
        (uids.FIND_SOP_CLASSES, "FIND"),
        (uids.MOVE_SOP_CLASSES, "MOVE"),
        (uids.GET_SOP_CLASSES, "GET"),
    ):
        for sop_class in classes:
            found = model_of(sop_class)
            assert found is not None
            assert found[1] == verb
            assert UID_dictionary[sop_class][0] == f"{found[0].value} Query/Retrieve Information Model - {verb}"


def test_every_transfer_syntax_of_a_data_set_is_known() -> None:
    media_or_video = ("1.2.840.10008.1.2.6.", "1.2.840.10008.1.2.7.")
    standard = {
        uid
        for uid, (_, kind, *_) in UID_dictionary.items()
        if kind == "Transfer Syntax" and not uid.startswith(media_or_video)
    }
    assert standard <= set(ALL_TRANSFER_SYNTAXES)
    assert len(ALL_TRANSFER_SYNTAXES) == len(set(ALL_TRANSFER_SYNTAXES))
    assert all(map(uids.is_valid_uid, ALL_TRANSFER_SYNTAXES))


@pytest.mark.parametrize(
    "uid, encoding, encapsulated, deflated",
    [
        ("1.2.840.10008.1.2", IMPLICIT_LITTLE, False, False),
        ("1.2.840.10008.1.2.1", EXPLICIT_LITTLE, False, False),
        ("1.2.840.10008.1.2.1.99", EXPLICIT_LITTLE, False, True),
        ("1.2.840.10008.1.2.2", EXPLICIT_BIG, False, False),
        ("1.2.840.10008.1.2.1.98", EXPLICIT_LITTLE, True, False),
        ("1.2.840.10008.1.2.4.50", EXPLICIT_LITTLE, True, False),
        ("1.2.840.10008.1.2.4.95", EXPLICIT_LITTLE, False, True),
        ("1.2.840.10008.1.2.4.106.1", EXPLICIT_LITTLE, True, False),
        ("1.2.840.10008.1.2.4.203", EXPLICIT_LITTLE, True, False),
        ("1.2.840.10008.1.2.5", EXPLICIT_LITTLE, True, False),
        ("1.2.840.113619.5.2", IMPLICIT_LITTLE, False, False),
        ("1.2.3.4", EXPLICIT_LITTLE, False, False),
    ],
)
def test_transfer_syntaxes(uid: str, encoding: object, encapsulated: bool, deflated: bool) -> None:
    assert encoding_of(uid) == encoding
    assert is_encapsulated(uid) is encapsulated
    assert is_deflated(uid) is deflated


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.1", "0.0", "2.25.0", "1." + "2" * 62, uids.IMPLEMENTATION_CLASS_UID])
def test_well_formed_uids(uid: str) -> None:
    assert uids.is_valid_uid(uid)


@pytest.mark.parametrize("uid", ["", ".", "1.", ".1", "1..2", "1.02", "1.a", "1. 2", "1.2\n", "1." + "2" * 63, "1.²"])
def test_malformed_uids(uid: str) -> None:
    assert not uids.is_valid_uid(uid)


def test_storage_sop_classes_are_all_and_only_those() -> None:
    names = {UID_dictionary[uid][0] for uid in uids.STORAGE_SOP_CLASSES if uid in UID_dictionary}
    assert {"CT Image Storage", "Text SR Storage - Trial", "Encapsulated PDF Storage", "Raw Data Storage"} <= names
    assert not any("Commitment" in name or "Directory" in name for name in names)
    assert uids.VERIFICATION not in uids.STORAGE_SOP_CLASSES
    assert len(uids.STORAGE_SOP_CLASSES) > 180
    assert len(uids.IMPLEMENTATION_VERSION_NAME) <= 16


@pytest.mark.parametrize(
    "tag, vr",
    [
        (0x00100010, "PN"),
        (0x00080000, "UL"),
        (0x00090010, "LO"),
        (0x00091010, "UN"),
        (0x00280106, "US"),
        (0x7FE00010, "OW"),
        (0x60003000, "OW"),
        (0x60020010, "US"),
        (0x00083456, "UN"),
    ],
)
def test_vrs(tag: int, vr: str) -> None:
    assert vr_of(tag) == vr


def test_keywords_and_tags() -> None:
    assert keyword_of(0x00100010) == "PatientName"
    assert keyword_of(0x00091010) == "00091010"
    assert tag_of("PatientName") == tag_of("00100010") == 0x00100010
    for unknown in ("Patient", "ZZZZZZZZ", ""):
        with pytest.raises(KeyError):
            tag_of(unknown)
