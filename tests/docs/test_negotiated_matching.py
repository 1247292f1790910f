"""What docs/querying.md promises to those who negotiate, which findscu can't: asked by pynetdicom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as StudyRootFind

from tests.docs.example_archive import fill
from tests.requestor import request_association
from tests.server.harness import RunningArchive

RELATIONAL, COMBINED, FUZZY, EMPTY, MULTIPLE = 1, 2, 3, 6, 7


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    folder = tmp_path_factory.mktemp("negotiated") / "data"
    fill(folder)
    with RunningArchive(folder) as running:
        yield running


def ask(archive: RunningArchive, byte: int | None, level: str, keys: dict[str, str]) -> tuple[int, set[str]]:
    """The final status and the series or studies found, with one byte of the extended negotiation offered, or none."""
    identifier = Dataset()
    identifier.SpecificCharacterSet = "ISO_IR 192"
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    unique = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID"}[level]
    setattr(identifier, unique, "")
    offers = []
    if byte is not None:
        offer = SOPClassExtendedNegotiation()
        offer.sop_class_uid = StudyRootFind
        offer.service_class_application_information = bytes(number == byte for number in range(1, byte + 1))
        offers.append(offer)
    entity = AE()
    entity.add_requested_context(StudyRootFind)
    association = request_association(entity, archive.host, archive.dicom_port, ext_neg=offers)
    assert association.is_established
    try:
        *pending, (final, _) = association.send_c_find(identifier, StudyRootFind)
        return final.Status, {answer[unique].value for _, answer in pending}
    finally:
        association.release()


class Case(NamedTuple):
    """A query, and its outcome with the byte negotiated and without any negotiation."""

    byte: int
    level: str
    keys: dict[str, str]
    negotiated: tuple[int, set[str]]
    baseline: tuple[int, set[str]]


CASES = {
    "N1 relational": Case(RELATIONAL, "SERIES", {"Modality": "PT"}, (0x0000, {"1.2.3.15.2"}), (0xA900, set())),
    "M17 combined": Case(
        COMBINED,
        "STUDY",
        {"StudyDate": "20240116-20240117", "StudyTime": "2300-1200"},
        (0x0000, {"1.2.3.14", "1.2.3.15"}),
        (0x0000, set()),
    ),
    "M22 fuzzy": Case(FUZZY, "STUDY", {"PatientName": "Smyth"}, (0x0000, {"1.2.3.11", "1.2.3.12"}), (0x0000, set())),
    "M20 empty": Case(EMPTY, "STUDY", {"AccessionNumber": '""'}, (0x0000, {"1.2.3.13"}), (0x0000, set())),
    "M12 multiple": Case(
        MULTIPLE,
        "STUDY",
        {"ModalitiesInStudy": "PT\\CT"},
        (0x0000, {"1.2.3.15"}),
        (0x0000, {"1.2.3.11", "1.2.3.15", "1.2.3.16", "1.2.3.18"}),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_negotiated_matching(archive: RunningArchive, case: Case) -> None:
    assert ask(archive, case.byte, case.level, case.keys) == case.negotiated
    assert ask(archive, None, case.level, case.keys) == case.baseline
