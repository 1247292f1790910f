"""Recovery: packs whose owner died are verified, cut to their last whole record, and sealed.

The steps and their reasons are in ``docs/format.md``, "Recovery". Idempotent, and may be killed anywhere.
"""

from __future__ import annotations

import os
from array import array
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fastarchive.store.codec import DamagedBlock, verify_block
from fastarchive.store.disk import DISK, Disk
from fastarchive.store.pack import (
    PACKS,
    PAGE,
    PackError,
    State,
    creation_lock,
    decode_identity,
    find_record,
    list_packs,
    pack_path,
    read_record,
    read_state,
    seal_pack,
)
from fastarchive.store.record import Extent, Record, TornRecord

_ZEROES: Final = bytes(1 << 20)


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a pack, from `start` to `end`, that should be records and are not."""

    pack: int
    start: int
    end: int


@dataclass(slots=True)
class RecoveryReport:
    """What recovery found and did."""

    sealed: list[int] = field(default_factory=list)
    """Packs sealed."""
    removed: list[int] = field(default_factory=list)
    """Packs without a record, removed."""
    records: int = 0
    """Records in the sealed packs."""
    cut: dict[int, int] = field(default_factory=dict)
    """Bytes of torn records cut off, by pack (space reserved and never written doesn't count)."""
    damaged: list[Damage] = field(default_factory=list)
    """Damage among acknowledged records. Nothing was cut there."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Packs left alone, and why."""


def recover(directory: Path, disk: Disk = DISK, *, mirror: Path | None = None) -> RecoveryReport:
    """Recover every unsealed pack of the data directory that no process holds, and of its mirror.

    The report is about the data directory. Records that only the mirror's copy has are taken from there.

    Never raises for one bad pack: it is reported as unreadable and left as it is. Raises OSError when the directory
    can't be read.
    """
    report = RecoveryReport()
    remove_unborn(directory, disk)
    for pack in list_packs(directory):
        recover_pack(directory, pack, disk, report, mirror=mirror)
    if mirror is not None:
        with suppress(OSError):  # a mirror that isn't there is no reason not to serve
            recover(mirror, disk)
    return report


def recover_pack(
    directory: Path,
    pack: int,
    disk: Disk = DISK,
    report: RecoveryReport | None = None,
    *,
    mirror: Path | None = None,
) -> RecoveryReport:
    """Recover one pack, unless it is sealed or a process holds it; never raises for what is wrong with it."""
    report = RecoveryReport() if report is None else report
    path = pack_path(directory, pack)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return report
    except OSError as error:
        report.unreadable[pack] = str(error)
        return report
    try:
        if read_state(fd).seal is None:
            _recover_pack(fd, path, disk, report, mirror)
    except (OSError, PackError) as error:
        report.unreadable[pack] = str(error)
    finally:
        os.close(fd)
    return report


def _recover_pack(fd: int, path: Path, disk: Disk, report: RecoveryReport, mirror: Path | None) -> None:
    pack = int(path.stem)
    try:
        disk.lock(fd)
    except BlockingIOError:
        return  # its owner lives
    # Between looking and locking its owner may have sealed it, or another recovery sealed or removed it.
    state = read_state(fd)
    if state.seal is not None or os.fstat(fd).st_nlink == 0:
        return
    if decode_identity(os.pread(fd, PAGE, 0)).pack != pack:
        raise PackError("the pack's id is not that of its name")
    disk.sync(fd)
    disk.forget(fd)
    offsets, end = _walk(fd, pack, state, report)
    torn = _written_beyond(fd, end)
    if mirror is not None:
        with suppress(OSError, PackError):
            end = _take_over(fd, pack_path(mirror, pack), offsets, end, disk)
    if not offsets and not report.damaged:
        disk.remove(path)
        disk.sync_directory(path.parent)
        report.removed.append(pack)
        return
    seal_pack(fd, end, offsets, recovered=True, disk=disk)
    report.sealed.append(pack)
    report.records += len(offsets)
    if torn:
        report.cut[pack] = torn


def _take_over(fd: int, copy: Path, offsets: array[int], end: int, disk: Disk) -> int:
    """Append the whole records that the mirror's copy has beyond `end`; the new end. Raises OSError, PackError."""
    try:
        source = os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return end
    try:
        disk.sync(source)
        disk.forget(source)
        state = read_state(source)
        pack = decode_identity(os.pread(source, PAGE, 0)).pack
        if pack != int(copy.stem):
            raise PackError("the copy's id is not that of its name")
        others, last = _walk(source, pack, state, RecoveryReport())
        further = [offset for offset in others if offset >= end]
        if not further or further[0] != end:
            return end
        disk.truncate(fd, end)
        position = end
        while position < last:
            data = os.pread(source, min(len(_ZEROES), last - position), position)
            if not data:
                raise PackError("the copy is shorter than it says")
            position += disk.write(fd, (data,), position)
        offsets.extend(further)
        return last
    finally:
        os.close(source)


def _walk(fd: int, pack: int, state: State, report: RecoveryReport) -> tuple[array[int], int]:
    """The offsets of the whole records of an unsealed pack, and the offset where they end."""
    length = os.fstat(fd).st_size
    # Damage may have taken the durable length with the seal: then nothing says that the end is torn, and all is kept.
    durable = min(state.durable, length) if state.known else length
    offsets = array("Q")
    position = PAGE
    while position < length:
        try:
            record, extent = read_record(fd, position, length)
            if position + extent.total > durable:
                _verify_blocks(fd, position, extent, record)
        except (TornRecord, DamagedBlock):
            if position >= durable:
                break
            following = find_record(fd, position + 1, length)
            if following is None and not state.known:
                break
            report.damaged.append(Damage(pack, position, durable if following is None else following))
            if following is None:
                position = durable
                break
            position = following
            continue
        offsets.append(position)
        position += extent.total
    return offsets, position


def _verify_blocks(fd: int, position: int, extent: Extent, record: Record) -> None:
    """Raises DamagedBlock, OSError."""
    position += extent.metadata
    for block in record.blocks:
        verify_block(block, os.pread(fd, block.stored, position))
        position += block.stored


def _written_beyond(fd: int, end: int) -> int:
    """Bytes from `end` to the last that isn't zero: what was written, as opposed to reserved."""
    last = end
    position = end
    while True:
        try:
            position = os.lseek(fd, position, os.SEEK_DATA)
        except OSError:  # ENXIO: only reserved space follows
            return last - end
        piece = os.pread(fd, len(_ZEROES), position)
        if not piece:
            return last - end
        if piece != _ZEROES:
            last = max(last, position + len(piece.rstrip(b"\0")))
        position += len(piece)


def remove_unborn(directory: Path, disk: Disk) -> None:
    """Remove files of packs whose creation was cut short. What can't be done is left to the next time."""
    if not any((directory / PACKS).glob("*.new")):
        return
    with suppress(OSError), creation_lock(directory, disk):
        for path in (directory / PACKS).glob("*.new"):
            with suppress(OSError):
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    disk.lock(fd)
                    disk.remove(path)
                finally:
                    os.close(fd)
