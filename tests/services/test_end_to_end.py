"""Store, find, move and get over a real port: our own requestor and pynetdicom as the other side."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pynetdicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, StoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from fastarchive.metrics import exposition
from fastarchive.services.context import Limits
from fastarchive.upperlayer import (
    Association,
    Command,
    CommandField,
    ProposedContext,
    connect,
)
from tests.services.loopback import Loopback, decode, encode, serving, slice_of

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"


@pytest.fixture(autouse=True, scope="module")
def _patient_pynetdicom() -> Iterator[None]:
    """pynetdicom polls its sockets slowly and logs what it sees."""
    before = pynetdicom._config.LOG_HANDLER_LEVEL
    pynetdicom._config.LOG_HANDLER_LEVEL = "none"
    yield
    pynetdicom._config.LOG_HANDLER_LEVEL = before


@contextmanager
def associated(loopback: Loopback, contexts: Sequence[tuple[Any, Sequence[str]]], **options: Any) -> Iterator[Any]:
    entity = AE("SCU")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    for abstract_syntax, transfer_syntaxes in contexts:
        entity.add_requested_context(abstract_syntax, list(transfer_syntaxes))
    association = entity.associate(loopback.host, loopback.port, ae_title="FASTARCHIVE", **options)
    assert association.is_established
    try:
        yield association
        association.release()
    finally:
        if association.is_established:
            association.abort()


def file_of(dataset: Dataset, transfer_syntax: str = EXPLICIT) -> Dataset:
    """The data set as pynetdicom wants it to send."""
    dataset.file_meta = pynetdicom.dsutils.create_file_meta(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        transfer_syntax=transfer_syntax,
    )
    return dataset


def store(loopback: Loopback, datasets: Sequence[Dataset], transfer_syntax: str = EXPLICIT) -> list[int]:
    with associated(loopback, [(CTImageStorage, [transfer_syntax])]) as association:
        return [association.send_c_store(file_of(dataset, transfer_syntax)).Status for dataset in datasets]


def find(loopback: Loopback, model: Any, **keys: Any) -> list[tuple[int, Dataset | None]]:
    question = Dataset()
    for keyword, value in keys.items():
        setattr(question, keyword, value)
    with associated(loopback, [(model, [EXPLICIT, IMPLICIT])]) as association:
        return [(status.Status, answer) for status, answer in association.send_c_find(question, model)]


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
        archive = loopback.archive
        for number in range(600):
            archive.store(encode(slice_of(number, 1, 1, 1, size=2)), transfer_syntax=EXPLICIT)
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


@contextmanager
def sink(*, transfer_syntaxes: Sequence[str], refuse: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
    """A storage SCP by pynetdicom: its port, and what it received by SOP Instance UID."""
    received: dict[str, Any] = {}

    def handle(event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        received[uid] = (
            str(event.context.transfer_syntax),
            event.request.DataSet.getvalue(),
            event.request.MoveOriginatorApplicationEntityTitle,
        )
        return 0xA700 if uid in refuse else 0x0000

    entity = AE("SINK")
    for context in StoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, list(transfer_syntaxes))
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, handle)])
    try:
        yield server.socket.getsockname()[1], received
    finally:
        server.shutdown()


def move(loopback: Loopback, destination: str = "SINK", **keys: Any) -> list[tuple[Dataset, Dataset | None]]:
    question = Dataset()
    for keyword, value in keys.items():
        setattr(question, keyword, value)
    model = StudyRootQueryRetrieveInformationModelMove
    with associated(loopback, [(model, [EXPLICIT])]) as association:
        return list(association.send_c_move(question, destination, model))


def test_move_to_a_peer_sends_what_was_stored(tmp_path: Path) -> None:
    datasets = [slice_of(1, 1, series, number) for series in (1, 2) for number in (1, 2, 3)]
    with (
        sink(transfer_syntaxes=[EXPLICIT, IMPLICIT]) as (port, received),
        serving(tmp_path, peers={"SINK": port}, limits=Limits(pending_interval=0.0)) as loopback,
    ):
        store(loopback, datasets)
        responses = move(loopback, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.826.1.1")
        final = responses[-1][0]
        assert (final.Status, final.NumberOfCompletedSuboperations) == (0x0000, 6)
        assert "NumberOfRemainingSuboperations" not in final
        assert all(status.Status == 0xFF00 for status, _ in responses[:-1])
        assert received == {str(d.SOPInstanceUID): (EXPLICIT, encode(d), "SCU") for d in datasets}


def test_R8_a_peer_that_takes_only_implicit_gets_implicit(tmp_path: Path) -> None:
    dataset = slice_of()
    with (
        sink(transfer_syntaxes=[IMPLICIT]) as (port, received),
        serving(tmp_path, peers={"SINK": port}) as loopback,
    ):
        store(loopback, [dataset])
        responses = move(loopback, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.826.1.1")
        assert responses[-1][0].Status == 0x0000
        assert received[str(dataset.SOPInstanceUID)] == (IMPLICIT, encode(dataset, IMPLICIT), "SCU")


def test_R1_R3_R6_destinations_and_matches_that_are_not_there(tmp_path: Path) -> None:
    with serving(tmp_path, peers={"GONE": 9}) as loopback:
        store(loopback, [slice_of()])
        keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.826.1.1"}
        assert move(loopback, "NOBODY", **keys)[-1][0].Status == 0xA801
        status, identifier = move(loopback, "GONE", **keys)[-1]
        assert status.Status == 0xA702
        assert identifier is not None
        assert identifier.FailedSOPInstanceUIDList == "1.2.826.1.1.1.1"
        assert move(loopback, "GONE", QueryRetrieveLevel="STUDY", StudyInstanceUID="9.9")[-1][0].Status == 0x0000


def test_R5_R6_a_peer_that_refuses_some(tmp_path: Path) -> None:
    with (
        sink(transfer_syntaxes=[EXPLICIT], refuse=["1.2.826.1.1.1.2"]) as (port, _),
        serving(tmp_path, peers={"SINK": port}) as loopback,
    ):
        store(loopback, [slice_of(number=number) for number in (1, 2, 3)])
        status, identifier = move(loopback, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.826.1.1")[-1]
        assert (status.Status, status.NumberOfFailedSuboperations) == (0xB000, 1)
        assert identifier is not None
        assert identifier.FailedSOPInstanceUIDList == "1.2.826.1.1.1.2"


def test_get_brings_everything_back_over_the_same_association(tmp_path: Path) -> None:
    datasets = [slice_of(number=number) for number in range(1, 21)]
    received: dict[str, bytes] = {}

    def handle(event: Any) -> int:
        received[str(event.request.AffectedSOPInstanceUID)] = event.request.DataSet.getvalue()
        return 0x0000

    model = StudyRootQueryRetrieveInformationModelGet
    question = Dataset()
    question.QueryRetrieveLevel, question.StudyInstanceUID = "STUDY", "1.2.826.1.1"
    with serving(tmp_path) as loopback:
        store(loopback, datasets)
        contexts = [(model, [EXPLICIT]), (CTImageStorage, [EXPLICIT])]
        roles = [build_role(CTImageStorage, scp_role=True)]
        handlers = [(evt.EVT_C_STORE, handle)]
        with associated(loopback, contexts, ext_neg=roles, evt_handlers=handlers) as association:
            final, _ = list(association.send_c_get(question, model))[-1]
        assert (final.Status, final.NumberOfCompletedSuboperations) == (0x0000, 20)
        assert received == {str(d.SOPInstanceUID): encode(d) for d in datasets}


def test_R11_get_without_role_selection_fails_all(tmp_path: Path) -> None:
    model = StudyRootQueryRetrieveInformationModelGet
    question = Dataset()
    question.QueryRetrieveLevel, question.StudyInstanceUID = "STUDY", "1.2.826.1.1"
    with serving(tmp_path) as loopback:
        store(loopback, [slice_of()])
        with associated(loopback, [(model, [EXPLICIT]), (CTImageStorage, [EXPLICIT])]) as association:
            final, identifier = list(association.send_c_get(question, model))[-1]
        assert final.Status == 0xA702
        assert identifier.FailedSOPInstanceUIDList == "1.2.826.1.1.1.1"


def test_a_large_instance_goes_in_and_out_in_pieces(tmp_path: Path) -> None:
    dataset = slice_of(size=512)
    dataset.NumberOfFrames = 60  # 30 MiB
    dataset.PixelData = dataset.PixelData * 60
    data = encode(dataset)
    uid = str(dataset.SOPInstanceUID)

    async def main() -> tuple[int | None, bytes, int | None]:
        contexts = [ProposedContext(CT, (EXPLICIT,), scu=True, scp=True), ProposedContext(STUDY_GET, (EXPLICIT,))]
        async with connect(
            loopback.host, loopback.port, calling_ae="SCU", called_ae="FASTARCHIVE", contexts=contexts
        ) as association:
            stored = await _store(association, uid, data)
            return stored, *await _get(association, uid)

    with serving(tmp_path, limits=Limits(read_ahead=1 << 20)) as loopback:
        stored, back, final = anyio.run(main)
    assert (stored, final) == (0, 0)
    assert back == data


async def _store(association: Association, uid: str, data: bytes) -> int | None:
    context = association.context_for(CT)
    assert context is not None
    request = Command(
        field=CommandField.C_STORE_RQ,
        message_id=1,
        affected_sop_class=CT,
        affected_sop_instance=uid,
        priority=0,
        has_data_set=True,
    )
    await association.send(context.id, request, data)
    response = await association.receive()
    assert response is not None
    return response.command.status


async def _get(association: Association, uid: str) -> tuple[bytes, int | None]:
    """C-GET of one instance: its bytes and the final status."""
    context = association.context_for(STUDY_GET)
    assert context is not None
    question = Dataset()
    question.QueryRetrieveLevel, question.SOPInstanceUID = "IMAGE", uid
    question.StudyInstanceUID, question.SeriesInstanceUID = "1.2.826.1.1", "1.2.826.1.1.1"
    request = Command(
        field=CommandField.C_GET_RQ, message_id=2, affected_sop_class=STUDY_GET, priority=0, has_data_set=True
    )
    await association.send(context.id, request, encode(question))
    back = b""
    while True:
        message = await association.receive()
        assert message is not None
        if message.command.field is CommandField.C_STORE_RQ:
            back = await message.data_set(1 << 30)
            answer = Command(
                field=CommandField.C_STORE_RSP,
                responding_to=message.command.message_id,
                affected_sop_class=CT,
                affected_sop_instance=uid,
                status=0,
            )
            await association.send(message.context.id, answer)
        elif message.command.status != 0xFF00:
            return back, message.command.status


def test_nothing_of_a_patient_reaches_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="fastarchive")
    dataset = slice_of()
    with serving(tmp_path) as loopback:
        store(loopback, [dataset])
        find(loopback, StudyRootQueryRetrieveInformationModelFind, QueryRetrieveLevel="STUDY", PatientName="Test*")
        find(loopback, StudyRootQueryRetrieveInformationModelFind, QueryRetrieveLevel="X", PatientName="Test*")
        move(loopback, "NOBODY", QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.826.1.1")
    for word in ("Test0001", "Jérôme", "P0001", "A000101"):
        assert word not in caplog.text
    assert decode(encode(dataset)).PatientID == "P0001"
