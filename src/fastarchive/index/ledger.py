"""Records turned into changed documents, over whatever the index holds already.

The writer and the tail of every reader run this same code: the writer puts what changed into the index, the tail keeps
it in memory. What the documents must be is said in :mod:`fastarchive.index.documents`; here is how they get there
without reading everything again:

* The usual record brings a new instance: its document is made, its attributes are merged, and the counts of its
  series, study and patient go up by one. That it *is* new has been asked of the base first.
* A record of a known instance is a shadow if it is later. If it is earlier, it takes the place of the known one.
* A record whose order is known already is the same record, moved: the copy in the later pack is where it is now.
* A deletion record takes away every record before it, in record order, of what it names. It stays in force (as a
  *tombstone*) for records that are read after it but were received before.
* Whenever an instance goes away, or a study turns out to belong to another patient, the documents concerned are made
  again from the records of the instances left, read back from their packs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

from fastarchive.dicom.attributes import PATIENT_ID, Level
from fastarchive.dicom.rejection import KEY_OBJECT_SELECTION
from fastarchive.index.contributions import Template, contribution_of
from fastarchive.index.disagreements import (
    DISAGREEMENT,
    decode_tags,
    disagreeing,
    disagreeing_among,
    encode_tags,
)
from fastarchive.index.documents import Contribution, Document, Order, add, blank, has_patient_id, merge, series_key
from fastarchive.index.encoded import encode_elements
from fastarchive.index.notes import QUARANTINE, with_quarantine_record
from fastarchive.index.packs import ReadRecord
from fastarchive.index.rejections import REJECTED, REJECTING, Rejections
from fastarchive.store.record import Location, Record, RecordKind

_MOST_OPEN_SERIES: Final = 4096
_MOST_CACHED: Final = 60_000
_log = logging.getLogger(__name__)


class Base(Protocol):
    """What a ledger builds on: a snapshot of the index."""

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


def tombstone_of(record: Record) -> str:
    """The name of what a deletion record deletes."""
    if record.sop_instance:
        return f"I{record.sop_instance}"
    if record.series:
        return f"E{series_key(record.study, record.series)}"
    return f"S{record.study}"


def is_deleted(tombstones: Mapping[str, Order], order: Order, study: str, series: str, instance: str) -> bool:
    """Whether a deletion later than `order` names the instance, its series or its study."""
    for name in (f"I{instance}", f"E{series_key(study, series)}", f"S{study}"):
        deleted = tombstones.get(name)
        if deleted is not None and order < deleted:
            return True
    return False


class _OpenSeries:
    """A series being received: its documents, and what its last record said of everything above the instance."""

    __slots__ = ("_attributes", "_template", "keys", "order", "patient", "series", "study")

    def __init__(self, series: Document, study: Document, patient: Document, attributes: bytes, order: Order) -> None:
        self.series, self.study, self.patient = series, study, patient
        self._attributes, self.order = attributes, order
        self._template: Template | None = None
        self.keys = dict.fromkeys([(document.level, document.key) for document in (series, study, patient)])

    def instance_part(self, attributes: bytes) -> bytes | None:
        """As :meth:`Template.instance_part`; the template is made for the second instance, which many never have."""
        if self._template is None:
            self._template = Template(self._attributes)
        return self._template.instance_part(attributes)


class Ledger:
    """Documents in the making. Not thread-safe.

    `read` gives the record at a location, or None if it can't be read any more.
    """

    def __init__(self, base: Base, read: ReadRecord) -> None:
        self._base = base
        self._read = read
        self.instances: dict[str, Document | None] = {}
        """SOP Instance UID → instance, None if it is gone: those that differ from the base."""
        self.shadows: dict[str, list[Document]] = {}
        """SOP Instance UID → its shadows, where they differ from the base."""
        self.tombstones: dict[str, Order] = {}
        """Deletions the base doesn't know."""
        self.notes: dict[tuple[str, str], bytes] = {}
        """Kind and name → note, where it differs from the base's."""
        self.entities: dict[tuple[Level, str], Document | None] = {}
        """Patients, studies and series as they are now, None if gone; changed or only cached."""
        self.changed: dict[tuple[Level, str], None] = {}
        """Keys in ``entities`` that differ from the base, in the order in which they came to."""
        self.touched: set[tuple[Level, str]] = set()
        """Keys in ``entities`` changed since whoever reads them last cleared this."""
        self._open: dict[tuple[str, str], _OpenSeries] = {}
        self._recent: dict[Location, Record] = {}
        self._key_objects: set[str] = set()
        """Key Object Selection documents that have come or gone."""
        self._rejections = Rejections(self.notes, self._note, read.content)
        self._rejections.any = base.has_notes(REJECTED)
        self._studies_to_rebuild: set[str] = set()
        self._patients_to_rebuild: set[str] = set()

    def apply(self, batch: Iterable[tuple[Location, Record]]) -> None:
        """Take in records. The outcome depends on the set of all records taken in, not on their order."""
        try:
            for location, record in batch:
                if record.kind is RecordKind.INSTANCE:
                    self._instance(location, record)
                elif record.kind is RecordKind.DELETION:
                    self._delete(location, record)
                else:
                    place = (QUARANTINE, record.sop_instance)
                    self.notes[place] = with_quarantine_record(self._note(place), location, record)
            self._settle_key_objects()
            if self._studies_to_rebuild or self._patients_to_rebuild:
                self._rebuild()
        finally:
            self._recent.clear()

    def settle(self, instances: Iterable[list[Document]], studies: Iterable[Document], patients: Iterable[str]) -> None:
        """Bring together what separate ledgers have put into the base.

        instances: the documents of each instance there is more than one of; studies: all documents of each such study;
        patients: keys of patients.
        """
        for documents in instances:
            winner, *others = sorted(documents, key=lambda each: each.order)
            self.instances[winner.instance] = winner
            for other in others:
                self._add_shadow(other)
            self._studies_to_rebuild.update(each.study for each in documents)
        for instance in self._rejections.gather(self._base.notes(REJECTING).values()):
            self._settle(instance)
        for study in studies:
            self._studies_to_rebuild.add(study.study)
            self._patients_to_rebuild.add(study.patient)
        self._patients_to_rebuild.update(patients)
        if self._studies_to_rebuild or self._patients_to_rebuild:
            self._rebuild()

    def rebase(self, base: Base) -> None:
        """Go on over a base that holds everything taken in so far; what was read stays cached."""
        self._base = base
        self._rejections.any = base.has_notes(REJECTED)
        self.instances.clear()
        self.shadows.clear()
        self.tombstones.clear()
        self.notes.clear()
        if len(self.entities) > _MOST_CACHED:
            self.entities.clear()
            self._open.clear()
        else:
            for key in [key for key in self.changed if self.entities.get(key) is None]:
                self.entities.pop(key, None)
        self.changed.clear()
        self.touched.clear()

    def winner(self, instance: str) -> Document | None:
        """The instance with this UID as things are now."""
        if instance in self.instances:
            return self.instances[instance]
        return self._base.get(Level.IMAGE, instance)

    # Instances

    def _instance(self, location: Location, record: Record) -> None:
        order = record.order(location)
        study, series, instance = record.study, record.series, record.sop_instance
        if self._is_deleted(order, study, series, instance):
            return
        if record.sop_class == KEY_OBJECT_SELECTION:
            self._key_objects.add(instance)
        known = self.winner(instance)
        if known is not None:
            self._again(known, location, record, order)
            return
        if self._rejections.marked(instance):
            self._add_shadow(_whole_document(record, location))
            self._settle(instance)
            return
        opened = self._open.get((study, series))
        encoded = None
        if opened is not None and order > opened.order:
            encoded = opened.instance_part(record.attributes)
        if opened is None or encoded is None:
            contribution = contribution_of(record, location)
            encoded = encode_elements(contribution.elements[Level.IMAGE])
            opened = self._merge(contribution, record.attributes)
            if self._studies_to_rebuild:
                self._recent[location] = record
        elif record.sop_class not in opened.series.sop_classes:
            for document in (opened.series, opened.study):
                document.sop_classes = tuple(sorted({*document.sop_classes, record.sop_class}))
        opened.series.number_of_instances += 1
        opened.study.number_of_instances += 1
        opened.patient.number_of_instances += 1
        self.changed.update(opened.keys)
        self.touched.update(opened.keys)
        document = _instance_document(record, location, opened.study.patient, encoded)
        if instance in self.instances:  # gone a moment ago, but the base still has it
            document.rowid = _rowid(self._base.get(Level.IMAGE, instance))
        self.instances[instance] = document

    def _again(self, known: Document, location: Location, record: Record, order: Order) -> None:
        """A record of an instance that is known already."""
        if known.order == order:
            if location.pack > known.location.pack:  # the same record, moved
                self.instances[known.instance] = _moved(known, location)
            return
        document = _whole_document(record, location)
        document.patient = known.patient
        if order > known.order or self._rejections.marked(known.instance):
            self._add_shadow(document)
            self._settle(known.instance)
            return
        self._recent[location] = record
        self._add_shadow(known)
        self.shadows[known.instance] = [each for each in self._shadows(known.instance) if each.order != order]
        self._replace(known, document)

    def _merge(self, contribution: Contribution, attributes: bytes) -> _OpenSeries:
        """Merge what a new instance says into the documents above it."""
        study = self._entity(Level.STUDY, contribution.study)
        new_study = study is None
        if study is None:
            study = self._put(blank(Level.STUDY, contribution))
        before = study.patient
        if not new_study and (tags := disagreeing(study.elements, contribution)):
            self._note_disagreement(study.study, tags | decode_tags(self._note((DISAGREEMENT, study.study))))
        add(study, contribution)
        owner = study.patient
        if owner != before:
            self._studies_to_rebuild.add(contribution.study)
            self._patients_to_rebuild.update((before, owner))
        patient = self._entity(Level.PATIENT, owner)
        if patient is None:
            patient = self._put(Document(Level.PATIENT, patient=owner))
        if owner == contribution.patient:
            add(patient, contribution)
        series = self._entity(Level.SERIES, series_key(contribution.study, contribution.series))
        if series is None:
            series = self._put(blank(Level.SERIES, contribution))
            study.number_of_series += 1
            patient.number_of_series += 1
        if new_study:
            patient.number_of_studies += 1
        series.patient = owner
        add(series, contribution)
        if len(self._open) >= _MOST_OPEN_SERIES:
            self._open.clear()
        opened = _OpenSeries(series, study, patient, attributes, contribution.order)
        self._open[contribution.study, contribution.series] = opened
        return opened

    # Deletions and the like

    def _delete(self, location: Location, record: Record) -> None:
        name = tombstone_of(record)
        order = record.order(location)
        known = max(self.tombstones.get(name, order), self._base.tombstones.get(name, order))
        if known == self._base.tombstones.get(name):
            return
        self.tombstones[name] = known
        if record.sop_instance:
            concerned = {record.sop_instance}
        else:
            concerned = {
                document.instance
                for documents in (self._instances_of(record.study), self._shadows_of(record.study))
                for document in documents
                if not record.series or document.series == record.series
            }
        for instance in concerned:
            self._settle(instance)

    def _settle(self, instance: str) -> None:
        """Choose the instance anew among its records that are not deleted."""
        before = self.winner(instance)
        shadows = self._shadows(instance)
        records = sorted([before, *shadows] if before is not None else shadows, key=lambda each: each.order)
        left = [each for each in records if not self._is_deleted(each.order, each.study, each.series, each.instance)]
        after = next((each for each in left if self._rejections.reject(each) is None), None)
        same = after is None if before is None else after is not None and after.order == before.order
        if same and len(left) == len(records):
            return
        self._key_objects.update(each.instance for each in records if each.sop_class == KEY_OBJECT_SELECTION)
        self.shadows[instance] = [each for each in left if each is not after]
        if same:
            return
        if before is not None:
            self._replace(before, None if after is None else after.copy())
        elif after is not None:  # nothing hides it any more
            after = after.copy()
            after.rowid = _rowid(self._base.get(Level.IMAGE, instance))
            self.instances[instance] = after
            self._studies_to_rebuild.add(after.study)

    def _settle_key_objects(self) -> None:
        """Hide and show what rejection notes say that have come or gone."""
        while self._key_objects:
            note = self._key_objects.pop()
            for instance in sorted(self._rejections.update(note, self.holder(note))):
                self._settle(instance)

    def holder(self, instance: str) -> Document | None:
        """The earliest record of an instance that isn't deleted, be it rejected or not."""
        winner = self.winner(instance)
        records = [*self._shadows(instance), *([] if winner is None else [winner])]
        left = [each for each in records if not self._is_deleted(each.order, each.study, each.series, each.instance)]
        return min(left, key=lambda each: each.order, default=None)

    def rejected(self, instance: str) -> tuple[Document, str] | None:
        """An instance that isn't one because it is rejected, and the code; None if it is one, or there is none."""
        if not self._rejections.marked(instance) or self.winner(instance) is not None:
            return None
        holder = self.holder(instance)
        code = None if holder is None else self._rejections.reject(holder)
        return None if holder is None or code is None else (holder, code)

    def _replace(self, before: Document, after: Document | None) -> None:
        self._studies_to_rebuild.add(before.study)
        self.instances[before.instance] = after
        if after is not None:
            after.rowid = before.rowid
            self._studies_to_rebuild.add(after.study)

    def _rebuild(self) -> None:
        """Make documents again from the instances that are left."""
        self._open.clear()
        studies, self._studies_to_rebuild = self._studies_to_rebuild, set()
        for study in sorted(studies):
            self._rebuild_study(study)
        patients, self._patients_to_rebuild = self._patients_to_rebuild, set()
        for key in sorted(patients):
            self._rebuild_patient(key)
        _log.info("made %d studies and %d patients again from their instances", len(studies), len(patients))

    def _rebuild_study(self, study: str) -> None:
        before = self._entity(Level.STUDY, study)
        if before is not None:
            self._patients_to_rebuild.add(before.patient)
        instances = list(self._instances_of(study))
        contributions = [self._contribution(instance) for instance in instances]
        by_series: dict[str, list[Contribution]] = {}
        for contribution in contributions:
            by_series.setdefault(series_key(study, contribution.series), []).append(contribution)
        gone = {document.key for document in self._series_of(study)} - by_series.keys()
        for key in gone:
            self._remove(Level.SERIES, key)
        self._note_disagreement(study, disagreeing_among(contributions))
        if not contributions:
            self._remove(Level.STUDY, study)
            return
        rebuilt = merge(Level.STUDY, blank(Level.STUDY, contributions[0]), contributions)
        rebuilt.number_of_series, rebuilt.number_of_instances = len(by_series), len(contributions)
        self._put(rebuilt, before)
        self._patients_to_rebuild.add(rebuilt.patient)
        for key, members in by_series.items():
            series = merge(Level.SERIES, None, members)
            series.patient, series.number_of_instances = rebuilt.patient, len(members)
            self._put(series, self._entity(Level.SERIES, key))
        for instance in instances:
            if instance.patient != rebuilt.patient:
                moved = instance.copy()
                moved.patient = rebuilt.patient
                self.instances[instance.instance] = moved

    def _rebuild_patient(self, key: str) -> None:
        studies = list(self._studies_of(key))
        if not studies:
            self._remove(Level.PATIENT, key)
            return
        patient = Document(Level.PATIENT, patient=key)
        patient.number_of_studies = len(studies)
        for study in studies:
            patient.number_of_series += study.number_of_series
            patient.number_of_instances += study.number_of_instances
            for instance in self._instances_of(study.study):
                contribution = self._contribution(instance)
                if contribution.patient == key:
                    add(patient, contribution)
        self._put(patient, self._entity(Level.PATIENT, key))

    def _contribution(self, instance: Document) -> Contribution:
        """What the record of an instance says; what its document knows of it, if the record can't be read any more."""
        record = self._recent.get(instance.location) or self._read(instance.location)
        if record is not None:
            self._recent[instance.location] = record
            return contribution_of(record, instance.location)
        _log.warning("a record can't be read: offset %d of pack %d", instance.location.offset, instance.location.pack)
        patient_id = instance.patient if has_patient_id(instance.patient) else ""
        elements: dict[Level, dict[int, bytes]] = {level: {} for level in Level}
        elements[Level.IMAGE] = instance.elements
        if patient_id:
            elements[Level.PATIENT][PATIENT_ID] = patient_id.encode()
        return Contribution(
            instance.order,
            patient_id,
            instance.study,
            instance.series,
            instance.instance,
            instance.sop_class,
            "",
            elements,
        )

    # The base and what has changed over it

    def _is_deleted(self, order: Order, study: str, series: str, instance: str) -> bool:
        for tombstones in (self.tombstones, self._base.tombstones):
            if tombstones and is_deleted(tombstones, order, study, series, instance):
                return True
        return False

    def _entity(self, level: Level, key: str) -> Document | None:
        """A patient, study or series as it is now; the ledger's own object, to be changed in place."""
        try:
            return self.entities[level, key]
        except KeyError:
            document = self._base.get(level, key)
            if document is not None:
                self.entities[level, key] = document
            return document

    def _put(self, document: Document, before: Document | None = None) -> Document:
        key = (document.level, document.key)
        if before is not None:
            document.rowid = before.rowid
        elif key in self.entities:  # gone a moment ago, but the base still has it
            document.rowid = _rowid(self._base.get(*key))
        self.entities[key] = document
        self.changed[key] = None
        self.touched.add(key)
        return document

    def _remove(self, level: Level, key: str) -> None:
        if self._entity(level, key) is not None:
            self.entities[level, key] = None
            self.changed[level, key] = None
            self.touched.add((level, key))

    def _instances_of(self, study: str) -> Iterator[Document]:
        for document in self._base.instances_of(study):
            if document.instance not in self.instances:
                yield document
        for changed in list(self.instances.values()):
            if changed is not None and changed.study == study:
                yield changed

    def _series_of(self, study: str) -> Iterator[Document]:
        return self._changed_or(Level.SERIES, self._base.series_of(study), lambda series: series.study == study)

    def _studies_of(self, patient: str) -> Iterator[Document]:
        return self._changed_or(Level.STUDY, self._base.studies_of(patient), lambda study: study.patient == patient)

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

    def _shadows(self, instance: str) -> list[Document]:
        known = self.shadows.get(instance)
        return self._base.shadows(instance) if known is None else known

    def _shadows_of(self, study: str) -> Iterator[Document]:
        for document in self._base.shadows_of(study):
            if document.instance not in self.shadows:
                yield document
        for documents in list(self.shadows.values()):
            yield from (document for document in documents if document.study == study)

    def _note(self, place: tuple[str, str]) -> bytes | None:
        return self.notes[place] if place in self.notes else self._base.note(*place)

    def _note_disagreement(self, study: str, tags: Iterable[int]) -> None:
        place, note = (DISAGREEMENT, study), encode_tags(tags)
        if note or self._note(place):
            self.notes[place] = note

    def _add_shadow(self, document: Document) -> None:
        shadows = self._shadows(document.instance)
        same = next((each for each in shadows if each.order == document.order), None)
        if same is None:
            self.shadows[document.instance] = [*shadows, document]
        elif document.location.pack > same.location.pack:  # the same record, moved
            self.shadows[document.instance] = [document if each is same else each for each in shadows]


def _rowid(document: Document | None) -> int:
    return 0 if document is None else document.rowid


def _moved(document: Document, location: Location) -> Document:
    """An instance's document after its record was moved: nothing else about it has changed."""
    _, pack, offset = document.order
    moved = document.copy()
    moved.location, moved.origin = location, (pack, offset)
    return moved


def _whole_document(record: Record, location: Location) -> Document:
    contribution = contribution_of(record, location)
    elements = encode_elements(contribution.elements[Level.IMAGE])
    return _instance_document(record, location, contribution.patient, elements)


def _instance_document(record: Record, location: Location, patient: str, encoded: bytes) -> Document:
    document = Document(
        Level.IMAGE,
        patient=patient,
        study=record.study,
        series=record.series,
        instance=record.sop_instance,
        encoded=encoded,
    )
    document.received, document.location, document.digest = record.received, location, record.digest
    document.origin = record.origin
    document.length, document.sop_class = record.length, record.sop_class
    document.transfer_syntax = record.transfer_syntax
    return document
