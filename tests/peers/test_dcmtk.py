"""DCMTK's programs against the archive: what they do to files on the way is what a bit-preserving receiver sees too."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.encoding import element
from bench.requestor import STUDY_ROOT_GET, Context
from tests.peers import dcmtk
from tests.peers.conftest import Sink, Stored, associate
from tests.peers.corpus import roots, whole
from tests.server.harness import RunningArchive


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    with RunningArchive(tmp_path_factory.mktemp("dcmtk") / "data", workers=1) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus as files, each with a UID of its own."""
    place = tmp_path_factory.mktemp("files")
    for number, sample in enumerate(whole()):
        (place / f"{number:03d}-{sample.name}").write_bytes(sample.file())
    return place


def held(archive: RunningArchive) -> dict[str, bytes]:
    """{SOP Instance UID: data set} of everything in an archive, through C-GET of every study."""
    pairs = sorted(
        {(sample.sop_class, syntax) for sample in whole() for syntax in (*UNCOMPRESSED, sample.transfer_syntax)}
    )
    contexts = [Context(STUDY_ROOT_GET), *(Context(sop_class, (syntax,), scp=True) for sop_class, syntax in pairs)]
    assert len(contexts) <= 128
    with associate(archive, *contexts) as association:
        studies = "\\".join(sorted({sample.study for sample in whole()}))
        identifier = element(0x00080052, "CS", "STUDY") + element(0x0020000D, "UI", studies)
        response, retrieved = association.get(STUDY_ROOT_GET, identifier)
    assert response.status == 0, response
    return {one.sop_instance: one.data_set for one in retrieved}


UNCOMPRESSED = ("1.2.840.10008.1.2.1",)


def test_echoscu(archive: RunningArchive) -> None:
    done = dcmtk.run("echoscu", "-v", *dcmtk.address(archive))
    assert done.returncode == 0, done.stdout
    assert "Received Echo Response (Success)" in done.stdout


def test_storescu_sends_every_file_in_its_own_transfer_syntax(
    archive: RunningArchive, folder: Path, sink: Sink, tmp_path: Path
) -> None:
    sink.data_sets()
    profile = dcmtk.association_profile(
        tmp_path / "profile.cfg", ((sample.sop_class, sample.transfer_syntax) for sample in whole())
    )
    to_sink = dcmtk.run("storescu", "-v", "-nh", *profile, "+sd", "+r", sink.host, str(sink.dicom_port), folder)
    reference = sink.data_sets()
    ours = dcmtk.run("storescu", "-v", "-nh", *profile, "+sd", "+r", *dcmtk.address(archive), folder)
    assert ours.stdout.count("(Success)") == to_sink.stdout.count("(Success)"), ours.stdout[-3000:]
    received = held(archive)
    assert set(received) == set(reference)
    assert [uid for uid in reference if received[uid] != reference[uid]] == []
    assert len(received) > 200


def test_storescu_with_its_defaults(tmp_path: Path) -> None:
    """Straight on the folders people have: what DCMTK can convert and send arrives, nothing breaks.

    Variants of one image under one UID are refused by name, the first is kept.
    """
    with RunningArchive(tmp_path / "data", workers=1) as archive:
        done = dcmtk.run("storescu", "-v", "-nh", "+sd", "+r", *dcmtk.address(archive), *roots())
        answers = Counter(re.findall(r"Received Store Response \((.*)\)", done.stdout))
        assert set(answers) <= {"Success", "Error: DataSetDoesNotMatchSOPClass"}, answers
        assert answers["Success"] > 120, answers
        assert sum(answers.values()) > 150, answers
        assert "Aborting Association" not in done.stdout
        assert "Traceback" not in archive.log()


def test_dcmsend_of_folders(folder: Path, sink: Sink, tmp_path: Path) -> None:
    """dcmsend picks transfer syntaxes by file; what it makes of the files arrives here and at a receiver alike."""
    sink.data_sets()
    arguments = ("-v", "-nh", "-nuc", "+sd", "+r")
    dcmtk.run("dcmsend", *arguments, sink.host, str(sink.dicom_port), folder)
    reference = sink.data_sets()
    with RunningArchive(tmp_path / "data", workers=2) as archive:
        done = dcmtk.run("dcmsend", *arguments, *dcmtk.address(archive), folder)
        success = re.search(r"\* with status SUCCESS\s+: (\d+)", done.stdout)
        assert success, done.stdout
        received = held(archive)
    assert int(success[1]) == len(received) > 200
    assert [uid for uid in received if received[uid] != reference[uid]] == []
    # dcmsend sends what it can't read again under the SOP class of another file: refused, as it would be unfindable.
    assert len(set(reference) - set(received)) <= 3


def test_termscu_cannot_stop_the_archive(archive: RunningArchive) -> None:
    """A request to shut down (a private SOP class of DCMTK) is answered with a refused context; service goes on."""
    dcmtk.run("termscu", "-v", *dcmtk.address(archive))
    assert archive.running
    assert dcmtk.run("echoscu", *dcmtk.address(archive)).returncode == 0


def test_findscu_cancels(stored: Stored) -> None:
    options = dcmtk.keys_as_options({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""})
    done = dcmtk.run("findscu", "-S", "-v", "--cancel", "2", *options, *dcmtk.address(stored.archive))
    assert done.returncode == 0, done.stdout
    # The archive may have answered everything by the time the cancel arrives.
    assert re.search(r"Received Final Find Response \((Cancel|Success)", done.stdout), done.stdout


def test_movescu_to_an_unknown_destination(stored: Stored) -> None:
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": stored.accepted[0].study}
    said = dcmtk.movescu(stored.archive, "study root", keys, "STRANGER")
    assert "MoveDestinationUnknown" in said.replace(" ", ""), said


def test_movescu_to_a_destination_that_is_down(stored: Stored) -> None:
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": stored.accepted[0].study}
    said = dcmtk.movescu(stored.archive, "study root", keys, "NOBODY")
    assert "OutOfResourcesSubOperations" in said.replace(" ", "").replace(":", ""), said
    assert dcmtk.run("echoscu", *dcmtk.address(stored.archive)).returncode == 0


def test_an_identifier_without_level_is_refused(stored: Stored) -> None:
    done = dcmtk.run("findscu", "-S", "-v", "-k", "PatientName", *dcmtk.address(stored.archive))
    assert "DataSetDoesNotMatchSOPClass" in done.stdout, done.stdout
