"""A file system that is really full, and one the kernel made read-only after an error. Needs root, to mount them."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.modality import Instance, Modality, Scanner
from bench.requestor import STUDY_ROOT_FIND, VERIFICATION, Context
from tests.peers.conftest import associate
from tests.server.harness import RunningArchive, eventually

MEBIBYTE = 2**20
SCANNER = Scanner(7, small=True)
STUDY = SCANNER.study(SCANNER.patient(0), 0, Modality.CT)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of 600 MiB that becomes read-only after an error."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        image, place = Path(name, "image"), Path(name, "disk")
        with image.open("wb") as file:
            file.truncate(600 * MEBIBYTE)
        place.mkdir()
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        subprocess.run(["mount", "-o", "loop,errors=remount-ro", image, place], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)


def test_a_disk_others_fill_to_the_last_byte(disk: Path) -> None:
    instances = list(SCANNER.series(STUDY, 1, 30))
    with _archive(disk) as archive:
        assert _statuses(archive, instances[:10]) == {0}
        with (disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
            while True:
                filler.write(b"x" * MEBIBYTE)
        assert os.statvfs(disk).f_bavail == 0
        assert _statuses(archive, instances[10:20]) == {0xA700}
        # Not even a process that has to begin anew is in want of space.
        (worker,) = archive.processes("worker")
        archive.kill_process(worker)
        eventually("another worker", lambda: archive.processes("worker") not in ([], [worker]), 60)
        eventually("it answers", lambda: archive.get("/healthz")[0] == 200, 60)
        assert _statuses(archive, instances[10:20]) == {0xA700}
        _all_else_goes_on(archive)
        assert json.loads(archive.get("/readyz")[1])["degraded"] is True
        (disk / "filler").unlink()
        assert _statuses(archive, instances) == {0}


def test_a_file_system_the_kernel_made_read_only(disk: Path) -> None:
    instances = list(SCANNER.series(STUDY, 1, 20))
    archive = _archive(disk).start()
    try:
        assert _statuses(archive, instances[:10]) == {0}
        device = subprocess.run(["findmnt", "-no", "SOURCE", disk], check=True, capture_output=True, text=True)
        Path("/sys/fs/ext4", Path(device.stdout.strip()).name, "trigger_fs_error").write_text("1")
        assert _statuses(archive, instances[10:]) == {0x0110}
        _all_else_goes_on(archive)
        readiness = json.loads(archive.get("/readyz")[1])
        assert readiness["degraded"] is True
        assert "ead-only" in readiness["checks"]["writing"]["detail"]
        assert "is dropped" not in archive.log(), "the index was thrown away"
    finally:
        archive.kill()


def _archive(disk: Path) -> RunningArchive:
    archive = RunningArchive(disk / "data", workers=1, reserve="100MiB")
    archive.log_path = disk.with_name("archive.log")
    return archive


def _statuses(archive: RunningArchive, instances: list[Instance]) -> set[int]:
    with associate(archive, Context(instances[0].sop_class)) as association:
        return {
            association.store(one.sop_class, one.sop_instance, one.transfer_syntax, one.data_set).status
            for one in instances
        }


def _all_else_goes_on(archive: RunningArchive) -> None:
    with associate(archive, Context(VERIFICATION), Context(STUDY_ROOT_FIND)) as association:
        assert association.echo().status == 0
    assert archive.get("/healthz")[0] == archive.get("/metrics")[0] == archive.get("/readyz")[0] == 200
    assert STUDY.uid in archive.run_command("find", "study", "--server", archive.address, "--json").stdout
