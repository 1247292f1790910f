"""Taking a rejection note back, and deleting for good what one rejects."""

from __future__ import annotations

from pathlib import Path

from fastarchive.archive import Archive
from fastarchive.dicom.attributes import Level
from fastarchive.index.rejections import RejectionNote
from fastarchive.store.mirror import MirrorWait
from fastarchive.upkeep import deletion


def revoke(
    archive: Archive,
    note: RejectionNote,
    *,
    reason: str,
    operator: str = "",
    mirror: Path | None = None,
    mirror_wait: str = MirrorWait.BOTH,
) -> int:
    """Delete a rejection note; returns 1 when that is durable. Raises as :func:`fastarchive.upkeep.deletion.delete`."""
    plan = deletion.Plan(Level.IMAGE, ())
    plan.studies[note.study] = deletion.PlannedStudy(note.study, "", {note.series}, 1)
    plan.targets[note.study, note.series, note.instance] = None
    plan.newest = note.order[0]
    return deletion.delete(
        archive.directory, plan, reason=reason, operator=operator, mirror=mirror, mirror_wait=mirror_wait
    )


def discard(
    archive: Archive,
    note: RejectionNote,
    *,
    reason: str,
    operator: str = "",
    mirror: Path | None = None,
    mirror_wait: str = MirrorWait.BOTH,
) -> int:
    """Delete the instances that a note hides, but not the note; how many they were. Raises as :func:`revoke`."""
    plan = deletion.Plan(Level.IMAGE, ())
    for uid in note.rejected:
        rejected = archive.index.rejected(uid)
        if rejected is not None:
            hidden, _ = rejected
            plan.studies.setdefault(hidden.study, deletion.PlannedStudy(hidden.study, hidden.patient)).instances += 1
            plan.targets[hidden.study, hidden.series, uid] = None
            plan.newest = max(plan.newest, hidden.received)
    if not plan.targets:
        return 0
    return deletion.delete(
        archive.directory, plan, reason=reason, operator=operator, mirror=mirror, mirror_wait=mirror_wait
    )
