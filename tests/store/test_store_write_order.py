"""Every way of writing a pack does what docs/format.md says, in that order: told by the operations on the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from fastarchive.store.disk import Disk
from fastarchive.store.filters import Buffer
from fastarchive.store.log import Log
from fastarchive.store.mirror import catch_up
from fastarchive.store.pack import PACKS, PAGE, list_packs, pack_path
from fastarchive.store.record import Location
from fastarchive.store.recovery import recover
from fastarchive.store.repair import heal
from fastarchive.store.writers import LogBroken
from tests.store.lines import needs_library, opened_line, plain_slice
from tests.store.making import encoded
from tests.upkeep.compaction_crashes import AllRead

HEADER, SEAL, DURABLE = "write header", "write seal", "publish"


class Recorder(Disk):
    """Remembers what was done to files and folders, by the part of the pack it was done to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.fail_sync = False

    def note(self, what: str) -> None:
        if not self.done or self.done[-1] != what:
            self.done.append(what)

    def create(self, path: Path) -> int:
        self.note(f"create {path.suffix}")
        return super().create(path)

    def lock(self, fd: int, *, wait: bool = False) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{fd}")).name  # noqa: PTH115 - of a descriptor
        self.note(f"lock {name if name.endswith('.lock') else 'pack'}")
        super().lock(fd, wait=wait)

    def write_some(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        size = sum(len(buffer) for buffer in buffers)
        if offset >= PAGE:
            table = bytes(buffers[0][:4]) == bytes.fromhex("532a4d18")
            self.note("write table" if table else "write records")
        else:
            self.note(HEADER if size == PAGE else SEAL if offset == 512 else DURABLE)
        return super().write_some(fd, buffers, offset)

    def sync(self, fd: int) -> None:
        if self.fail_sync:
            self.note("fdatasync fails")
            raise OSError(5, os.strerror(5))
        self.note("fdatasync")
        super().sync(fd)

    def sync_all(self, fd: int) -> None:
        self.note("fsync")
        super().sync_all(fd)

    def forget(self, fd: int) -> None:
        self.note("forget")
        super().forget(fd)

    def sync_directory(self, path: Path) -> None:
        self.note(f"fsync {path.name}")
        super().sync_directory(path)

    def truncate(self, fd: int, length: int) -> None:
        self.note("cut")
        super().truncate(fd, length)

    def reserve(self, fd: int, length: int) -> None:
        self.note("reserve")
        super().reserve(fd, length)

    def rename(self, source: Path, target: Path) -> None:
        self.note(f"rename {source.suffix} to {target.suffix}")
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        self.note(f"remove {path.parents[1].name}{path.suffix}")
        super().remove(path)

    def taken(self) -> list[str]:
        done, self.done = self.done, []
        return done


CREATION = [
    "lock creation.lock",
    "create .new",
    "lock pack",
    HEADER,
    "fsync",
    "rename .new to .pack",
    "fsync packs",
]
GROUP = ["write records", "fdatasync", DURABLE]
SEALING = ["write table", "cut", DURABLE, "fsync", SEAL, "fdatasync"]
COPYING = [
    "lock creation.lock",
    "create .new",
    "lock pack",
    HEADER,
    "write records",
    "write table",
    "fsync",
    "forget",
    "rename .new to .pack",
    "fsync packs",
]


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("log", "line"):
        monkeypatch.setattr(f"fastarchive.store.{module}.reservation", lambda *_: 0)


def fill(directory: Path, numbers: range) -> list[Location]:
    with Log(directory) as log:
        return [log.append(encoded(number)).result(10) for number in numbers]


def test_creation_group_commit_and_seal(tmp_path: Path) -> None:
    disk = Recorder()
    data = tmp_path / "data"
    with Log(data, disk=disk) as log:
        log.append(encoded(1)).result(10)
        first = ["lock creation.lock", "fsync data", f"fsync {tmp_path.name}", *CREATION[1:]]
        assert disk.taken() == [*first, *GROUP]
        log.append(encoded(2)).result(10)
        assert disk.taken() == GROUP
    assert disk.taken() == SEALING
    with Log(data, disk=disk) as log:
        log.append(encoded(3)).result(10)
        assert disk.taken() == [*CREATION, *GROUP]


def test_a_failed_sync_abandons_the_pack(tmp_path: Path) -> None:
    disk = Recorder()
    fill(tmp_path, range(1))
    with Log(tmp_path, disk=disk) as log:
        log.append(encoded(1)).result(10)
        disk.taken()
        disk.fail_sync = True
        with pytest.raises(LogBroken):
            log.append(encoded(2)).result(10)
        assert disk.taken() == ["write records", "fdatasync fails", "cut"]
        disk.fail_sync = False
        log.append(encoded(3)).result(10)
    # A new pack, then the abandoned one as recovery would do it, then the end.
    assert disk.taken() == [*CREATION, *GROUP, "lock pack", "fdatasync", "forget", *SEALING, *SEALING]


def test_recovery(tmp_path: Path) -> None:
    with Log(tmp_path / "living") as log:
        log.append(encoded(1)).result(10)
        shutil.copytree(tmp_path / "living" / PACKS, tmp_path / "dead" / PACKS)
    disk = Recorder()
    recover(tmp_path / "dead", disk)
    assert disk.taken() == ["lock pack", "fdatasync", "forget", *SEALING]


def test_repair_and_the_mirror(tmp_path: Path) -> None:
    main, mirror = tmp_path / "main", tmp_path / "mirror"
    (location,) = fill(main, range(1))
    mirror.mkdir()
    disk = Recorder()
    catch_up(main, mirror, disk=disk)
    assert disk.taken() == ["lock pack", "forget", *COPYING]
    path = pack_path(main, location.pack)
    content = bytearray(path.read_bytes())
    content[location.end - 1] ^= 1
    path.write_bytes(content)
    heal(location.pack, (main, mirror), disk=disk)
    assert disk.taken() == ["lock pack", "forget", "lock pack", "forget", *COPYING]


def test_compaction(tmp_path: Path) -> None:
    from fastarchive.upkeep.compaction import Compaction

    main, mirror = tmp_path / "main", tmp_path / "mirror"
    for number in range(2):
        fill(main, range(number, number + 1))
    mirror.mkdir()
    catch_up(main, mirror)
    disk = Recorder()
    assert len(Compaction(main, AllRead(main), mirror=mirror, disk=disk).run().removed) == 2
    assert disk.taken() == [
        "lock compaction.lock",
        "lock pack",
        "lock creation.lock",
        "create .new",
        "lock pack",
        "write records",
        "fdatasync",
        "forget",
        "lock creation.lock",
        HEADER,
        "fsync",
        "rename .new to .pack",
        "fsync packs",
        *SEALING,
        "lock pack",
        "forget",
        *COPYING,
        "lock removal.lock",
        "remove mirror.pack",
        "fsync packs",
        "remove main.pack",
        "fsync packs",
    ]
    assert list_packs(main) == list_packs(mirror)


@needs_library
def test_a_line_writes_in_the_same_order(tmp_path: Path) -> None:
    disk = Recorder()
    data = tmp_path / "data"
    with opened_line(data, disk=disk) as plain:
        plain.store(plain_slice(1))
        first = ["lock creation.lock", "fsync data", f"fsync {tmp_path.name}", *CREATION[1:]]
        assert disk.taken() == [*first, *GROUP]
        plain.store(plain_slice(2))
        assert disk.taken() == GROUP
    assert disk.taken() == SEALING
    with opened_line(data, disk=disk) as plain:
        plain.store(plain_slice(3))
        disk.taken()
        disk.fail_sync = True
        assert isinstance(plain.store(plain_slice(4)).error, LogBroken)
        disk.fail_sync = False
        plain.store(plain_slice(5))
    done = disk.taken()
    # Given up: cut, and settled like the pack of a process that died. The next one may come into being meanwhile.
    assert done[:2] == ["write records", "fdatasync fails"]
    assert "cut" in done and done[-len(SEALING) :] == SEALING
