"""Instance Availability (0008,0056): whether what a query finds can be handed out (PS3.4 C.4.1.1.3.2; rule F7).

Everything is on disk, so an instance is ONLINE, or UNAVAILABLE when no copy of its record is whole. Of a series, study
or patient the worst of its instances is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from fastarchive.dicom.attributes import Level
from fastarchive.index.documents import Document
from fastarchive.index.view import View
from fastarchive.store.damage import Mark

ONLINE: Final = "ONLINE"
UNAVAILABLE: Final = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Availability:
    """What is damaged in one moment of an archive: records by pack and offset, and the entities above them by key."""

    records: frozenset[tuple[int, int]]
    entities: Mapping[Level, frozenset[str]]

    def of(self, document: Document) -> str:
        """The availability of one entity."""
        if document.level is Level.IMAGE:
            damaged = (document.location.pack, document.location.offset) in self.records
        else:
            damaged = document.key in self.entities[document.level]
        return UNAVAILABLE if damaged else ONLINE


def availability(view: View, marks: Iterable[Mark]) -> Availability | None:
    """What is damaged of a view; None if nothing is.

    A record too damaged to tell its name is known at IMAGE level, by its place, and not above.
    """
    marks = tuple(marks)
    if not marks:
        return None
    records = frozenset((mark.pack, mark.offset) for mark in marks)
    named = {mark.sop_instance for mark in marks if mark.sop_instance}
    # A mark may be of another record than the one that is the instance: one sent again, or deleted.
    images = [
        image for image in view.get_many(Level.IMAGE, named) if (image.location.pack, image.location.offset) in records
    ]
    studies = {image.study for image in images}
    return Availability(
        records,
        {
            Level.SERIES: frozenset(image.key_at(Level.SERIES) for image in images),
            Level.STUDY: frozenset(studies),
            Level.PATIENT: frozenset(study.patient for study in view.get_many(Level.STUDY, studies)),
        },
    )
