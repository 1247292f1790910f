"""The documents as they are now: those of the index, and over them those that have changed since."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, Protocol

from fastarchive.dicom.attributes import Level
from fastarchive.index.disagreements import DISAGREEMENT, encode_tags
from fastarchive.index.documents import Document, Order
from fastarchive.index.tombstones import is_deleted

_MOST_CACHED: Final = 500
"""Patients, studies and series kept at hand between commits, those that changed last, some 5 KB each: enough for what
is being received at a time."""


class Base(Protocol):
    """What an overlay lies on: a snapshot of the index."""

    @property
    def tombstones(self) -> Mapping[str, Order]: ...
    def get(self, level: Level, key: str) -> Document | None: ...
    def instances_of(self, study: str) -> Iterable[Document]: ...
    def series_of(self, study: str) -> Iterable[Document]: ...
    def studies_of(self, patient: str) -> Iterable[Document]: ...
    def shadows(self, instance: str) -> list[Document]: ...
    def shadows_of(self, study: str) -> Iterable[Document]: ...
    def note(self, kind: str, name: str) -> bytes | None: ...
    def notes(self, kind: str) -> Mapping[str, bytes]: ...
    def has_notes(self, kind: str) -> bool: ...


class Overlay:
    """A base and what differs from it. Not thread-safe.

    The public containers are there to be read; they stay the same objects.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.instances: dict[str, Document | None] = {}
        """SOP Instance UID → instance, None if it is gone: those that differ from the base."""
        self.shadows: dict[str, list[Document]] = {}
        """SOP Instance UID → its shadows, where they differ from the base."""
        self.tombstones: dict[str, Order] = {}
        """Deletions the base doesn't know."""
        self.notes: dict[tuple[str, str], bytes] = {}
        """Kind and name → note, where it differs from the base's."""
        self.entities: dict[tuple[Level, str], Document | None] = {}
        """Patients, studies and series as they are now, None if gone; changed or only cached, those in the order in
        which they last changed."""
        self.changed: dict[tuple[Level, str], None] = {}
        """Keys in ``entities`` that differ from the base, in the order in which they came to."""
        self.touched: set[tuple[Level, str]] = set()
        """Keys in ``entities`` changed since whoever reads them last cleared this."""

    def rebase(self, base: Base) -> Collection[tuple[Level, str]]:
        """Go on over a base that holds all of this; which of the entities at hand so far are not any more."""
        self.base = base
        self.instances.clear()
        self.shadows.clear()
        self.tombstones.clear()
        self.notes.clear()
        entities = self.entities
        dropped: list[tuple[Level, str]] = []
        for key in self.changed:
            document = entities.pop(key, None)
            if document is None:
                dropped.append(key)
            else:
                entities[key] = document  # the last ones now
        if len(entities) > _MOST_CACHED:
            oldest = list(islice(entities, len(entities) - _MOST_CACHED))
            for key in oldest:
                del entities[key]
            dropped += oldest
        self.changed.clear()
        self.touched.clear()
        return dropped

    # Instances and their shadows

    def winner(self, instance: str) -> Document | None:
        """The instance with this UID as things are now."""
        if instance in self.instances:
            return self.instances[instance]
        return self.base.get(Level.IMAGE, instance)

    def put_instance(self, document: Document) -> None:
        """An instance there was none of; the base may have it if it went a moment ago."""
        gone = document.instance in self.instances
        document.rowid = self._rowid(Level.IMAGE, document.instance) if gone else 0
        self.instances[document.instance] = document

    def instances_of(self, study: str) -> Iterator[Document]:
        """The instances of a study."""
        for document in self.base.instances_of(study):
            if document.instance not in self.instances:
                yield document
        for changed in list(self.instances.values()):
            if changed is not None and changed.study == study:
                yield changed

    def shadows_by(self, instance: str) -> list[Document]:
        """The other records of an instance."""
        known = self.shadows.get(instance)
        return self.base.shadows(instance) if known is None else known

    def shadows_of(self, study: str) -> Iterator[Document]:
        """The shadows that lie in a study."""
        for document in self.base.shadows_of(study):
            if document.instance not in self.shadows:
                yield document
        for documents in list(self.shadows.values()):
            yield from (document for document in documents if document.study == study)

    def add_shadow(self, document: Document) -> None:
        """Keep another record of an instance; of one that was moved the copy in the later pack."""
        shadows = self.shadows_by(document.instance)
        same = next((each for each in shadows if each.order == document.order), None)
        if same is None:
            self.shadows[document.instance] = [*shadows, document]
        elif document.location.pack > same.location.pack:  # the same record, moved
            self.shadows[document.instance] = [document if each is same else each for each in shadows]

    # Patients, studies and series

    def entity(self, level: Level, key: str) -> Document | None:
        """A patient, study or series as it is now; the overlay's own object, to be changed in place."""
        name = (level, key)
        document = self.entities.get(name)
        if document is None and name not in self.entities:
            document = self.base.get(level, key)
            if document is not None:
                self.entities[name] = document
        return document

    def put(self, document: Document, before: Document | None = None) -> Document:
        """Take in a patient, study or series, in the place of `before`."""
        key = (document.level, document.key)
        if before is not None:
            document.rowid = before.rowid
        elif key in self.entities:  # gone a moment ago, but the base still has it
            document.rowid = self._rowid(*key)
        self.entities[key] = document
        self.changed[key] = None
        self.touched.add(key)
        return document

    def remove(self, level: Level, key: str) -> None:
        """There is no such patient, study or series any more."""
        if self.entity(level, key) is not None:
            self.entities[level, key] = None
            self.changed[level, key] = None
            self.touched.add((level, key))

    def series_of(self, study: str) -> Iterator[Document]:
        """The series of a study."""
        return self._changed_or(Level.SERIES, self.base.series_of(study), lambda series: series.study == study)

    def studies_of(self, patient: str) -> Iterator[Document]:
        """The studies of a patient, by its key."""
        return self._changed_or(Level.STUDY, self.base.studies_of(patient), lambda study: study.patient == patient)

    def _changed_or(
        self, level: Level, base: Iterable[Document], belongs: Callable[[Document], bool]
    ) -> Iterator[Document]:
        for document in base:
            if (level, document.key) not in self.changed:
                yield document
        for key in list(self.changed):
            changed = self.entities[key] if key[0] is level else None
            if changed is not None and belongs(changed):
                yield changed

    def _rowid(self, level: Level, key: str) -> int:
        document = self.base.get(level, key)
        return 0 if document is None else document.rowid

    # Deletions and notes

    def is_deleted(self, order: Order, study: str, series: str, instance: str) -> bool:
        """Whether a deletion concerns a record."""
        for tombstones in (self.tombstones, self.base.tombstones):
            if tombstones and is_deleted(tombstones, order, study, series, instance):
                return True
        return False

    def note(self, place: tuple[str, str]) -> bytes | None:
        """A note by its kind and name."""
        return self.notes[place] if place in self.notes else self.base.note(*place)

    def note_disagreement(self, study: str, tags: Iterable[int]) -> None:
        """What the instances of a study disagree about."""
        place, note = (DISAGREEMENT, study), encode_tags(tags)
        if note or self.note(place):
            self.notes[place] = note
