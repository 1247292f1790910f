"""Extended negotiation over a real port, with pynetdicom asking: what is answered, and what holds then (N1 to N6)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.sop_class import (
    ModalityWorklistInformationFind,
)
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind as PatientRootFind,
)
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind as StudyRootFind,
)

from fastarchive.upperlayer import Command, CommandField
from tests.services.loopback import Loopback, fill, serving, slice_of
from tests.services.scu import EXPLICIT, associated, find
from tests.services.test_find import REQUEST, ask, giving

SERIES = {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": "", "Modality": "CT"}


def offers(given: Mapping[Any, bytes]) -> list[SOPClassExtendedNegotiation]:
    items = []
    for sop_class, application_information in given.items():
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid = sop_class
        item.service_class_application_information = application_information
        items.append(item)
    return items


def answered(
    loopback: Loopback, given: Mapping[Any, bytes], models: tuple[Any, ...], **keys: Any
) -> tuple[dict[Any, bytes], list[list[int]]]:
    """The answers to the offers, and the statuses of one query in each model."""
    question = Dataset()
    for keyword, value in keys.items():
        setattr(question, keyword, value)
    contexts = [(model, [EXPLICIT]) for model in models]
    with associated(loopback, contexts, ext_neg=offers(given)) as association:
        said = dict(association.acceptor.sop_class_extended)
        statuses = [[status.Status for status, _ in association.send_c_find(question, model)] for model in models]
    return said, statuses


def test_N1_N6_without_an_offer_nothing_is_answered_and_the_baseline_holds(tmp_path: Path) -> None:
    with serving(tmp_path) as loopback:
        fill(loopback.archive, [slice_of()])
        assert answered(loopback, {}, (StudyRootFind,), **SERIES) == ({}, [[0xA900]])


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        (b"\1", b"\1"),
        (b"\1\0\1", b"\1\0\1"),
        (b"\1\1\1\1\1\1\1", b"\1\1\1\1\0\1\1"),
        (b"\1\1\1\1\1\1\1\1\1", b"\1\1\1\1\0\1\1"),
        (b"\0\0\0\0\1", b"\0\0\0\0\0"),
    ],
)
def test_N2_N3_each_byte_is_answered_and_no_more(tmp_path: Path, offered: bytes, answer: bytes) -> None:
    with serving(tmp_path) as loopback:
        said, _ = answered(loopback, {StudyRootFind: offered}, (StudyRootFind,), **SERIES)
        assert said == {StudyRootFind: answer}


def test_N4_it_is_agreed_for_each_sop_class_by_itself(tmp_path: Path) -> None:
    """One association, two models: relational in the one it was agreed for only."""
    with serving(tmp_path) as loopback:
        fill(loopback.archive, [slice_of()])
        models = (StudyRootFind, PatientRootFind)
        said, statuses = answered(loopback, {StudyRootFind: b"\1", PatientRootFind: b"\0"}, models, **SERIES)
        assert said == {StudyRootFind: b"\1", PatientRootFind: b"\0"}
        assert statuses == [[0xFF00, 0x0000], [0xA900]]


def test_N5_no_worklist_no_answer_for_it(tmp_path: Path) -> None:
    """The bytes of the worklist are a matter of its own service: where there is none, nothing is answered."""
    with serving(tmp_path) as loopback:
        contexts = {StudyRootFind: b"\1", ModalityWorklistInformationFind: b"\1\1\1"}
        said, _ = answered(loopback, contexts, (StudyRootFind,), **SERIES)
        assert said == {StudyRootFind: b"\1"}


@pytest.mark.parametrize("offered", [b"", b"\1\1\1\1\1\1\1"])
@pytest.mark.parametrize("view", ["ENHANCED", "CLASSIC", ""])
def test_N3_F3_there_is_no_other_view_than_what_was_received(tmp_path: Path, offered: bytes, view: str) -> None:
    """Byte 5 is answered 0, so Query/Retrieve View is no key: FF01 tells that instances are found as they came."""
    with serving(tmp_path) as loopback:
        fill(loopback.archive, [slice_of()])
        keys = {**SERIES, "StudyInstanceUID": "1.2.826.1.1", "QueryRetrieveView": view}
        given = {StudyRootFind: offered} if offered else {}
        _, statuses = answered(loopback, given, (StudyRootFind,), **keys)
        assert statuses == [[0xFF01, 0x0000]]


@pytest.mark.parametrize("priority", [0, 1, 2])
def test_F12_priority_changes_nothing(monkeypatch: pytest.MonkeyPatch, priority: int) -> None:
    request = Command(
        field=CommandField.C_FIND_RQ,
        message_id=REQUEST.message_id,
        affected_sop_class=REQUEST.affected_sop_class,
        has_data_set=True,
        priority=priority,
    )
    assert ask(monkeypatch, giving(2), request=request).statuses == [0xFF00, 0xFF00, 0x0000]


def test_M17_M20_bytes_2_and_6_change_what_matches(tmp_path: Path) -> None:
    """Over the wire: combined date and time, and the empty value."""
    dataset = slice_of()
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20240110", "0500", ""
    night = {"StudyDate": "20240109-20240110", "StudyTime": "2200-0600"}
    unnumbered = {"AccessionNumber": '""'}
    with serving(tmp_path) as loopback:
        fill(loopback.archive, [dataset])
        for keys, place in ((night, 1), (unnumbered, 5)):
            asked = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "", **keys}
            offered = bytes(number == place for number in range(7))
            assert answered(loopback, {StudyRootFind: offered}, (StudyRootFind,), **asked)[1] == [[0xFF00, 0x0000]]
            assert find(loopback, StudyRootFind, **asked) == [(0x0000, None)]
