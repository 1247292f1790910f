"""One moment of the archive: a commit of the index, and over it what the log held past it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from fastarchive.dicom.attributes import Level
from fastarchive.index.conditions import Condition
from fastarchive.index.disagreements import DISAGREEMENT, decode_tags
from fastarchive.index.documents import KEY_SEPARATOR, Document, Order
from fastarchive.index.notes import NO_NOTES, QUARANTINE, Notes, Quarantined, in_quarantine
from fastarchive.index.rejections import REJECTING, RejectionNote, rejection_notes
from fastarchive.index.snapshot import Snapshot
from fastarchive.index.tail import NO_TOMBSTONES, Changes
from fastarchive.index.tombstones import is_deleted

__all__ = ["View"]


class View:
    """One moment of the archive; immutable, usable from any thread."""

    def __init__(
        self,
        snapshot: Snapshot,
        changes: Changes,
        tail_length: int,
        tombstones: Mapping[str, Order] = NO_TOMBSTONES,
        notes: Notes = NO_NOTES,
    ) -> None:
        self._snapshot = snapshot
        self._notes = notes
        self._changes = changes
        self._tombstones = (tombstones, snapshot.tombstones)
        self.tail_length = tail_length
        """Records the log holds past the commit this view is based on."""

    def get(self, level: Level, key: str) -> Document | None:
        """The entity with this key (:attr:`Document.key`). A series may be named by its UID alone."""
        if level is Level.SERIES and KEY_SEPARATOR not in key:
            return next(iter(self.get_many(level, (key,))), None)
        changed = self._changes[level]
        return changed[key] if key in changed else self._snapshot.get(level, key)

    def is_deleted(self, order: Order, study: str, series: str, instance: str) -> bool:
        """Whether a deletion names a record of that order and these UIDs."""
        return any(is_deleted(each, order, study, series, instance) for each in self._tombstones if each)

    def quarantined(self, instance: str | None = None) -> list[Quarantined]:
        """The data sets in quarantine: those of the instance with a UID, or all, in the order they were received."""
        if instance is not None:
            note = self._notes.get((QUARANTINE, instance)) or self._snapshot.note(QUARANTINE, instance)
            return [] if note is None else in_quarantine(note, self.is_deleted)
        notes = self._snapshot.notes(QUARANTINE)
        notes |= {name: note for (kind, name), note in self._notes.items() if kind == QUARANTINE}
        return sorted(one for note in notes.values() for one in in_quarantine(note, self.is_deleted))

    def rejection_notes(self) -> list[RejectionNote]:
        """The rejection notes in force, oldest first."""
        notes = self._snapshot.notes(REJECTING)
        notes |= {name: note for (kind, name), note in self._notes.items() if kind == REJECTING}
        return rejection_notes(notes)

    def disagreements(self) -> dict[str, frozenset[int]]:
        """Studies whose instances disagree about the study or its patient, and in which attributes (tags)."""
        notes = self._snapshot.notes(DISAGREEMENT)
        notes |= {name: note for (kind, name), note in self._notes.items() if kind == DISAGREEMENT}
        return {study: decode_tags(note) for study, note in sorted(notes.items()) if note}

    def get_many(self, level: Level, keys: Iterable[str]) -> list[Document]:
        """The entities with these keys, each once, in no particular order.

        A series may be named by its key (its UID within its study) or by its UID alone, which gives every one with it.
        """
        changed = self._changes[level]
        wanted = set(keys)
        found: dict[str, Document] = {}
        if level is Level.SERIES and (uids := {key for key in wanted if KEY_SEPARATOR not in key}):
            wanted -= uids
            for document in self._snapshot.series_with_uids(uids):
                if document.key not in changed:
                    found[document.key] = document
            for now in changed.values():
                if now is not None and now.series in uids:
                    found[now.key] = now
        for key in wanted & changed.keys():
            now = changed[key]
            if now is not None:
                found[key] = now
        for document in self._snapshot.get_many(level, wanted - changed.keys()):
            found[document.key] = document
        return list(found.values())

    def tail_documents(self, level: Level) -> list[Document]:
        """Entities the tail touches, as they are now, the index's part included; none of them comes from pages()."""
        return [document for document in self._changes[level].values() if document is not None]

    def pages(
        self, level: Level, condition: Condition, *, first_page: int = 25, page_size: int = 1000
    ) -> Iterator[list[Document]]:
        """Entities of the index that meet `condition`, perhaps some that don't; without those of tail_documents().

        The first page is about `first_page` long, later ones about `page_size`; none is empty.
        """
        return self._snapshot.pages(level, condition, self._changes[level].keys(), first_page, page_size)

    def estimate(self, level: Level, condition: Condition, *, counted: bool = True) -> int:
        """About how many documents pages() gives, seldom too low and never 0 when there is one; cheap, cheaper when
        what lies in a range need not be counted and is taken for everything."""
        return self._snapshot.estimate(level, condition, counted=counted)

    def counts(self) -> dict[Level, int]:
        """How many entities there are of each level."""
        counts = self._snapshot.counts()
        for level, changed in self._changes.items():
            for key, document in changed.items():
                if document is None:
                    counts[level] -= self._snapshot.get(level, key) is not None
                elif not document.rowid:
                    counts[level] += 1
        return counts
