"""Copies of packs, on another disk or back: written under another name, synced, read back, and only then in place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from fastarchive.store.disk import DISK, Disk
from fastarchive.store.pack import PAGE, PackError, State, decode_identity, encode_page, read_state
from fastarchive.store.verify import Finding, verify_pack
from fastarchive.upkeep.manifest import PackEntry

PARTIAL: Final = ".partial"
_PIECE: Final = 4 << 20

Advance = Callable[[int], object]
"""Told how many more bytes are done."""


class CopyFailed(Exception):
    """What was written doesn't read back the same: the disk it was written to can't be relied on."""


class SourceUnreadable(Exception):
    """The file to copy can't be read."""


class PackGone(Exception):
    """The file to copy isn't there, or not any more."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy, durable and read back, but not in place yet."""

    path: Path
    size: int
    sealed: bool
    digest: str


def state_of(path: Path) -> State:
    """How far a pack may be read now. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_state(fd)
    finally:
        os.close(fd)


def copy_pack(source: Path, partial: Path, *, advance: Advance, disk: Disk = DISK) -> Copied:
    """Copy a sealed pack whole, or of an open one what is durable now, to the file `partial`, durably and read back.

    Of an open pack the copy is what a crash at this moment would leave of it, without the space it reserves.
    Raises PackError when the source says too little about itself, PackGone, SourceUnreadable, CopyFailed, and OSError
    when the copy can't be written.
    """
    with _opened(source) as fd:
        with _reading():
            state, head = read_state(fd), os.pread(fd, PAGE, 0)
        if state.seal is not None:
            length = state.seal.length
        elif state.known:
            # The page is made anew: the owner may be writing to it just now.
            head, length = encode_page(decode_identity(head), None, state.durable), state.durable
        else:
            raise PackError("the pack doesn't say how far it is durable")
        digest = _copy(fd, head, length, partial, advance=advance, disk=disk)
    return Copied(partial, length, state.seal is not None, digest)


def copy_whole(source: Path, partial: Path, *, advance: Advance, disk: Disk = DISK) -> Copied:
    """Copy a file as it is, damaged or not, as :func:`copy_pack` does and with what it raises."""
    with _opened(source) as fd:
        with _reading():
            state, head, length = read_state(fd), os.pread(fd, PAGE, 0), os.fstat(fd).st_size
        digest = _copy(fd, head, length, partial, advance=advance, disk=disk)
    return Copied(partial, length, state.seal is not None, digest)


def put_in_place(partial: Path, final: Path, disk: Disk = DISK) -> None:
    """Give a copy its name, durably. Raises OSError."""
    disk.rename(partial, final)
    disk.sync_directory(final.parent)


def digest_of(path: Path, *, advance: Advance = lambda _: None, disk: Disk = DISK) -> str:
    """BLAKE3 of a file as the disk has it, not as it is cached. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        disk.forget(fd)
        hasher = blake3()
        position = 0
        while piece := os.pread(fd, _PIECE, position):
            hasher.update(piece)
            position += len(piece)
            advance(len(piece))
        return hasher.hexdigest()
    finally:
        os.close(fd)


def findings_of(path: Path, pack: int) -> list[Finding]:
    """What is wrong with the pack in a file. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return verify_pack(fd, pack).findings
    finally:
        os.close(fd)


def is_newer(path: Path, entry: PackEntry) -> bool:
    """Whether a file is a later copy of a pack that was still appended to: the run that made it was cut short before
    it could say so in the manifest. Raises OSError."""
    return not entry.sealed and path.stat().st_size > entry.size and not findings_of(path, entry.pack)


def _copy(fd: int, head: bytes, length: int, partial: Path, *, advance: Advance, disk: Disk) -> str:
    disk.remove(partial)
    target = disk.create(partial)
    try:
        hasher = blake3(head)
        position = disk.write(target, (head,), 0)
        while position < length:
            with _reading():
                piece = os.pread(fd, min(_PIECE, length - position), position)
            if not piece:
                raise PackError("the pack is shorter than it says")
            hasher.update(piece)
            position += disk.write(target, (piece,), position)
            advance(len(piece))
        disk.sync_all(target)
    finally:
        os.close(target)
    digest = hasher.hexdigest()
    if digest_of(partial, disk=disk) != digest:
        raise CopyFailed(f"{partial} doesn't read back as it was written")
    return digest


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    with _reading():
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise PackGone(str(error.filename)) from error
    except OSError as error:
        raise SourceUnreadable(error.strerror or type(error).__name__) from error
