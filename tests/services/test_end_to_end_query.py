"""Queries over a real port: headers looked into, character sets set for a sender, unknown values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelGet as PatientRootGet
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as StudyRootFind

from fastarchive.services.context import Limits
from tests.services.loopback import Loopback, serving, slice_of
from tests.services.scu import find, get, store

SERIES = {"StudyInstanceUID": "1.2.826.1.1", "SeriesInstanceUID": "1.2.826.1.1.1"}


def a_series() -> list[Dataset]:
    """Three slices of one series, with what no index holds."""
    datasets = [slice_of(1, 1, 1, number) for number in (1, 2, 3)]
    for number, dataset in enumerate(datasets, 1):
        dataset.update(SERIES)
        dataset.KVP = str(number * 40)
        item = Dataset()
        item.CodeValue, item.CodeMeaning = f"C{number}", "Head"
        dataset.AnatomicRegionSequence = [item]
        dataset.private_block(0x0009, "ACME", create=True).add_new(0x01, "LO", f"MODE {number}")
    return datasets


def images(loopback: Loopback, **keys: Any) -> list[tuple[int, Dataset | None]]:
    return find(loopback, StudyRootFind, QueryRetrieveLevel="IMAGE", SOPInstanceUID="", **SERIES, **keys)


def test_M19_Q8_F3_any_attribute_of_an_instance_is_a_key(tmp_path: Path) -> None:
    region = Dataset()
    region.CodeValue = "C2"
    with serving(tmp_path) as loopback:
        assert store(loopback, a_series()) == [0, 0, 0]
        (status, answer), (final, nothing) = images(
            loopback, AnatomicRegionSequence=[region], KVP="", InstanceNumber=""
        )
        assert (status, final, nothing) == (0xFF00, 0x0000, None)
        assert answer is not None
        assert (answer.KVP, answer.InstanceNumber) == (80, 2)
        assert [set(item.dir()) for item in answer.AnatomicRegionSequence] == [{"CodeValue"}]
        assert [status for status, _ in images(loopback, KVP="41")] == [0x0000]
        assert [status for status, _ in images(loopback, EncapsulatedDocument=b"")] == [0xFF01] * 3 + [0x0000]


def test_F9_too_many_headers_are_A700(tmp_path: Path) -> None:
    with serving(tmp_path, limits=Limits(find_headers=2)) as loopback:
        store(loopback, a_series())
        assert [status for status, _ in images(loopback, KVP="")] == [0xFF00, 0xFF00, 0xA700]
        assert [status for status, _ in images(loopback, KVP="", InstanceNumber="2")] == [0xFF00, 0x0000]


def test_a_sender_of_another_character_set_than_it_declares(tmp_path: Path) -> None:
    """GB18030 declared as Latin alphabet No. 1, stored and asked for by one AE."""
    raw = "王^小明".encode("gb18030").decode("latin-1")
    dataset = a_series()[0]
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = raw
    dataset.ImageComments = "头".encode("gb18030").decode("latin-1")
    with serving(tmp_path, character_sets={"SCU": "GB18030"}) as loopback:
        sent = dataset.copy()
        assert store(loopback, [dataset]) == [0]
        keys = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": raw, "ImageComments": ""}
        answer = images(loopback, **keys)[0][1]
        assert answer is not None
        assert answer.SpecificCharacterSet == "GB18030"
        assert (answer.PatientName, answer.ImageComments) == ("王^小明", "头")
        stored = loopback.archive.read(sent.SOPInstanceUID).read()
        assert b"ISO_IR 100" in stored
        assert "王^小明".encode("gb18030") in stored
    with serving(tmp_path) as loopback:  # the record knows, whoever asks
        answer = images(loopback, SpecificCharacterSet="ISO_IR 192", PatientName="王*", ImageComments="头")[0][1]
        assert answer is not None
        assert answer.PatientName == "王^小明"


def test_X7_a_retrieval_by_a_sender_of_another_character_set(tmp_path: Path) -> None:
    """A Patient ID in GB18030 declared as Latin alphabet No. 1, asked for by C-GET."""
    raw = "病人1".encode("gb18030").decode("latin-1")
    dataset = a_series()[0]
    dataset.SpecificCharacterSet, dataset.PatientID = "ISO_IR 100", raw
    for character_sets, sent in (({"SCU": "GB18030"}, 1), ({}, 0)):
        with serving(tmp_path, character_sets=character_sets) as loopback:
            store(loopback, [dataset.copy()])
            keys = {"SpecificCharacterSet": "ISO_IR 100", "QueryRetrieveLevel": "PATIENT", "PatientID": raw}
            assert get(loopback, PatientRootGet, **keys) == (0x0000, sent)


def test_M21_unknown_values_match_where_that_is_set(tmp_path: Path) -> None:
    dataset = a_series()[0]
    dataset.AccessionNumber = ""
    keys = {"QueryRetrieveLevel": "STUDY", "AccessionNumber": "A1"}
    with serving(tmp_path, match_unknown=True) as loopback:
        store(loopback, [dataset])
        assert [status for status, _ in find(loopback, StudyRootFind, StudyInstanceUID="", **keys)] == [0xFF00, 0]
        assert [status for status, _ in find(loopback, StudyRootFind, StudyInstanceUID="1.9", **keys)] == [0]
    for ours, found in (("SCU", [0xFF00, 0]), ("OTHER", [0])):
        with serving(tmp_path, match_unknown_for=[ours]) as loopback:
            assert [status for status, _ in find(loopback, StudyRootFind, StudyInstanceUID="", **keys)] == found
