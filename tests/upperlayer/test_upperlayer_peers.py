"""Independent implementations as the other side: pynetdicom both ways, DCMTK's tools."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu import A_ASSOCIATE_RJ

from fastarchive.upperlayer import (
    AssociationAborted,
    AssociationRejected,
    Command,
    CommandField,
    ProposedContext,
    connect,
)
from tests.requestor import request_association
from tests.upperlayer.running import (
    CT_IMAGE_STORAGE,
    EXPLICIT,
    IMPLICIT,
    PATIENT,
    POLICY,
    VERIFICATION,
    Records,
    Service,
    run,
    running,
)


def ct_slice() -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = CT_IMAGE_STORAGE
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.Modality = "CT"
    dataset.Rows = dataset.Columns = 512
    dataset.BitsAllocated = 16
    dataset.PixelData = os.urandom(512 * 512 * 2)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def save(dataset: Dataset, path: Path) -> bytes:
    """Write a file; gives the data set as it stands in it."""
    dataset.save_as(path, enforce_file_format=True)
    data = path.read_bytes()
    meta_length = int.from_bytes(data[140:144], "little")
    return data[144 + meta_length :]


# -- pynetdicom asks us -----------------------------------------------------------------------------------------------


def _pynetdicom_stores(port: int, dataset: Dataset, maximum: int) -> list[int]:
    ae = AE("PYNETDICOM")
    ae.maximum_pdu_size = maximum
    ae.add_requested_context(VERIFICATION)
    ae.add_requested_context(CT_IMAGE_STORAGE, [EXPLICIT])
    association = request_association(ae, "127.0.0.1", port, ae_title="ARCHIVE")
    assert association.is_established
    statuses = [association.send_c_echo().Status, association.send_c_store(dataset).Status]
    association.release()
    assert association.is_released
    return statuses


@pytest.mark.parametrize("maximum", [0, 16382])
def test_pynetdicom_echoes_and_stores(maximum: int, tmp_path: Path) -> None:
    service = Service()
    dataset = ct_slice()
    expected = save(dataset, tmp_path / "slice.dcm")

    async def test() -> None:
        async with running(service) as port:
            statuses = await anyio.to_thread.run_sync(_pynetdicom_stores, port, dataset, maximum)
            assert statuses == [0, 0]

    run(test)
    assert service.data_sets == [expected]
    assert service.commands[1].affected_sop_instance == dataset.SOPInstanceUID


def _pynetdicom_is_rejected(port: int) -> list[tuple[int, int, int]]:
    """What it received as rejections. If one comes and ends the connection before pynetdicom's own thread has looked
    whether there was a connection, that thread takes it for a failure to connect; so the PDU itself is looked at."""
    rejections: list[tuple[int, int, int]] = []

    def received(event: evt.Event) -> None:
        if isinstance(event.pdu, A_ASSOCIATE_RJ):
            rejections.append((event.pdu.result, event.pdu.source, event.pdu.reason_diagnostic))

    ae = AE("PYNETDICOM")
    ae.add_requested_context(VERIFICATION)
    handlers = [(evt.EVT_PDU_RECV, received)]
    association = request_association(ae, "127.0.0.1", port, ae_title="WRONG", evt_handlers=handlers)
    assert not association.is_established
    return rejections


def test_A1_pynetdicom_is_rejected() -> None:
    async def test() -> None:
        async with running(Service(), policy=replace(POLICY, called_titles={"ARCHIVE"})) as port:
            assert await anyio.to_thread.run_sync(_pynetdicom_is_rejected, port) == [(1, 1, 7)]

    run(test)


def _pynetdicom_proposes_roles(port: int) -> tuple[bool, bool]:
    ae = AE("PYNETDICOM")
    ae.add_requested_context(CT_IMAGE_STORAGE)
    roles = [build_role(CT_IMAGE_STORAGE, scp_role=True)]
    association = request_association(ae, "127.0.0.1", port, ext_neg=roles)
    context = association.accepted_contexts[0]
    association.abort()
    return bool(context.as_scu), bool(context.as_scp)


def test_R11_role_selection_as_pynetdicom_sees_it() -> None:
    async def test() -> None:
        policy = replace(POLICY, roles=lambda sop_class, scu, scp: (scu, scp))
        async with running(Service(), policy=policy) as port:
            assert await anyio.to_thread.run_sync(_pynetdicom_proposes_roles, port) == (False, True)

    run(test)


# -- we ask pynetdicom ------------------------------------------------------------------------------------------------


@contextmanager
def pynetdicom_acceptor(**options: Any) -> Iterator[tuple[int, list[tuple[bytes, str]]]]:
    stored: list[tuple[bytes, str]] = []

    def store(event: evt.Event) -> int:
        stored.append((event.request.DataSet.getvalue(), str(event.request.AffectedSOPInstanceUID)))
        return 0

    ae = AE("PYNETDICOM")
    ae.maximum_pdu_size = 16382
    ae.add_supported_context(VERIFICATION)
    ae.add_supported_context(CT_IMAGE_STORAGE, [EXPLICIT, IMPLICIT])
    for name, value in options.items():
        setattr(ae, name, value)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield server.socket.getsockname()[1], stored
    finally:
        server.shutdown()


CONTEXTS = [ProposedContext(VERIFICATION, [IMPLICIT]), ProposedContext(CT_IMAGE_STORAGE, [EXPLICIT])]


def test_we_echo_and_store_at_pynetdicom() -> None:
    data = os.urandom(528_000)

    async def test(port: int) -> None:
        async with connect(
            "127.0.0.1", port, calling_ae="OURS", called_ae="PYNETDICOM", contexts=CONTEXTS, timeouts=PATIENT
        ) as association:
            assert association.peer_maximum_length == 16382
            await association.send(
                1, Command(field=CommandField.C_ECHO_RQ, message_id=1, affected_sop_class=VERIFICATION)
            )
            answer = await association.receive()
            assert answer is not None
            assert answer.command == Command(
                field=CommandField.C_ECHO_RSP, responding_to=1, affected_sop_class=VERIFICATION, status=0
            )
            request = Command(
                field=CommandField.C_STORE_RQ,
                message_id=2,
                affected_sop_class=CT_IMAGE_STORAGE,
                affected_sop_instance="1.2.3.4",
                priority=0,
                has_data_set=True,
            )
            await association.send(3, request, data)
            answer = await association.receive()
            assert answer is not None
            assert (answer.command.field, answer.command.status) == (CommandField.C_STORE_RSP, 0)

    with pynetdicom_acceptor() as (port, stored):
        run(lambda: test(port))
        assert stored == [(data, "1.2.3.4")]
    assert threading.active_count() < 20


def test_pynetdicom_rejects_and_aborts_us() -> None:
    async def test(port: int) -> None:
        with pytest.raises(AssociationRejected) as caught:
            async with connect(
                "127.0.0.1", port, calling_ae="OURS", called_ae="OTHER", contexts=CONTEXTS, timeouts=PATIENT
            ):
                pass
        assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 7)
        async with connect(
            "127.0.0.1", port, calling_ae="OURS", called_ae="PYNETDICOM", contexts=CONTEXTS, timeouts=PATIENT
        ) as association:
            with pytest.raises(AssociationAborted) as aborted:
                await association.receive()
            assert aborted.value.by_peer

    with pynetdicom_acceptor(require_called_aet=True, network_timeout=0.3) as (port, _):
        run(lambda: test(port))


# -- DCMTK asks us ----------------------------------------------------------------------------------------------------


async def _tool(name: str, *arguments: str) -> str:
    # pynetdicom installs tools of the same names beside the interpreter.
    elsewhere = [folder for folder in os.get_exec_path() if folder != str(Path(sys.executable).parent)]
    program = shutil.which(name, path=os.pathsep.join(elsewhere))
    assert program is not None
    result = await anyio.run_process([program, *arguments], check=False)
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    return (result.stdout + result.stderr).decode(errors="replace")


def test_echoscu() -> None:
    records = Records()

    async def test() -> None:
        async with running(Service(), observer=records) as port:
            await _tool("echoscu", "--repeat", "3", "127.0.0.1", str(port))
            await _tool("echoscu", "--propose-pc", "128", "127.0.0.1", str(port))
            await _tool("echoscu", "--abort", "127.0.0.1", str(port))

    run(test)
    assert records.outcomes == ["released", "released", "peer-aborted"]


@pytest.mark.parametrize("maximum", ["4096", "131072"])
def test_storescu(maximum: str, tmp_path: Path) -> None:
    service = Service()
    paths = [tmp_path / f"{number}.dcm" for number in range(5)]
    expected = [save(ct_slice(), path) for path in paths]

    async def test() -> None:
        async with running(service) as port:
            await _tool("storescu", "-xe", "-pdu", maximum, "127.0.0.1", str(port), *map(str, paths))

    run(test)
    assert service.data_sets == expected


def test_a_sender_with_nagles_algorithm_does_not_stall(tmp_path: Path) -> None:
    """DCMTK leaves it on: without prompt acknowledgements each of its messages takes 40 ms and more."""
    service = Service()
    paths = [tmp_path / f"{number}.dcm" for number in range(40)]
    for path in paths:
        save(ct_slice(), path)

    async def test() -> None:
        async with running(service) as port:
            await _tool("dcmsend", "127.0.0.1", str(port), *map(str, paths))  # to have the files cached
            started = anyio.current_time()
            await _tool("dcmsend", "127.0.0.1", str(port), *map(str, paths))
            assert anyio.current_time() - started < 40 * 0.025

    run(test)
    assert len(service.data_sets) == 80
