"""What the tests with other people's software share: one filled archive, one Orthanc, one receiver for C-MOVE."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pydicom
import pytest

from bench.encoding import data_set_of
from bench.peers import Orthanc, StoreScp, free_port
from bench.requestor import Context, RequestError, Requestor, Response
from tests.peers.corpus import Sample, samples
from tests.server.harness import RunningArchive


class Sink(StoreScp):
    """DCMTK's storescp that writes what it receives bit by bit, whatever the transfer syntax."""

    ae_title = "SINK"
    options: ClassVar[tuple[str, ...]] = ("--fork", "+B", "+xa", "-pm", "-pdu", "131072")

    def data_sets(self) -> dict[str, bytes]:
        """{SOP Instance UID: data set} of everything received so far; emptied by reading."""
        received = files_in(self.received)
        for path in self.received.iterdir():
            path.unlink()
        return received


def files_in(folder: Path) -> dict[str, bytes]:
    """{SOP Instance UID: data set} of the files that a receiver wrote, by their File Meta Information."""
    return {
        str(pydicom.filereader.read_file_meta_info(path).MediaStorageSOPInstanceUID): data_set_of(path)
        for path in folder.iterdir()
    }


class TestedOrthanc(Orthanc):
    """Orthanc that can say names of any script, and doesn't wait long when it can't parse what it receives."""

    settings: ClassVar[dict[str, Any]] = {"DefaultEncoding": "Utf8", "DicomScpTimeout": 2}


@dataclass(frozen=True)
class Stored:
    """An archive and what it answered to each sample, by name."""

    archive: RunningArchive
    answers: dict[str, Response]
    accepted: list[Sample] = field(default_factory=list)


def associate(archive: RunningArchive, *contexts: Context) -> Requestor:
    """An association with the archive through the byte-exact requestor."""
    return Requestor(archive.host, archive.dicom_port, contexts, called=archive.ae_title)


def store(archive: RunningArchive, wanted: Iterable[Sample]) -> dict[str, Response]:
    """Send samples as they are, byte by byte, over one association; the answers by sample name.

    Instances without SOP Class or SOP Instance UID are announced as CT images with an invented UID, as a sender would
    that takes no notice. Fails if the association breaks.
    """
    wanted = list(wanted)
    sop_class_of = {sample.name: sample.sop_class or "1.2.840.10008.5.1.4.1.1.2" for sample in wanted}
    pairs = dict.fromkeys((sop_class_of[sample.name], sample.transfer_syntax) for sample in wanted)
    answers: dict[str, Response] = {}
    with associate(archive, *(Context(sop_class, (syntax,)) for sop_class, syntax in pairs)) as association:
        for number, sample in enumerate(wanted):
            sop_instance = sample.sop_instance or f"1.2.3.4.{number}"
            try:
                answers[sample.name] = association.store(
                    sop_class_of[sample.name], sop_instance, sample.transfer_syntax, sample.data_set
                )
            except RequestError as error:
                raise AssertionError(f"{sample.name} broke the association: {error}") from error
    return answers


@pytest.fixture(scope="session")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    with Sink(tmp_path_factory.mktemp("sink") / "sink") as running:
        yield running


@pytest.fixture(scope="session")
def ports() -> dict[str, int]:
    """Ports that are told to one side before the other side starts."""
    return {"orthanc": free_port(), "pynetdicom": free_port(), "archive": free_port()}


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory, sink: Sink, ports: dict[str, int]) -> Iterator[Stored]:
    """The archive with every sample in it that it accepts, sent byte by byte."""
    peers = {
        "SINK": (sink.host, sink.dicom_port),
        "ORTHANC": ("127.0.0.1", ports["orthanc"]),
        "PYNETDICOM": ("127.0.0.1", ports["pynetdicom"]),
        "NOBODY": ("127.0.0.1", free_port()),
    }
    folder = tmp_path_factory.mktemp("corpus") / "data"
    with RunningArchive(folder, workers=2, peers=peers, dicom_port=ports["archive"]) as archive:
        answers = store(archive, samples())
        accepted = [sample for sample in samples() if answers[sample.name].status == 0]
        yield Stored(archive, answers, accepted)
        assert "Traceback" not in archive.log(), archive.log()


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]) -> Iterator[Orthanc]:
    folder: Path = tmp_path_factory.mktemp("orthanc") / "data"
    peer = TestedOrthanc(folder, destinations={"FASTARCHIVE": ("127.0.0.1", ports["archive"])})
    peer.dicom_port = ports["orthanc"]
    with peer as running:
        yield running
