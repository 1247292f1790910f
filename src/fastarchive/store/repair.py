"""Healing: a whole copy of a pack, made of what is whole in each of its copies. Steps and reasons: ``docs/format.md``.

A sealed pack is never changed in place. Its healed copy is written beside it and takes its name in one step, so that
repair may be killed anywhere.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from fastarchive.store.disk import DISK, Disk
from fastarchive.store.pack import (
    PAGE,
    Identity,
    PackError,
    Seal,
    creation_lock,
    decode_identity,
    encode_page,
    encode_table,
    pack_path,
    read_table,
)
from fastarchive.store.recovery import recover_pack
from fastarchive.store.verify import Finding, Pace, PackCheck, Part, verify_pack

_PIECE: Final = 4 << 20


class Busy(Exception):
    """A process appends to the pack, or repairs it; it is healed once it is sealed."""


class HealingFailed(Exception):
    """The healed copy was not what it should be when it was read back; nothing was replaced."""


@dataclass(slots=True)
class Healing:
    """What was done to one pack."""

    pack: int
    written: list[Path] = field(default_factory=list)
    """Copies replaced or made."""
    lost: list[int] = field(default_factory=list)
    """Offsets of records that are whole in no copy."""


class _Segment(NamedTuple):
    """Bytes that a healed copy takes from the file `fd`, at the same place."""

    fd: int
    start: int
    end: int


class _Plan(NamedTuple):
    """The whole of a healed copy."""

    page: bytes
    segments: list[_Segment]
    table: bytes
    lost: list[int]


@dataclass(slots=True)
class _Copy:
    directory: Path
    path: Path
    fd: int
    check: PackCheck


def heal(
    pack: int,
    directories: Sequence[Path],
    *,
    deep: bool = False,
    pace: Pace | None = None,
    disk: Disk = DISK,
) -> Healing:
    """Make the copies of a pack in all of these data directories whole and alike; a missing copy is made.

    Each record is taken from a copy that has it whole, the first directory first. What no copy has whole is kept as
    it is and stays damaged. Without a second copy, the header page and the table can still be healed.

    Raises Busy, HealingFailed, PackError when no copy can be read as a pack, OSError.
    """
    with ExitStack() as stack:
        copies = []
        for directory in directories:
            copy = _open(pack, directory, stack, disk, deep=deep, pace=pace)
            if copy is not None:
                copies.append(copy)
        if not any(copy.check.state.seal is not None for copy in copies):
            raise PackError("no copy of the pack has a seal")
        # The longest: a copy that lost its end must not cost the other one its own.
        leading = max((copy for copy in copies if copy.check.state.seal is not None), key=lambda copy: _end(copy.check))
        end = _end(leading.check)
        segments, offsets, lost = _merge(copies, end)
        result = Healing(pack, lost=lost)
        plan = _Plan(_page(pack, copies, end, offsets, leading), segments, encode_table(offsets), lost)
        for directory in directories:
            copy = next((copy for copy in copies if copy.directory == directory), None)
            if copy is not None and _is_well(copy, end, lost):
                continue
            _write(pack, directory, plan, disk)
            result.written.append(pack_path(directory, pack))
        return result


def _open(pack: int, directory: Path, stack: ExitStack, disk: Disk, *, deep: bool, pace: Pace | None) -> _Copy | None:
    """Open, lock and check one copy; None if there is none. Raises Busy, OSError."""
    path = pack_path(directory, pack)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    stack.callback(os.close, fd)
    try:
        disk.lock(fd)
    except BlockingIOError:
        raise Busy(f"pack {pack} is in use") from None
    if os.fstat(fd).st_nlink == 0:
        raise Busy(f"pack {pack} was just replaced")
    disk.forget(fd)
    return _Copy(directory, path, fd, verify_pack(fd, pack, deep=deep, pace=pace, locked=True))


def _end(check: PackCheck) -> int:
    return check.state.end


def _is_well(copy: _Copy, end: int, lost: list[int]) -> bool:
    """Whether a copy needs nothing that can be given to it."""
    seal = copy.check.state.seal
    if seal is None or seal.records_end != end or set(copy.check.bad) - set(lost):
        return False
    return all(finding.part in {Part.CONTENT, Part.METADATA} for finding in copy.check.findings)


def _merge(copies: list[_Copy], end: int) -> tuple[list[_Segment], list[int], list[int]]:
    """Where to take each record from; the offsets of all records; of those that are whole nowhere."""
    starts: set[int] = set()
    for copy in copies:
        starts.update(copy.check.good, copy.check.bad)
        if copy.check.state.seal is not None:
            starts.update(read_table(copy.fd, copy.check.state.seal))
    known = sorted(starts)
    segments: list[_Segment] = []
    offsets, lost = [], []
    position = PAGE
    while position < end:
        source = next((copy for copy in copies if position in copy.check.good), None)
        if source is None:
            source = copies[0] if _end(copies[0].check) > position else copies[-1]
            index = bisect_right(known, position)
            following = known[index] if index < len(known) else end
            lost.append(position)
        else:
            following = position + source.check.good[position]
        following = min(following, end)
        offsets.append(position)
        if segments and segments[-1].fd == source.fd and segments[-1].end == position:
            segments[-1] = segments[-1]._replace(end=following)
        else:
            segments.append(_Segment(source.fd, position, following))
        position = following
    return segments, offsets, lost


def _page(pack: int, copies: list[_Copy], end: int, offsets: list[int], leading: _Copy) -> bytes:
    """The header page of the healed copies: as it was, or made anew from what is known."""
    identity = Identity(pack, pack, 0)
    for copy in copies:
        with suppress(PackError):
            found = decode_identity(os.pread(copy.fd, PAGE, 0))
            if found.pack == pack:
                identity = found
                break
    assert leading.check.state.seal is not None
    seal = Seal(end, end + len(encode_table(offsets)), len(offsets), leading.check.state.seal.recovered)
    return encode_page(identity, seal, end)


def _write(pack: int, directory: Path, plan: _Plan, disk: Disk) -> None:
    """Write a healed copy, read it back, and let it take the pack's name."""
    final = pack_path(directory, pack)
    with _temporary(final, disk) as fd:
        disk.write(fd, (plan.page,), 0)
        position = PAGE
        for segment in plan.segments:
            position = segment.start
            while position < segment.end:
                data = os.pread(segment.fd, min(_PIECE, segment.end - position), position)
                if not data:
                    data = bytes(min(_PIECE, segment.end - position))  # a lost stretch beyond the end of its file
                position += disk.write(fd, (data,), position)
        disk.write(fd, (plan.table,), position)
        disk.sync_all(fd)
        disk.forget(fd)
        check = verify_pack(fd, pack, locked=True)
        if check.state.seal is None or set(check.bad) - set(plan.lost) or _unexpected(check.findings):
            raise HealingFailed(f"pack {pack}: its healed copy reads back otherwise than written")
        disk.rename(final.with_suffix(".new"), final)
        disk.sync_directory(final.parent)


def _unexpected(findings: list[Finding]) -> bool:
    return any(finding.part not in {Part.CONTENT, Part.METADATA} for finding in findings)


@contextmanager
def _temporary(final: Path, disk: Disk) -> Iterator[int]:
    """A new file beside the pack, locked; removed when the work on it fails."""
    temporary = final.with_suffix(".new")
    with creation_lock(final.parents[1], disk):
        try:
            fd = disk.create(temporary)
        except FileExistsError:
            raise Busy(f"pack {final.stem} is being repaired") from None
        try:
            disk.lock(fd)
        except OSError:
            os.close(fd)
            raise
    try:
        yield fd
    except BaseException:
        with suppress(OSError):
            disk.remove(temporary)
        raise
    finally:
        os.close(fd)


def settle(pack: int, directories: Sequence[Path], disk: Disk = DISK) -> None:
    """Seal the copies of a pack whose owner is gone, so that they can be healed. Raises nothing for what can't be."""
    for directory in directories:
        recover_pack(directory, pack, disk)
