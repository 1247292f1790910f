"""Store and find over a real port, with pynetdicom as the other side."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import pytest
from pydicom.dataset import Dataset
from pynetdicom.sop_class import (
    CTImageStorage,
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from fastarchive.metrics import exposition
from fastarchive.upperlayer import Command, CommandField, ProposedContext, connect
from tests.services.loopback import encode, fill, serving, slice_of
from tests.services.scu import BIG, EXPLICIT, IMPLICIT, associated, file_of, find, store


def test_verification(tmp_path: Path) -> None:
    with serving(tmp_path) as loopback, associated(loopback, [(Verification, [IMPLICIT])]) as association:
        assert [association.send_c_echo().Status for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("transfer_syntax", [EXPLICIT, IMPLICIT, BIG])
def test_S1_S4_what_was_acknowledged_is_found_at_once_and_read_byte_for_byte(
    tmp_path: Path, transfer_syntax: str
) -> None:
    datasets = [slice_of(1, 1, series, number) for series in (1, 2) for number in (1, 2, 3)]
    datasets[0].add_new(0x00091001, "UN", b"private!")
    with serving(tmp_path) as loopback:
        assert store(loopback, datasets, transfer_syntax) == [0] * 6
        answers = find(
            loopback,
            StudyRootQueryRetrieveInformationModelFind,
            QueryRetrieveLevel="STUDY",
            PatientName="test0001*",
            StudyInstanceUID="",
            NumberOfStudyRelatedInstances="",
            ModalitiesInStudy="",
        )
        assert [status for status, _ in answers] == [0xFF00, 0x0000]
        answer = answers[0][1]
        assert answer is not None
        assert answer.StudyInstanceUID == "1.2.826.1.1"
        assert answer.NumberOfStudyRelatedInstances == 6
        assert sorted(answer.ModalitiesInStudy) == ["CT", "MR"]
        assert answer.RetrieveAETitle == "FASTARCHIVE"
        for dataset in datasets:
            stored = loopback.archive.read(dataset.SOPInstanceUID)
            assert b"".join(stored.chunks()) == encode(dataset, transfer_syntax)
            assert stored.record.transfer_syntax == transfer_syntax
            assert stored.record.calling_ae == "SCU"


def test_S3_sent_again_is_success_and_other_content_is_refused(tmp_path: Path) -> None:
    first, other = slice_of(), slice_of()
    other.PatientName = "Somebody^Else"
    with serving(tmp_path) as loopback:
        assert store(loopback, [first, first, other, first]) == [0, 0, 0xA900, 0]
        assert loopback.archive.status()["instances"] == 1
        assert b"".join(loopback.archive.read(first.SOPInstanceUID).chunks()) == encode(first)
        text = exposition(loopback.context.metrics).decode()
        for outcome, count in (("stored", 1), ("already-present", 2), ("conflict", 1)):
            line = f'fastarchive_store_instances_total{{calling_ae="SCU",outcome="{outcome}"}} {count}.0'
            assert line in text


def test_S2_wrong_data_sets_get_a_status_and_the_association_goes_on(tmp_path: Path) -> None:
    nameless = slice_of(number=2)
    del nameless.StudyInstanceUID
    with serving(tmp_path) as loopback, associated(loopback, [(CTImageStorage, [EXPLICIT])]) as association:
        assert association.send_c_store(file_of(nameless)).Status == 0xA900
        swapped = file_of(slice_of(number=3))
        swapped.SOPInstanceUID = "1.2.826.99"
        response = association.send_c_store(swapped)
        assert response.Status in {0x0000, 0xA900}
        assert association.send_c_store(file_of(slice_of(number=4))).Status == 0


def test_S7_the_same_instance_from_many_associations_is_one_object(tmp_path: Path) -> None:
    statuses: list[int] = []

    def send() -> None:
        statuses.extend(store(loopback, [slice_of(number=number) for number in range(1, 11)]))

    with serving(tmp_path) as loopback:
        threads = [threading.Thread(target=send) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert statuses == [0] * 40
        assert loopback.archive.status()["instances"] == 10


def test_F_all_levels_of_patient_root(tmp_path: Path) -> None:
    model = PatientRootQueryRetrieveInformationModelFind
    with serving(tmp_path) as loopback:
        store(loopback, [slice_of(p, s, r, 1) for p in (1, 2) for s in (1, 2) for r in (1, 2)])
        patients = find(loopback, model, QueryRetrieveLevel="PATIENT", PatientID="", PatientName="*")
        assert sorted(answer.PatientID for _, answer in patients if answer) == ["P0001", "P0002"]
        studies = find(loopback, model, QueryRetrieveLevel="STUDY", PatientID="P0002", StudyInstanceUID="")
        assert sorted(a.StudyInstanceUID for _, a in studies if a) == ["1.2.826.2.1", "1.2.826.2.2"]
        keys = {"PatientID": "P0002", "StudyInstanceUID": "1.2.826.2.1"}
        series = find(loopback, model, QueryRetrieveLevel="SERIES", **keys, SeriesInstanceUID="", Modality="MR")
        assert [a.SeriesInstanceUID for _, a in series if a] == ["1.2.826.2.1.2"]
        keys["SeriesInstanceUID"] = "1.2.826.2.1.2"
        images = find(loopback, model, QueryRetrieveLevel="IMAGE", **keys, SOPInstanceUID="")
        assert [a.SOPInstanceUID for _, a in images if a] == ["1.2.826.2.1.2.1"]
        for answers in (patients, studies, series, images):
            assert [status for status, _ in answers][-1] == 0x0000
            assert {status for status, _ in answers[:-1]} == {0xFF00}


def test_Q1_a_wrong_level_gets_A900(tmp_path: Path) -> None:
    with serving(tmp_path) as loopback:
        model = StudyRootQueryRetrieveInformationModelFind
        assert find(loopback, model, QueryRetrieveLevel="INSTANCE", PatientID="")[0][0] == 0xA900
        assert find(loopback, model, QueryRetrieveLevel="PATIENT", PatientID="")[0][0] == 0xA900
        assert find(loopback, model, QueryRetrieveLevel="STUDY", PatientID="nobody") == [(0x0000, None)]


def test_X6_names_come_back_in_their_characters(tmp_path: Path) -> None:
    with serving(tmp_path) as loopback:
        store(loopback, [slice_of()])
        ((_, answer), _) = find(
            loopback,
            StudyRootQueryRetrieveInformationModelFind,
            QueryRetrieveLevel="STUDY",
            PatientName="TEST0001^JEROME",
            StudyInstanceUID="",
        )
        assert answer is not None
        assert str(answer.PatientName) == "Test0001^Jérôme"


def test_F10_cancel_while_answers_stream(tmp_path: Path) -> None:
    with serving(tmp_path) as loopback:
        fill(loopback.archive, (slice_of(number, size=2) for number in range(600)))
        question = Dataset()
        question.QueryRetrieveLevel, question.PatientID, question.StudyInstanceUID = "STUDY", "", ""
        model = StudyRootQueryRetrieveInformationModelFind

        async def main() -> tuple[int, int | None]:
            contexts = [ProposedContext(model, (EXPLICIT,))]
            async with connect(
                loopback.host, loopback.port, calling_ae="SCU", called_ae="FASTARCHIVE", contexts=contexts
            ) as association:
                (context,) = association.contexts.values()
                request = Command(
                    field=CommandField.C_FIND_RQ,
                    message_id=1,
                    affected_sop_class=model,
                    priority=0,
                    has_data_set=True,
                )
                await association.send(context.id, request, encode(question))
                await association.send(context.id, Command(field=CommandField.C_CANCEL_RQ, responding_to=1))
                pending = 0
                while True:
                    message = await association.receive()
                    assert message is not None
                    if message.command.status != 0xFF00:
                        return pending, message.command.status
                    pending += 1

        pending, final = anyio.run(main)
        assert final == 0xFE00
        assert pending < 600


def test_S2_a_disk_below_its_reserve_is_A700_and_the_service_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path, archive_options={"reserve_bytes": 1 << 60}) as loopback:
        assert store(loopback, [slice_of(number=number) for number in (1, 2)]) == [0xA700, 0xA700]
        with associated(loopback, [(Verification, [IMPLICIT])]) as association:
            assert association.send_c_echo().Status == 0
        assert loopback.archive.status()["instances"] == 0


def test_nothing_of_a_patient_reaches_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="fastarchive")
    dataset = slice_of()
    with serving(tmp_path) as loopback:
        store(loopback, [dataset])
        find(loopback, StudyRootQueryRetrieveInformationModelFind, QueryRetrieveLevel="STUDY", PatientName="Test*")
        find(loopback, StudyRootQueryRetrieveInformationModelFind, QueryRetrieveLevel="X", PatientName="Test*")
    assert "explained: STUDY query in Study Root, hierarchical" in caplog.text
    assert "find STUDY: 1 found" in caplog.text
    for word in ("Test", "Jérôme", "P0001", "A000101"):
        assert word.lower() not in caplog.text.lower()
