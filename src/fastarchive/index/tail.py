"""What the log holds past a commit of the index, in two stages.

First the records themselves by SOP Instance UID: all that :meth:`Index.locate` needs, and cheap enough for every
C-STORE. Then, when somebody asks a question, the documents they change, by the same code the writer runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from fastarchive.dicom.attributes import Level
from fastarchive.dicom.rejection import KEY_OBJECT_SELECTION
from fastarchive.index.documents import Document, Order
from fastarchive.index.ledger import Ledger
from fastarchive.index.notes import NO_NOTES, Notes
from fastarchive.index.packs import ReadRecord
from fastarchive.index.rejections import REJECTED
from fastarchive.index.snapshot import Snapshot
from fastarchive.index.tombstones import is_deleted, tombstone_of
from fastarchive.store.record import Location, Record, RecordKind

Changes = Mapping[Level, Mapping[str, Document | None]]
"""By level: key → document as it is now; None: the index has it, but it is gone."""

_NEVER: Order = (-1, 0, 0)
NO_TOMBSTONES: Mapping[str, Order] = MappingProxyType({})
NO_CHANGES: Changes = MappingProxyType({level: MappingProxyType({}) for level in Level})


class Tail:
    """Records past one snapshot. Not thread-safe; what :meth:`changes` gives is never changed after."""

    def __init__(self, snapshot: Snapshot, read: ReadRecord) -> None:
        self._snapshot = snapshot
        self.records: list[tuple[Location, Record]] = []
        self._instances: dict[str, tuple[Order, Location, Record]] = {}
        """SOP Instance UID → its earliest record here that no deletion in the index concerns."""
        self._tombstones: dict[str, Order] = {}
        self._key_objects = False
        """Whether there are Key Object Selection documents here, which may reject instances."""
        self._rejections = snapshot.has_notes(REJECTED)
        self._ledger = Ledger(snapshot, read)
        self._merged = 0
        self._changes: Changes = NO_CHANGES

    def add(self, records: Iterable[tuple[Location, Record]]) -> None:
        """Take in records, each once."""
        deleted = self._snapshot.tombstones
        for location, record in records:
            self.records.append((location, record))
            order = record.order(location)
            if record.kind is RecordKind.INSTANCE:
                self._key_objects = self._key_objects or record.sop_class == KEY_OBJECT_SELECTION
                if deleted and is_deleted(deleted, order, record.study, record.series, record.sop_instance):
                    continue
                known = self._instances.get(record.sop_instance)
                if known is None or (order, -location.pack) < (known[0], -known[1].pack):
                    self._instances[record.sop_instance] = (order, location, record)
            elif record.kind is RecordKind.DELETION:
                name = tombstone_of(record)
                if order <= deleted.get(name, _NEVER):  # known, and only moved
                    continue
                self._tombstones[name] = max(order, self._tombstones.get(name, order))

    def find(self, instance: str) -> tuple[Location, Record | Document] | None:
        """Where an instance is and what tells of it: its record if it is in the tail, else its document."""
        if self._tombstones or self._may_be_rejected(instance):
            self._merge()
            document = self._ledger.overlay.winner(instance)
            return None if document is None else (document.location, document)
        known = self._instances.get(instance)
        indexed = self._snapshot.get(Level.IMAGE, instance)
        if indexed is not None and (
            known is None or (indexed.order, -indexed.location.pack) <= (known[0], -known[1].pack)
        ):
            return indexed.location, indexed
        return None if known is None else (known[1], known[2])

    def rejected(self, instance: str) -> tuple[Document, str] | None:
        """An instance that is rejected, and the code (:mod:`fastarchive.dicom.rejection`)."""
        if not self._may_be_rejected(instance):
            return None
        self._merge()
        return self._ledger.rejected(instance)

    @property
    def is_merged(self) -> bool:
        """Whether anybody has asked for more than where an instance is."""
        return self._merged > 0

    @property
    def may_reject(self) -> bool:
        """Whether any instance may be rejected."""
        return self._key_objects or self._rejections

    def _may_be_rejected(self, instance: str) -> bool:
        return self._key_objects or (self._rejections and self._snapshot.note(REJECTED, instance) is not None)

    @property
    def tombstones(self) -> Mapping[str, Order]:
        """The deletions among the records; never changed after."""
        return MappingProxyType(dict(self._tombstones)) if self._tombstones else NO_TOMBSTONES

    def notes(self) -> Notes:
        """Notes that the tail changes; never changed after."""
        self._merge()
        notes = self._ledger.overlay.notes
        return MappingProxyType(dict(notes)) if notes else NO_NOTES

    def changes(self) -> Changes:
        """What the tail changes at each level."""
        self._merge()
        return self._changes

    def _merge(self) -> None:
        if self._merged == len(self.records):
            return
        overlay = self._ledger.overlay
        self._ledger.apply(self.records[self._merged :])
        self._merged = len(self.records)
        changes: dict[Level, dict[str, Document | None]] = {level: dict(self._changes[level]) for level in Level}
        for level, key in overlay.touched:
            document = overlay.entities[level, key]
            changes[level][key] = None if document is None else document.copy()
        overlay.touched.clear()
        changes[Level.IMAGE] = dict(overlay.instances)
        self._changes = changes
