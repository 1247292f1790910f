"""A whole archive behind a loopback port, served from a thread of the test's own process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from fastarchive.archive import Archive
from fastarchive.metrics import Metrics
from fastarchive.services.context import Limits, Peer, ServiceContext, open_context
from fastarchive.services.dispatch import handle_association
from fastarchive.services.observer import MetricsObserver
from fastarchive.services.policy import acceptor_policy
from fastarchive.services.prompt import PromptStores
from fastarchive.upperlayer import AcceptorPolicy, Drain, serve


class Loopback:
    """What a test needs of the running archive."""

    def __init__(self, port: int, archive: Archive, context: ServiceContext) -> None:
        self.host = "127.0.0.1"
        self.port = port
        self.archive = archive
        self.context = context


@contextmanager
def serving(
    directory: Path,
    *,
    peers: Mapping[str, int] | None = None,
    limits: Limits | None = None,
    policy: AcceptorPolicy | None = None,
    archive_options: Mapping[str, Any] | None = None,
    **context_options: Any,
) -> Iterator[Loopback]:
    """An archive in `directory`, served until the end of the block. `peers`: AE title -> port on this machine."""
    addresses = {title: Peer("127.0.0.1", port) for title, port in (peers or {}).items()}
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Archive.open(directory, **(archive_options or {})) as archive,
        open_context(
            archive,
            peers=addresses,
            metrics=Metrics({"FASTARCHIVE", "SCU", *addresses}),
            limits=limits,
            **context_options,
        ) as context,
    ):
        ready = threading.Event()
        stop: list[Any] = []

        async def main() -> None:
            drain = Drain(5.0, quiet=0.0)
            async with anyio.create_task_group() as tasks, anyio.from_thread.BlockingPortal() as portal:
                stop.extend((portal, drain))
                stores = PromptStores(context)
                serve_it = partial(
                    serve,
                    policy=policy or acceptor_policy(),
                    handler=partial(handle_association, context=context, stores=stores),
                    observer=MetricsObserver(context.metrics),
                    drain=drain,
                )
                await tasks.start(serve_it, listener)
                ready.set()
                await drain.wait()
            stores.close()

        failure: list[BaseException] = []

        def run() -> None:
            try:
                anyio.run(main, backend_options={"use_uvloop": True})
            except BaseException as error:
                failure.append(error)
                ready.set()

        thread = threading.Thread(target=run, name="loopback")
        thread.start()
        try:
            assert ready.wait(20), "the archive does not start"
            assert not failure, failure
            yield Loopback(listener.getsockname()[1], archive, context)
        finally:
            if stop and thread.is_alive():
                portal, drain = stop
                portal.call(drain.start)
            thread.join(20)
        assert not failure, failure


def encode(dataset: Dataset, transfer_syntax: str = "1.2.840.10008.1.2.1") -> bytes:
    """A data set without file meta information."""
    uid = UID(transfer_syntax)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = uid.is_little_endian, uid.is_implicit_VR
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


def decode(data: bytes, transfer_syntax: str = "1.2.840.10008.1.2.1") -> Dataset:
    """The reverse of :func:`encode`."""
    uid = UID(transfer_syntax)
    return read_dataset(BytesIO(data), uid.is_implicit_VR, uid.is_little_endian)


def slice_of(patient: int = 1, study: int = 1, series: int = 1, number: int = 1, *, size: int = 64) -> Dataset:
    """A small CT image; its UIDs are 1.2.826.<patient>.<study>.<series>.<number>."""
    dataset = Dataset()
    root = f"1.2.826.{patient}.{study}"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = f"{root}.{series}.{number}"
    dataset.StudyDate, dataset.StudyTime = f"202401{study % 28 + 1:02d}", "101500"
    dataset.AccessionNumber = f"A{patient:04d}{study:02d}"
    dataset.Modality = "CT" if series % 2 else "MR"
    dataset.PatientName, dataset.PatientID = f"Test{patient:04d}^Jérôme", f"P{patient:04d}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = root, f"{root}.{series}"
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = str(study), series, number
    dataset.Rows = dataset.Columns = size
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = bytes((index * 7 + number) & 0xFF for index in range(2 * size)) * size
    dataset["PixelData"].VR = "OW"
    return dataset


def fill(archive: Archive, datasets: Iterable[Dataset]) -> None:
    """Store data sets without waiting for each of them."""
    waiting = []
    for dataset in datasets:
        intake = archive.receive(transfer_syntax="1.2.840.10008.1.2.1")
        intake.write(encode(dataset))
        waiting.append((intake, archive.submit(intake)))
    for intake, future in waiting:
        future.result(60)
        intake.close()
