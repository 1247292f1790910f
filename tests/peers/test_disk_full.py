"""A full disk: stores are refused with A700, nothing acknowledged is lost, everything else goes on."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from bench.encoding import element
from bench.modality import Modality, Scanner, write_files
from bench.peers import image_query, sop_instance_in
from bench.requestor import STUDY_ROOT_FIND, STUDY_ROOT_GET, Context
from tests.peers import dcmtk
from tests.peers.conftest import associate
from tests.server.harness import RunningArchive, eventually

SCANNER = Scanner(5, small=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_full_at_the_start_and_room_again(folder: Path, tmp_path: Path) -> None:
    study = SCANNER.study(SCANNER.patient(0), 0, Modality.CT)
    instances = list(SCANNER.series(study, 1, 12))
    first, second = instances[:6], instances[6:]
    whole_series = (
        element(0x00080052, "CS", "SERIES")
        + element(0x0020000D, "UI", study.uid)
        + element(0x0020000E, "UI", first[0].series)
    )
    write_files(iter(second), tmp_path / "second")
    with RunningArchive(folder, workers=1) as archive, associate(archive, Context(first[0].sop_class)) as association:
        for one in first:
            assert association.store(one.sop_class, one.sop_instance, one.transfer_syntax, one.data_set).status == 0

    free = shutil.disk_usage(tmp_path).free
    archive = RunningArchive(folder, workers=1, reserve=free + 2**40)
    try:
        archive.start(wait=False)
        eventually("the archive to answer", lambda: archive.get("/healthz")[0] == 200 and _echoes(archive))
        with associate(archive, Context(first[0].sop_class), Context(STUDY_ROOT_FIND)) as association:
            for one in second:
                answer = association.store(one.sop_class, one.sop_instance, one.transfer_syntax, one.data_set)
                assert answer.status >> 8 == 0xA7, hex(answer.status)
                assert answer.comment
            # What is there already needs no room.
            again = association.store(
                first[0].sop_class, first[0].sop_instance, first[0].transfer_syntax, first[0].data_set
            )
            assert again.status == 0
            found = association.find(STUDY_ROOT_FIND, image_query(study.uid, first[0].series)).identifiers
            assert {sop_instance_in(one) for one in found} == {one.sop_instance for one in first}
        with associate(archive, Context(STUDY_ROOT_GET), Context(first[0].sop_class, scp=True)) as association:
            _, retrieved = association.get(STUDY_ROOT_GET, whole_series)
            assert {one.sop_instance: one.data_set for one in retrieved} == {
                one.sop_instance: one.data_set for one in first
            }
        done = dcmtk.run("dcmsend", "-v", "-nh", "+sd", "+r", *dcmtk.address(archive), tmp_path / "second")
        assert len(re.findall(r"Out ?Of ?Resources", done.stdout)) >= len(second), done.stdout
        code, readiness = archive.get("/readyz")
        assert code == 200  # it can still be asked
        assert json.loads(readiness)["degraded"] is True
        assert archive.get("/healthz")[0] == 200
        assert archive.stop() == 0, archive.log()
    finally:
        archive.kill()

    with RunningArchive(folder, workers=1) as archive:
        with associate(archive, Context(first[0].sop_class)) as association:
            for one in second:
                assert association.store(one.sop_class, one.sop_instance, one.transfer_syntax, one.data_set).status == 0
        with associate(archive, Context(STUDY_ROOT_GET), Context(first[0].sop_class, scp=True)) as association:
            _, retrieved = association.get(STUDY_ROOT_GET, whole_series)
        assert {one.sop_instance: one.data_set for one in retrieved} == {
            one.sop_instance: one.data_set for one in instances
        }


def _echoes(archive: RunningArchive) -> bool:
    return dcmtk.run("echoscu", *dcmtk.address(archive)).returncode == 0
