"""Move and get over a real port, with pynetdicom and our own requestor as the other side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
from pydicom.dataset import Dataset
from pynetdicom import AE, StoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from fastarchive.services.context import Limits
from fastarchive.store.pack import pack_path
from fastarchive.upperlayer import Association, Command, CommandField, ProposedContext, connect
from tests.services.loopback import Loopback, encode, serving, slice_of
from tests.services.scu import CT, EXPLICIT, IMPLICIT, associated, store

STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"


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


def test_a_damaged_instance_fails_alone_and_is_named(tmp_path: Path) -> None:
    uids = [f"1.2.826.1.1.1.{number}" for number in (1, 2, 3)]

    async def main() -> list[int | None]:
        contexts = [ProposedContext(CT, (EXPLICIT,), scu=True, scp=True), ProposedContext(STUDY_GET, (EXPLICIT,))]
        async with connect(
            loopback.host, loopback.port, calling_ae="SCU", called_ae="FASTARCHIVE", contexts=contexts
        ) as association:
            return [(await _get(association, uid))[1] for uid in uids]

    with serving(tmp_path) as loopback:
        store(loopback, [slice_of(number=number) for number in (1, 2, 3)])
        location = loopback.archive.read(uids[1]).location
        pack = pack_path(tmp_path, location.pack)
        with pack.open("r+b") as file:
            file.seek(location.end - 20)
            file.write(b"\xff" * 8)
        assert anyio.run(main) == [0x0000, 0xA702, 0x0000]
