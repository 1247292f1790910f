"""What a backup says it holds: ``backup.json``, written last, so that a backup is what its manifest lists."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from blake3 import blake3

from fastarchive.store.disk import DISK, Disk

MANIFEST: Final = "backup.json"
_FORMAT: Final = 1


class BackupError(Exception):
    """A folder can't be used as a backup, or for one; the message says why."""


@dataclass(frozen=True, slots=True)
class PackEntry:
    """One pack of a backup."""

    pack: int
    size: int
    """Bytes of the file."""
    sealed: bool
    """False: the durable part of a pack that was still appended to."""
    digest: str
    """BLAKE3 of the file, hexadecimal."""
    damaged: bool = False
    """It was damaged in the archive already: copied again until it is healed there."""
    gone: bool = False
    """The archive no longer had it at the last backup."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """All packs of a backup."""

    packs: tuple[PackEntry, ...]
    started: str = ""
    """When the last backup began, ISO 8601 in UTC: everything acknowledged before is in it."""

    @property
    def by_pack(self) -> dict[int, PackEntry]:
        """Pack id → entry."""
        return {entry.pack: entry for entry in self.packs}


def now() -> str:
    """This moment for :attr:`Manifest.started`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of the backup in `folder`; None if there is none yet. Raises BackupError for a damaged one."""
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
        if content["format"] != _FORMAT:
            raise BackupError(f"the backup in {folder} has format {content['format']}, which is not known")
        if content["digest"] != _digest(content["packs"]):
            raise BackupError(f"the manifest of the backup in {folder} is damaged")
        return Manifest(tuple(PackEntry(**entry) for entry in content["packs"]), content["started"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise BackupError(f"the manifest of the backup in {folder} is damaged") from error


def write_manifest(folder: Path, entries: Iterable[PackEntry], started: str, disk: Disk = DISK) -> None:
    """Replace the manifest in one step, durably. Raises OSError."""
    packs = [asdict(entry) for entry in sorted(entries, key=lambda entry: entry.pack)]
    content = {"format": _FORMAT, "started": started, "digest": _digest(packs), "packs": packs}
    write_file(folder / MANIFEST, json.dumps(content, indent=1).encode() + b"\n", disk)


def write_file(path: Path, content: bytes, disk: Disk = DISK) -> None:
    """Replace a small file in one step, durably. Raises OSError."""
    partial = path.with_name(path.name + ".partial")
    disk.remove(partial)
    fd = disk.create(partial)
    try:
        disk.write(fd, (content,), 0)
        disk.sync_all(fd)
    finally:
        os.close(fd)
    disk.rename(partial, path)
    disk.sync_directory(path.parent)


def _digest(packs: object) -> str:
    return blake3(json.dumps(packs, sort_keys=True).encode()).hexdigest()
