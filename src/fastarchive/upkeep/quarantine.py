"""What is in quarantine: shown, released into the archive, or discarded.

A data set is in quarantine because its SOP Instance UID was stored with another content when it came. Released, it
takes the place of that one; discarded, it is gone when its pack is compacted. Both are records in the log.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fastarchive.admission import succeed
from fastarchive.archive import Archive
from fastarchive.index.notes import Quarantined
from fastarchive.store.blobs import Reader
from fastarchive.store.encoding import EncodedRecord
from fastarchive.store.intake import SPILL, Intake
from fastarchive.store.log import Log
from fastarchive.store.mirror import MirrorWait
from fastarchive.store.record import quarantine_end
from fastarchive.upkeep import holds

_PACK_SIZE: Final = 1 << 20


class OnHold(Exception):
    """Something to be released would take the place of an instance of a study on hold; nothing was done to it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A data set in quarantine, for people and scripts."""

    instance: str
    digest: str
    """Hexadecimal; its first digits are enough to name it."""
    study: str
    series: str
    received: int
    """Nanoseconds since the epoch."""
    calling_ae: str
    bytes: int
    """Of the data set."""
    stored: bool
    """Whether the archive still has another data set under the UID."""


def entries(archive: Archive) -> list[Entry]:
    """Everything in quarantine, in the order it came. Raises DamagedInstance when the metadata of one can't be read."""
    view = archive.view()
    found = []
    for one in view.quarantined():
        record = archive.blobs.open(one.location, content=False).record
        stored = archive.index.locate(one.instance) is not None
        found.append(
            Entry(
                one.instance,
                one.digest.hex(),
                one.study,
                one.series,
                record.received,
                record.calling_ae,
                record.length,
                stored,
            )
        )
    return found


def select(archive: Archive, instance: str, digest: str = "") -> list[Quarantined]:
    """The data sets of an instance in quarantine, of those only the ones whose digest begins so."""
    return [one for one in archive.view().quarantined(instance) if one.digest.hex().startswith(digest.lower())]


def release(
    archive: Archive, one: Quarantined, *, mirror: Path | None = None, mirror_wait: str = MirrorWait.BOTH
) -> None:
    """Make a quarantined data set the instance, in place of what is stored under its UID; returns when that is durable.

    Raises OnHold, DamagedInstance with nothing changed; NoSpace, LogBroken or OSError: it is safe to do it again.
    """
    with holds.locked(archive.directory) as held, _log(archive, mirror, mirror_wait) as log:
        known = archive.index.locate(one.instance)
        if one.study in held or (known is not None and known.study in held):
            raise OnHold(f"{one.instance} belongs to a study on hold")
        reader = archive.blobs.open(one.location)
        if known is None or known.digest != one.digest:
            with _copied(archive, reader) as encoded:
                if known is None:
                    log.append(encoded).result()
                else:
                    succeed(known, encoded, log)
        _end(log, one, reader)


def discard(
    archive: Archive, one: Quarantined, *, mirror: Path | None = None, mirror_wait: str = MirrorWait.BOTH
) -> None:
    """Throw a quarantined data set away. Raises DamagedInstance, NoSpace or LogBroken."""
    with _log(archive, mirror, mirror_wait) as log:
        _end(log, one, archive.blobs.open(one.location, content=False))


def _log(archive: Archive, mirror: Path | None, mirror_wait: str) -> Log:
    return Log(archive.directory, seal_size=_PACK_SIZE, mirror=mirror, mirror_wait=MirrorWait(mirror_wait))


def _end(log: Log, one: Quarantined, reader: Reader) -> None:
    now = max(time.time_ns(), one.order[0] + 1)
    log.append(EncodedRecord.of(quarantine_end(now, reader.record))).result()


@contextmanager
def _copied(archive: Archive, reader: Reader) -> Iterator[EncodedRecord]:
    """A record of the same data set as one received now. Raises DamagedInstance, OSError."""
    kept = reader.record
    intake = Intake(
        transfer_syntax=kept.transfer_syntax,
        calling_ae=kept.calling_ae,
        called_ae=kept.called_ae,
        spool_directory=archive.directory / "spool",
    )
    try:
        for chunk in reader.chunks():
            intake.write(chunk)
            if intake.pending >= SPILL:
                intake.drain()
        encoded = intake.finish()
        # The attributes know better than the data set what the text of some senders is in.
        record = replace(encoded.record, attributes=kept.attributes)
        yield EncodedRecord.of(record, encoded.buffers, encoded.spool)
    finally:
        intake.close()
