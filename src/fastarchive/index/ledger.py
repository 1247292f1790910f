"""Records turned into changed documents, over whatever the index holds already.

The writer and the tail of every reader run this same code: the writer puts what changed into the index, the tail keeps
it in memory. What the documents must be is said in :mod:`fastarchive.index.documents`; here is how they get there
without reading everything again:

* The usual record brings a new instance: its document is made, its attributes are merged, and the counts of its
  series, study and patient go up by one (:mod:`fastarchive.index.merging`). That it *is* new has been asked of the
  base first.
* A record of a known instance is a shadow if it is later. If it is earlier, it takes the place of the known one.
* A record whose order is known already is the same record, moved: the copy in the later pack is where it is now.
* A deletion record takes away every record before it (:mod:`fastarchive.index.tombstones`), a rejection note hides
  what it names (:mod:`fastarchive.index.rejections`); then the instance is chosen anew among its records.
* Whenever an instance goes away, or a study turns out to belong to another patient, the documents concerned are made
  again (:mod:`fastarchive.index.remaking`).
"""

from __future__ import annotations

from collections.abc import Iterable

from fastarchive.dicom.rejection import KEY_OBJECT_SELECTION
from fastarchive.index.documents import Document, Order
from fastarchive.index.instances import moved, whole_document
from fastarchive.index.merging import Merging
from fastarchive.index.notes import QUARANTINE, with_quarantine_record
from fastarchive.index.overlay import Base, Overlay
from fastarchive.index.packs import ReadRecord
from fastarchive.index.rejections import REJECTED, REJECTING, Rejections
from fastarchive.index.remaking import Remaking
from fastarchive.index.tombstones import tombstone_of
from fastarchive.store.record import Location, Record, RecordKind


