"""Backup: every pack a second time, in a folder that may be on any disk, while the archive runs.

A backup is a folder with ``packs/`` and a manifest, ``backup.json``. Sealed packs never change, so each is copied once.
Of packs still appended to, what is durable now is copied: restored, they are recovered as after a crash. Everything
acknowledged before the backup began is in it. The manifest is written last; a run that was cut short leaves the one
before and copies that are still good, and the next run goes on from there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from fastarchive.store.disk import DISK, Disk
from fastarchive.store.pack import PACKS, PAGE, PackError, list_packs, pack_path, read_state, records
from fastarchive.store.record import TornRecord
from fastarchive.store.recovery import recover
from fastarchive.store.verify import Finding
from fastarchive.upkeep.copies import (
    PARTIAL,
    Advance,
    Copied,
    PackGone,
    SourceUnreadable,
    copy_pack,
    digest_of,
    findings_of,
    is_newer,
    put_in_place,
    state_of,
)
from fastarchive.upkeep.manifest import BackupError, PackEntry, now, read_manifest, write_file, write_manifest

LOCK: Final = "backup.lock"
KEPT: Final = "kept"
"""Older copies of packs that were damaged in the archive when they were to be replaced."""
ALONGSIDE: Final = ("holds.json",)
"""Small files of the data folder that are not made from the packs."""


@dataclass(slots=True)
class BackupReport:
    """What a backup did."""

    packs: int = 0
    """In the backup now."""
    copied: int = 0
    bytes: int = 0
    """Of the packs copied."""
    seconds: float = 0.0
    damaged: list[Finding] = field(default_factory=list)
    """Damage in the archive, copied as it is for want of a whole copy."""
    failed: dict[int, str] = field(default_factory=dict)
    """Packs that could not be copied, and why."""
    healed: list[int] = field(default_factory=list)
    """Packs whose copy no longer matched its checksum and was made anew."""
    lost: list[int] = field(default_factory=list)
    """Packs whose copy no longer matches its checksum, and that the archive doesn't have any more."""
    gone: list[int] = field(default_factory=list)
    """Packs the archive no longer has; they stay in the backup unless pruned."""
    pruned: list[int] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether all the archive acknowledged is in the backup, whole."""
        return not (self.damaged or self.failed or self.lost)


class Backup:
    """One run into the folder `target`. `total` is told how many bytes there are to copy, `advance` of each piece."""

    def __init__(
        self,
        directory: Path,
        target: Path,
        *,
        mirror: Path | None = None,
        verify: bool = False,
        prune: bool = False,
        advance: Advance = lambda _: None,
        total: Advance = lambda _: None,
        disk: Disk = DISK,
    ) -> None:
        """`mirror`: where a pack is taken from if it is damaged in `directory`. `verify`: read again what earlier runs
        copied. `prune`: remove from the backup the packs that the archive no longer has."""
        self._directory, self._target, self._mirror = directory, target, mirror
        self._verify, self._prune = verify, prune
        self._advance, self._total = advance, total
        self._disk = disk
        self._report = BackupReport()
        self._entries: dict[int, PackEntry] = {}

    def run(self) -> BackupReport:
        """Bring the backup up to date. Raises BackupError, CopyFailed, OSError; may then be run again."""
        started, clock = now(), time.monotonic()
        _check_places(self._directory, self._target)
        with _locked(self._target, self._disk):
            (self._target / PACKS).mkdir(exist_ok=True)
            for partial in (self._target / PACKS).glob("*" + PARTIAL):
                self._disk.remove(partial)
            manifest = read_manifest(self._target)
            before = {} if manifest is None else manifest.by_pack
            # What crashed processes left open is settled first: the end of such a pack is not where it says.
            recover(self._directory, self._disk, mirror=self._mirror)
            self._check_origin(before)
            self._copy_all(before)
            present = set(list_packs(self._directory))
            for pack, entry in before.items():
                if pack not in self._entries:
                    self._keep(pack, entry, gone=pack not in present)
            for name in ALONGSIDE:
                with suppress(FileNotFoundError):
                    write_file(self._target / name, (self._directory / name).read_bytes(), self._disk)
            write_manifest(self._target, self._entries.values(), started, self._disk)
            for pack in self._report.pruned:
                self._disk.remove(pack_path(self._target, pack))
        self._report.packs = len(self._entries)
        self._report.seconds = time.monotonic() - clock
        return self._report

    def _check_origin(self, before: dict[int, PackEntry]) -> None:
        """Not another archive's backup, and not an archive that was lost or isn't mounted."""
        packs = list_packs(self._directory)
        if before and not before.keys() & set(packs) and not any(_came_from(self._directory, packs, before)):
            raise BackupError(
                f"none of the {len(before)} packs of the backup in {self._target} is in {self._directory}:"
                " another archive, or it isn't mounted"
            )

    def _copy_all(self, before: dict[int, PackEntry]) -> None:
        """Copy until no pack went away meanwhile: what was in it is then in a new one."""
        vanished = True
        while vanished:
            vanished = False
            done = self._entries.keys() | self._report.failed.keys()
            packs = [pack for pack in list_packs(self._directory) if pack not in done]
            wanted = [pack for pack in packs if not self._is_up_to_date(pack, before.get(pack))]
            self._total(self._report.bytes + sum(map(self._size, wanted)))
            for pack in wanted:
                try:
                    self._copy(pack, before.get(pack))
                except PackGone:
                    vanished = True
                except (PackError, SourceUnreadable) as error:
                    self._report.failed[pack] = str(error)

    def _size(self, pack: int) -> int:
        try:
            state = state_of(pack_path(self._directory, pack))
        except OSError:
            return 0
        return state.durable if state.seal is None else state.seal.length

    def _is_up_to_date(self, pack: int, entry: PackEntry | None) -> bool:
        """Whether the copy there is still does; it is an entry of the new manifest then."""
        final = pack_path(self._target, pack)
        try:
            size = final.stat().st_size
            source = state_of(pack_path(self._directory, pack))
            if entry is None:  # copied by a run that was cut short
                if source.seal is None or state_of(final).seal != source.seal or findings_of(final, pack):
                    return False
                entry = PackEntry(pack, size, True, digest_of(final, disk=self._disk))
            same = entry.sealed if source.seal is not None else not entry.sealed and entry.size == source.durable
            if not same or entry.size != size or entry.damaged:
                return False
        except OSError:
            return False
        if self._verify and digest_of(final, disk=self._disk) != entry.digest:
            self._report.healed.append(pack)
            return False
        self._entries[pack] = replace(entry, gone=False)
        return True

    def _copy(self, pack: int, before: PackEntry | None) -> None:
        final = pack_path(self._target, pack)
        partial = final.with_suffix(PARTIAL)
        findings: list[Finding] = []
        try:
            copied = copy_pack(pack_path(self._directory, pack), partial, advance=self._advance, disk=self._disk)
            findings = findings_of(partial, pack)
        except (PackError, SourceUnreadable):
            better = self._from_mirror(pack, 0)
            if better is None:
                raise
            copied = better
        if findings and (better := self._from_mirror(pack, copied.size)):
            copied, findings = better, []
        if findings and final.exists() and not (before is not None and before.damaged):
            self._set_aside(final)
        put_in_place(copied.path, final, self._disk)
        self._entries[pack] = PackEntry(pack, copied.size, copied.sealed, copied.digest, damaged=bool(findings))
        self._report.damaged += findings
        self._report.copied += 1
        self._report.bytes += copied.size

    def _set_aside(self, final: Path) -> None:
        """Keep a copy that is to be replaced. Until then it stays in its place, too, where the disk allows that."""
        kept = self._target / KEPT / f"{final.stem}.{time.time_ns()}.pack"
        kept.parent.mkdir(exist_ok=True)
        try:
            kept.hardlink_to(final)
        except OSError:
            self._disk.rename(final, kept)
        self._disk.sync_directory(kept.parent)

    def _from_mirror(self, pack: int, size: int) -> Copied | None:
        """A whole copy that has at least so many bytes, from the mirror; None if there is none."""
        if self._mirror is None:
            return None
        partial = pack_path(self._target, pack).with_suffix(".mirror" + PARTIAL)
        with suppress(PackGone, PackError, SourceUnreadable):
            copied = copy_pack(pack_path(self._mirror, pack), partial, advance=lambda _: None, disk=self._disk)
            if copied.size >= size and not findings_of(partial, pack):
                return copied
        self._disk.remove(partial)
        return None

    def _keep(self, pack: int, entry: PackEntry, *, gone: bool) -> None:
        """What is to become of a pack that was not copied now."""
        if gone and self._prune:
            self._report.pruned.append(pack)
            return
        if gone:
            self._report.gone.append(pack)
        final = pack_path(self._target, pack)
        whole = False
        with suppress(OSError):
            whole = final.stat().st_size == entry.size
            if whole and self._verify:
                whole = digest_of(final, disk=self._disk) == entry.digest
            whole = whole or is_newer(final, entry)
        self._entries[pack] = replace(entry, gone=gone)
        if not whole:
            self._report.lost.append(pack)


def _came_from(directory: Path, packs: Iterable[int], before: Collection[int]) -> Iterator[bool]:
    """For records of these packs, whether compaction moved them from a pack in `before`."""
    for pack in packs:
        with suppress(OSError, TornRecord), pack_path(directory, pack).open("rb") as file:
            for _, _, record in records(file.fileno(), PAGE, read_state(file.fileno()).end):
                yield record.origin is not None and record.origin[0] in before


def _check_places(directory: Path, target: Path) -> None:
    if not (directory / PACKS).is_dir():
        raise FileNotFoundError(f"there is no archive in {directory}")
    inside, outside = target.resolve(), directory.resolve()
    if inside == outside or outside in inside.parents:
        raise BackupError(f"{target} lies in the archive itself")
    if (target / "run").exists() or (target / "index").exists():
        raise BackupError(f"{target} is the data folder of an archive")
    target.mkdir(mode=0o750, parents=True, exist_ok=True)  # patient data, as the data folder


@contextmanager
def _locked(target: Path, disk: Disk) -> Iterator[None]:
    fd = os.open(target / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            disk.lock(fd)
        except BlockingIOError:
            raise BackupError(f"another backup into {target} is running") from None
        yield
    finally:
        os.close(fd)
