"""Restore: an empty folder becomes a data folder again, from a backup."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fastarchive.store.disk import DISK, Disk
from fastarchive.store.pack import PACKS, pack_path
from fastarchive.upkeep.backup import ALONGSIDE
from fastarchive.upkeep.copies import PARTIAL, Advance, PackGone, copy_whole, digest_of, is_newer, put_in_place
from fastarchive.upkeep.manifest import BackupError, read_manifest, write_file

RESTORING: Final = "restoring"
"""Where packs lie until all of them are there."""


@dataclass(slots=True)
class RestoreReport:
    """What was restored."""

    packs: int = 0
    bytes: int = 0
    seconds: float = 0.0
    damaged: list[int] = field(default_factory=list)
    """Packs that are not as they were backed up; restored as they are."""
    missing: list[int] = field(default_factory=list)
    """Packs that the backup should have and hasn't."""


def restore(
    source: Path,
    directory: Path,
    *,
    advance: Advance = lambda _: None,
    total: Advance = lambda _: None,
    disk: Disk = DISK,
) -> RestoreReport:
    """Make `directory`, which must be empty or not be there, a data folder with the packs of the backup in `source`.

    Nothing is visible as an archive until all is copied; cut short, it goes on from there when run again. Every pack
    is compared with its checksum. Raises BackupError, CopyFailed, OSError.
    """
    clock = time.monotonic()
    manifest = read_manifest(source)
    if manifest is None:
        raise BackupError(f"there is no finished backup in {source}")
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)  # as Archive.open makes it
    strangers = sorted({entry.name for entry in directory.iterdir()} - {RESTORING, "lost+found", *ALONGSIDE})
    if strangers:
        raise BackupError(f"{directory} is not empty (there is {strangers[0]}); restore into an empty folder")
    staging = directory / RESTORING
    staging.mkdir(exist_ok=True)
    report = RestoreReport()
    total(sum(entry.size for entry in manifest.packs))
    for entry in manifest.packs:
        final = staging / pack_path(source, entry.pack).name
        try:
            if final.exists() and digest_of(final, disk=disk) == entry.digest:
                advance(entry.size)
            else:
                copied = copy_whole(
                    pack_path(source, entry.pack), final.with_suffix(PARTIAL), advance=advance, disk=disk
                )
                put_in_place(final.with_suffix(PARTIAL), final, disk)
                if copied.digest != entry.digest and not is_newer(final, entry):
                    report.damaged.append(entry.pack)
        except PackGone:
            report.missing.append(entry.pack)
            continue
        report.packs += 1
        report.bytes += entry.size
    for name in ALONGSIDE:
        with suppress(FileNotFoundError):
            write_file(directory / name, (source / name).read_bytes(), disk)
    if (directory / PACKS).exists():
        raise BackupError(f"an archive was begun in {directory} meanwhile")
    disk.rename(staging, directory / PACKS)
    disk.sync_directory(directory)
    report.seconds = time.monotonic() - clock
    return report