class Ledger:
    """Documents in the making. Not thread-safe.

    `read` gives the record at a location, or None if it can't be read any more.
    """

    def __init__(self, base: Base, read: ReadRecord) -> None:
        self.overlay = Overlay(base)
        """The documents as they are now."""
        self._remaking = Remaking(self.overlay, read)
        self._merging = Merging(self.overlay, self._remaking)
        self._key_objects: set[str] = set()
        """Key Object Selection documents that have come or gone."""
        self._rejections = Rejections(self.overlay.notes, self.overlay.note, read.content)
        self._rejections.any = base.has_notes(REJECTED)

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
                    note = with_quarantine_record(self.overlay.note(place), location, record)
                    self.overlay.notes[place] = note
            self._settle_key_objects()
            self._remake()
        finally:
            self._remaking.forget()

    def settle(self, instances: Iterable[list[Document]], studies: Iterable[Document], patients: Iterable[str]) -> None:
        """Bring together what separate ledgers have put into the base.

        instances: the documents of each instance there is more than one of; studies: all documents of each such study;
        patients: keys of patients.
        """
        for documents in instances:
            winner, *others = sorted(documents, key=lambda each: each.order)
            self.overlay.instances[winner.instance] = winner
            for other in others:
                self.overlay.add_shadow(other)
            self._remaking.studies.update(each.study for each in documents)
        for instance in self._rejections.gather(self.overlay.base.notes(REJECTING).values()):
            self._settle(instance)
        for study in studies:
            self._remaking.studies.add(study.study)
            self._remaking.patients.add(study.patient)
        self._remaking.patients.update(patients)
        self._remake()

    def rebase(self, base: Base) -> None:
        """Go on over a base that holds everything taken in so far; what changed last stays cached."""
        self._merging.close(self.overlay.rebase(base))
        self._rejections.any = base.has_notes(REJECTED)

    def holder(self, instance: str) -> Document | None:
        """The earliest record of an instance that isn't deleted, be it rejected or not."""
        winner = self.overlay.winner(instance)
        records = [*self.overlay.shadows_by(instance), *([] if winner is None else [winner])]
        return min(self._left(records), key=lambda each: each.order, default=None)

    def rejected(self, instance: str) -> tuple[Document, str] | None:
        """An instance that isn't one because it is rejected, and the code; None if it is one, or there is none."""
        if not self._rejections.marked(instance) or self.overlay.winner(instance) is not None:
            return None
        holder = self.holder(instance)
        code = None if holder is None else self._rejections.reject(holder)
        return None if holder is None or code is None else (holder, code)

    def _instance(self, location: Location, record: Record) -> None:
        overlay = self.overlay
        order, instance = record.order(location), record.sop_instance
        if overlay.is_deleted(order, record.study, record.series, instance):
            return
        if record.sop_class == KEY_OBJECT_SELECTION:
            self._key_objects.add(instance)
        known = overlay.winner(instance)
        if known is not None:
            self._again(known, location, record, order)
        elif self._rejections.marked(instance):
            overlay.add_shadow(whole_document(record, location))
            self._settle(instance)
        else:
            self._merging.add(location, record, order)

    def _again(self, known: Document, location: Location, record: Record, order: Order) -> None:
        """A record of an instance that is known already."""
        overlay, instance = self.overlay, known.instance
        if known.order == order:
            if location.pack > known.location.pack:  # the same record, moved
                overlay.instances[instance] = moved(known, location)
            return
        document = whole_document(record, location)
        document.patient = known.patient
        if order > known.order or self._rejections.marked(instance):
            overlay.add_shadow(document)
            self._settle(instance)
            return
        self._remaking.remember(location, record)
        overlay.add_shadow(known)
        overlay.shadows[instance] = [each for each in overlay.shadows_by(instance) if each.order != order]
        self._replace(known, document)

    def _delete(self, location: Location, record: Record) -> None:
        overlay = self.overlay
        name = tombstone_of(record)
        order = record.order(location)
        known = max(overlay.tombstones.get(name, order), overlay.base.tombstones.get(name, order))
        if known == overlay.base.tombstones.get(name):
            return
        overlay.tombstones[name] = known
        if record.sop_instance:
            concerned = {record.sop_instance}
        else:
            concerned = {
                document.instance
                for documents in (overlay.instances_of(record.study), overlay.shadows_of(record.study))
                for document in documents
                if not record.series or document.series == record.series
            }
        for instance in concerned:
            self._settle(instance)

    def _settle(self, instance: str) -> None:
        """Choose the instance anew among its records that are not deleted."""
        before = self.overlay.winner(instance)
        shadows = self.overlay.shadows_by(instance)
        records = sorted([before, *shadows] if before is not None else shadows, key=lambda each: each.order)
        left = self._left(records)
        after = next((each for each in left if self._rejections.reject(each) is None), None)
        same = after is None if before is None else after is not None and after.order == before.order
        if same and len(left) == len(records):
            return
        self._key_objects.update(each.instance for each in records if each.sop_class == KEY_OBJECT_SELECTION)
        self.overlay.shadows[instance] = [each for each in left if each is not after]
        if same:
            return
        if before is not None:
            self._replace(before, None if after is None else after.copy())
        elif after is not None:  # nothing hides it any more
            self.overlay.put_instance(after.copy())
            self._remaking.studies.add(after.study)

    def _settle_key_objects(self) -> None:
        """Hide and show what rejection notes say that have come or gone."""
        while self._key_objects:
            note = self._key_objects.pop()
            for instance in sorted(self._rejections.update(note, self.holder(note))):
                self._settle(instance)

    def _left(self, records: Iterable[Document]) -> list[Document]:
        """Those of the records that are not deleted."""
        deleted = self.overlay.is_deleted
        return [each for each in records if not deleted(each.order, each.study, each.series, each.instance)]

    def _replace(self, before: Document, after: Document | None) -> None:
        self._remaking.studies.add(before.study)
        self.overlay.instances[before.instance] = after
        if after is not None:
            after.rowid = before.rowid
            self._remaking.studies.add(after.study)

    def _remake(self) -> None:
        if self._remaking.is_due:
            self._merging.close_all()
            self._remaking.run()
