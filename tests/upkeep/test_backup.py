"""Backup and restore: complete, incremental, and whole again after being killed anywhere."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from fastarchive.archive import Archive
from fastarchive.store.disk import Disk
from fastarchive.store.pack import list_packs, pack_path, read_state
from fastarchive.store.recovery import recover
from fastarchive.upkeep.backup import KEPT, Backup, BackupReport
from fastarchive.upkeep.copies import CopyFailed
from fastarchive.upkeep.manifest import BackupError, read_manifest
from fastarchive.upkeep.reindex import rebuild
from fastarchive.upkeep.restore import restore
from tests.server.instances import sop_instance_uid
from tests.store.making import in_child
from tests.upkeep.filled import fill, holds, make


def backup(data: Path, target: Path, **options: object) -> BackupReport:
    return Backup(data, target, **options).run()  # type: ignore[arg-type]  # options of several types


def restored(target: Path, folder: Path) -> Path:
    """An archive made of a backup."""
    report = restore(target, folder)
    assert not report.damaged
    assert not report.missing
    recover(folder)
    rebuild(folder)
    return folder


def check(target: Path, folder: Path, numbers: range) -> None:
    with Archive.open(restored(target, folder)) as archive:
        holds(archive, numbers)


def sealed(folder: Path, pack: int) -> bool:
    with pack_path(folder, pack).open("rb") as file:
        return read_state(file.fileno()).seal is not None


def test_a_closed_archive_comes_back(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(25))
    report = backup(data, tmp_path / "backup")
    assert (report.packs, report.copied, report.complete) == (1, 1, True)
    check(tmp_path / "backup", tmp_path / "new", range(25))


def test_while_it_runs_all_that_was_acknowledged_is_in_it(tmp_path: Path) -> None:
    data, target = make(tmp_path / "data", range(10)), tmp_path / "backup"
    with Archive.open(data) as archive:
        fill(archive, range(10, 20))
        first = backup(data, target)
        assert (first.packs, first.copied) == (2, 2)
        check(target, tmp_path / "first", range(20))
        assert backup(data, target).copied == 0
        fill(archive, range(20, 30))
        second = backup(data, target)
        # The pack that grew is copied again, the sealed one isn't.
        assert (second.packs, second.copied) == (2, 1)
        assert not sealed(target, list_packs(target)[1])
        check(target, tmp_path / "second", range(30))
    third = backup(data, target)
    assert third.copied == 1
    assert sealed(target, list_packs(target)[1])
    assert backup(data, target, verify=True).copied == 0
    check(target, tmp_path / "third", range(30))


def test_a_crashed_archive_is_settled_first(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "data") as archive:
        fill(archive, range(10))
        shutil.copytree(tmp_path / "data" / "packs", tmp_path / "crashed" / "packs")
    # Power failed before the durable length reached the disk: records lie beyond it that were acknowledged.
    (pack,) = list_packs(tmp_path / "crashed")
    with pack_path(tmp_path / "crashed", pack).open("r+b") as file:
        file.seek(1024)
        file.write((4096).to_bytes(8, "little") + (4096 ^ (1 << 64) - 1).to_bytes(8, "little"))
    backup(tmp_path / "crashed", tmp_path / "backup")
    check(tmp_path / "backup", tmp_path / "new", range(10))


class Killer(Disk):
    """Kills its process at the nth operation that changes something."""

    def __init__(self, countdown: int) -> None:
        self.countdown = countdown

    def _step(self) -> None:
        self.countdown -= 1
        if self.countdown < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def create(self, path: Path) -> int:
        self._step()
        return super().create(path)

    def write(self, fd: int, buffers: object, offset: int) -> int:
        self._step()
        return super().write(fd, buffers, offset)  # type: ignore[arg-type]  # as it came

    def sync_all(self, fd: int) -> None:
        self._step()
        super().sync_all(fd)

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)
        self._step()

    def sync_directory(self, path: Path) -> None:
        self._step()
        super().sync_directory(path)

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)


def killed(process: int) -> bool:
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def test_killed_anywhere_a_backup_stays_and_the_next_run_completes_it(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(5))
    with Archive.open(data) as archive:
        fill(archive, range(5, 10))
        backup(data, tmp_path / "before")  # with a pack that goes on growing
        fill(archive, range(10, 15))
        make(data, range(15, 20))
        moment, ended, seen = 0, False, set()
        while not ended:
            target = tmp_path / f"backup-{moment}"
            shutil.copytree(tmp_path / "before", target)
            ended = not killed(in_child(lambda t=target, m=moment: Backup(data, t, disk=Killer(m)).run()))  # type: ignore[misc]
            # What the manifest lists can be restored, whatever the moment: the backup before, whose pack that grew
            # may be newer already, or the new one.
            with Archive.open(restored(target, tmp_path / f"killed-{moment}")) as again:
                count = int(again.status()["instances"])
                holds(again, range(count))
            seen.add(count)
            backup(data, target)
            check(target, tmp_path / f"whole-{moment}", range(20))
            assert not list((target / "packs").glob("*.partial"))
            moment += 1
        assert moment > 15
        assert seen == {10, 15, 20}


def test_a_restore_killed_anywhere_shows_no_archive_and_goes_on(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(5))
    make(data, range(5, 10))
    backup(data, tmp_path / "backup")
    moment, ended = 0, False
    while not ended:
        folder = tmp_path / f"new-{moment}"
        ended = not killed(
            in_child(lambda f=folder, m=moment: restore(tmp_path / "backup", f, disk=Killer(m)))  # type: ignore[misc]
        )
        if not (folder / "packs").exists():
            check(tmp_path / "backup", folder, range(10))
        else:
            rebuild(folder)
            with Archive.open(folder) as archive:
                holds(archive, range(10))
        moment += 1
    assert moment > 8


def test_restore_wants_an_empty_folder_and_a_finished_backup(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(3))
    backup(data, tmp_path / "backup")
    with pytest.raises(BackupError, match="not empty"):
        restore(tmp_path / "backup", data)
    with pytest.raises(BackupError, match="no finished backup"):
        restore(data, tmp_path / "new")
    manifest = tmp_path / "backup" / "backup.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"sealed": true', b'"sealed": false'))
    with pytest.raises(BackupError, match="damaged"):
        restore(tmp_path / "backup", tmp_path / "new")


def test_a_backup_is_not_mixed_with_anything_else(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(3))
    other = make(tmp_path / "other", range(3))
    backup(data, tmp_path / "backup")
    with pytest.raises(BackupError, match="another archive"):
        backup(other, tmp_path / "backup")
    (tmp_path / "unmounted" / "packs").mkdir(parents=True)
    with pytest.raises(BackupError, match="isn't mounted"):
        backup(tmp_path / "unmounted", tmp_path / "backup", prune=True)
    with pytest.raises(BackupError, match="data folder"):
        backup(data, other)
    with pytest.raises(BackupError, match="itself"):
        backup(data, data / "backup")
    with pytest.raises(FileNotFoundError):
        backup(tmp_path / "nothing", tmp_path / "backup")


def flip(path: Path, offset: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_damage_in_the_backup_is_found_and_copied_anew(tmp_path: Path) -> None:
    data, target = make(tmp_path / "data", range(5)), tmp_path / "backup"
    backup(data, target)
    (pack,) = list_packs(target)
    flip(pack_path(target, pack), 5000)
    assert backup(data, target).copied == 0  # not read
    assert restore(target, tmp_path / "damaged").damaged == [pack]
    report = backup(data, target, verify=True)
    assert (report.healed, report.copied, report.complete) == ([pack], 1, True)
    check(target, tmp_path / "new", range(5))
    pack_path(target, pack).unlink()
    assert restore(target, tmp_path / "missing").missing == [pack]
    assert backup(data, target).copied == 1
    check(target, tmp_path / "again", range(5))


def test_damage_in_the_archive_is_told_and_healed_from_the_mirror(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    with Archive.open(tmp_path / "data", mirror=mirror) as archive:
        fill(archive, range(5))
        location = archive.read(sop_instance_uid(2)).location
        backup(tmp_path / "data", tmp_path / "early")
    flip(pack_path(tmp_path / "data", location.pack), location.end - 1)
    report = backup(tmp_path / "data", tmp_path / "backup")
    assert [finding.sop_instance for finding in report.damaged] == [sop_instance_uid(2)]
    assert not report.complete
    # The older copy, which was whole, is kept; and it is tried again until the archive is healed.
    assert not backup(tmp_path / "data", tmp_path / "early").complete
    assert not backup(tmp_path / "data", tmp_path / "early").complete
    assert len(list((tmp_path / "early" / KEPT).iterdir())) == 1
    for target in ("backup", "early", "fresh"):
        assert backup(tmp_path / "data", tmp_path / target, mirror=mirror).complete
        check(tmp_path / target, tmp_path / f"new-{target}", range(5))


def test_packs_the_archive_no_longer_has_stay_until_pruned(tmp_path: Path) -> None:
    data, target = make(tmp_path / "data", range(5)), tmp_path / "backup"
    make(data, range(5, 10))
    backup(data, target)
    gone, stays = list_packs(data)
    pack_path(data, gone).unlink()
    report = backup(data, target)
    assert (report.gone, report.packs, report.complete) == ([gone], 2, True)
    check(target, tmp_path / "with", range(10))
    assert backup(data, target, prune=True).pruned == [gone]
    assert list_packs(target) == [stays]
    check(target, tmp_path / "without", range(5, 10))


class Forgetful(Disk):
    """A disk that keeps other bytes than were written to it."""

    def write(self, fd: int, buffers: object, offset: int) -> int:
        written = super().write(fd, buffers, offset)  # type: ignore[arg-type]  # as it came
        if offset >= 4096:
            os.pwrite(fd, b"\xff", offset + written - 1)
        return written


def test_a_copy_that_does_not_read_back_is_not_believed(tmp_path: Path) -> None:
    data = make(tmp_path / "data", range(5))
    with pytest.raises(CopyFailed):
        Backup(data, tmp_path / "backup", disk=Forgetful()).run()
    assert read_manifest(tmp_path / "backup") is None
    assert backup(data, tmp_path / "backup").complete
    check(tmp_path / "backup", tmp_path / "new", range(5))
