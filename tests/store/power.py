"""A disk that remembers what is on stable storage and what isn't, and can lose power between any two operations.

What was not synced may afterwards be there or not, page by page and name by name, in any combination: later writes may
have survived where earlier ones were lost, a file may have its new length and its old content, a rename may have
happened before the data of the file. Only within one page (or sector) writes come in their order.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Concatenate, ParamSpec, TypeVar

from fastarchive.store.disk import Disk
from fastarchive.store.filters import Buffer

SECTOR = 512
PAGE = 4096

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _alone(
    operation: Callable[Concatenate[PowerLossDisk, Arguments], Result],
) -> Callable[Concatenate[PowerLossDisk, Arguments], Result]:
    """One operation at a time: two copies are written by two threads."""

    def locked(disk: PowerLossDisk, /, *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        with disk.lock_of_operations:
            return operation(disk, *arguments, **named)

    return locked


@dataclass
class _File:
    """One inode: what is durable, and every later state of each piece of it."""

    piece: int
    stable: bytearray
    versions: dict[int, list[bytes]] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)
    fooled: bool = False
    """A sync failed: what is cached may differ from the disk without being dirty."""

    def note(self, fd: int, start: int, end: int) -> None:
        """Bytes from `start` to `end` were changed; the file shows them already."""
        length = os.fstat(fd).st_size
        if length != (self.lengths[-1] if self.lengths else len(self.stable)):
            self.lengths.append(length)
        first, last = start // self.piece, -(-end // self.piece)
        data = os.pread(fd, (last - first) * self.piece, first * self.piece)
        data += bytes((last - first) * self.piece - len(data))
        for number in range(first, last):
            at = (number - first) * self.piece
            self.versions.setdefault(number, []).append(data[at : at + self.piece])

    def settle(self, pages: Iterable[int], length: int) -> None:
        """The newest state of these pages, and the length, become durable."""
        self.stable[length:] = bytes(max(length - len(self.stable), 0))
        for page in pages:
            self.store(self.stable, page, self.versions[page][-1], length)
        self.versions.clear()
        self.lengths.clear()

    def store(self, content: bytearray, number: int, piece: bytes, length: int) -> None:
        at = number * self.piece
        if at < length:
            content[at : min(at + self.piece, length)] = piece[: length - at]

    def survivor(self, random: Random, chance: float) -> bytes:
        """What may be found after the power came back; each piece took each later step with `chance`."""
        length = random.choice([len(self.stable), *self.lengths]) if chance < 1 else self.lengths[-1:] or None
        if not isinstance(length, int):
            length = length[0] if length else len(self.stable)
        content = self.stable[:length] + bytes(max(length - len(self.stable), 0))
        for number, versions in self.versions.items():
            if random.random() < chance:
                self.store(content, number, versions[-1] if chance == 1 else random.choice(versions), length)
        return bytes(content)


@dataclass
class _Directory:
    names: dict[str, _File]
    """The durable ones."""
    pending: list[tuple[str, str, str, _File | None]] = field(default_factory=list)
    """Operations since: what, old name, new name, file."""
    current: dict[str, _File] = field(default_factory=dict)


class PowerLossDisk(Disk):
    """The disk under the directories `roots`, from now until power fails at operation `crash_at`.

    `faults` is the chance of each operation to fail by itself: short writes, EIO, ENOSPC. Deterministic for a `random`
    and a sequence of operations, which ends with one thread at a time.
    """

    def __init__(self, roots: Sequence[Path], random: Random, crash_at: int, faults: float = 0.0) -> None:
        self.random = random
        self.lock_of_operations = threading.RLock()
        self.crash_at = crash_at
        self.faults = faults
        self.operations = 0
        self.on_names: list[int] = []
        """Which of them were about names: those between them are the ones that must not change places."""
        self.dead = False
        self.piece = random.choice([SECTOR, PAGE])
        self._files: dict[tuple[int, int], _File] = {}
        self._directories: dict[Path, _Directory] = {}
        for root in roots:
            names = {}
            for path in root.iterdir():
                status = path.stat()
                names[path.name] = self._files[status.st_dev, status.st_ino] = _File(
                    self.piece, bytearray(path.read_bytes())
                )
            self._directories[root] = _Directory(names, current=dict(names))

    # ---------------------------------------------------------------- operations

    @_alone
    def create(self, path: Path) -> int:
        self._step(errno.ENOSPC, errno.EIO)
        fd = super().create(path)
        directory = self._directories.get(path.parent)
        if directory is not None:
            status = os.fstat(fd)
            file = self._files[status.st_dev, status.st_ino] = _File(self.piece, bytearray())
            directory.pending.append(("create", "", path.name, file))
            directory.current[path.name] = file
        return fd

    @_alone
    def write_some(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        file = self._file(fd)
        if file is None:
            return super().write_some(fd, buffers, offset)
        data = b"".join(buffers)
        if self.random.random() < self.faults:
            data = data[: self.random.randint(1, len(data))]  # short, or what got there before the error
            if self.random.random() < 0.5:
                super().write_some(fd, (data,), offset)
                file.note(fd, offset, offset + len(data))
                self._fail(self.random.choice([errno.EIO, errno.ENOSPC]))
        last = self.operations + 1 >= self.crash_at
        if self.dead:
            self._step()
        count = super().write_some(fd, (data,), offset)
        file.note(fd, offset, offset + count)
        if last or not self.dead:
            self._step()
        return count

    @_alone
    def copy_some(self, source: int, source_offset: int, target: int, target_offset: int, count: int) -> int:
        self._step(errno.EXDEV)
        copied = super().copy_some(source, source_offset, target, target_offset, count)
        file = self._file(target)
        if file is not None:
            file.note(target, target_offset, target_offset + copied)
        return copied

    @_alone
    def sync(self, fd: int) -> None:
        file = self._file(fd)
        failed = self.random.random() < self.faults
        if file is None or self.dead:
            self._step()
            return
        if failed:
            # Some of it reached the disk. The rest never will: its pages count as clean from now on.
            survived = [page for page in file.versions if self.random.random() < 0.5]
            file.fooled = True
            file.settle(survived, os.fstat(fd).st_size)
            self._fail(errno.EIO)
        self._step()
        file.settle(list(file.versions), os.fstat(fd).st_size)

    def sync_all(self, fd: int) -> None:
        self.sync(fd)

    @_alone
    def sync_directory(self, path: Path) -> None:
        self.on_names.append(self.operations + 1)
        self._step(errno.EIO)
        directory = self._directories.get(path)
        if directory is not None:
            directory.names = dict(directory.current)
            directory.pending.clear()

    @_alone
    def forget(self, fd: int) -> None:
        file = self._file(fd)
        if file is not None and file.fooled and not file.versions:
            os.ftruncate(fd, len(file.stable))
            os.pwrite(fd, file.stable, 0)
            file.fooled = False

    @_alone
    def truncate(self, fd: int, length: int) -> None:
        self._step(errno.EIO)
        before = os.fstat(fd).st_size
        super().truncate(fd, length)
        file = self._file(fd)
        if file is not None:
            file.note(fd, min(before, length), max(before, length))

    @_alone
    def reserve(self, fd: int, length: int) -> None:
        self._step(errno.ENOSPC)
        super().reserve(fd, length)
        file = self._file(fd)
        if file is not None:
            file.note(fd, 0, 0)

    @_alone
    def rename(self, source: Path, target: Path) -> None:
        self.on_names.append(self.operations + 1)
        self._step(errno.EIO)
        super().rename(source, target)
        directory = self._directories.get(target.parent)
        if directory is not None:
            file = directory.current.pop(source.name)
            directory.current[target.name] = file
            directory.pending.append(("rename", source.name, target.name, file))

    @_alone
    def remove(self, path: Path) -> None:
        self.on_names.append(self.operations + 1)
        self._step(errno.EIO)
        super().remove(path)
        directory = self._directories.get(path.parent)
        if directory is not None and directory.current.pop(path.name, None) is not None:
            directory.pending.append(("remove", path.name, "", None))

    # ---------------------------------------------------------------- the end

    def lay(self, root: Path, target: Path) -> None:
        """Write what is left of the directory `root` after the power failed to the new directory `target`."""
        target.mkdir(parents=True)
        random = self.random
        chance = random.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        directory = self._directories[root]
        names = dict(directory.names)
        for what, old, new, file in directory.pending:
            if random.random() >= chance:
                continue
            names.pop(old, None)
            if what != "remove" and file is not None:
                names[new] = file
        for name, file in names.items():
            (target / name).write_bytes(file.survivor(random, chance))

    def _file(self, fd: int) -> _File | None:
        status = os.fstat(fd)
        return self._files.get((status.st_dev, status.st_ino))

    def _step(self, *errors: int) -> None:
        """Count an operation; it fails if the power is gone, or by chance with one of `errors`."""
        self.operations += 1
        if self.operations >= self.crash_at:
            self.dead = True
        if self.dead:
            raise OSError(errno.EIO, "the power is gone")
        if errors and self.random.random() < self.faults:
            self._fail(self.random.choice(errors))

    def _fail(self, number: int) -> None:
        raise OSError(number, os.strerror(number))
