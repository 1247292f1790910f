"""What has changed over the index, handed to Tantivy."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

import tantivy

from fastarchive.dicom.attributes import Level
from fastarchive.index import schema
from fastarchive.index.documents import Document
from fastarchive.index.overlay import Overlay
from fastarchive.index.snapshot import Checkpoint, encode_note, encode_tombstone

_ENTITIES: Final = (Level.PATIENT, Level.STUDY, Level.SERIES)


class Changes:
    """Puts into the index what `overlay` says, without committing, at once or bit by bit; serves one commit.

    New documents get every `step`-th rowid from `next_rowid` on. added: told level, key and term of each of them.
    """

    def __init__(
        self,
        writer: tantivy.IndexWriter,
        overlay: Overlay,
        next_rowid: int,
        *,
        step: int = 1,
        added: Callable[[Level, str, str], object] = lambda _level, _key, _term: None,
    ) -> None:
        self._writer = writer
        self._overlay = overlay
        self.next_rowid = next_rowid
        """The next free one."""
        self._step = step
        self._added = added
        self._written: dict[str, Document | None] = {}
        """The first of the overlay's instances, as they were put."""

    def put_instances(self) -> None:
        """Put the instances that have come since the last call; what changes of them later is for :meth:`finish`.

        Raises ValueError when the index can't be written.
        """
        instances, written = self._overlay.instances, self._written
        for instance, document in list(islice(instances.items(), len(written), None)):
            self._put(Level.IMAGE, instance, document)
            written[instance] = document

    def finish(self) -> None:
        """Put, replace and delete all that is left. Raises ValueError when the index can't be written."""
        writer, overlay = self._writer, self._overlay
        for level in _ENTITIES:  # what is read together stands together, in the order in which it came
            for changed, key in overlay.changed:
                if changed is level:
                    self._put(level, key, overlay.entities[level, key])
        for instance, before in self._written.items():
            document = overlay.instances[instance]
            if document is not before:
                self._put(Level.IMAGE, instance, document, again=True)
        self.put_instances()
        for instance, shadows in overlay.shadows.items():
            writer.delete_documents_by_term("instance", instance)
            for shadow in shadows:
                writer.add_document(schema.shadow_document(shadow))
        for name, order in overlay.tombstones.items():
            writer.delete_documents_by_term("key", schema.TOMBSTONE + name)
            writer.add_document(schema.private_document(schema.TOMBSTONE, name, encode_tombstone(name, order)))
        for (kind, name), note in overlay.notes.items():
            writer.delete_documents_by_term("key", kind + name)
            if note:
                writer.add_document(schema.private_document(kind, name, encode_note(name, note)))

    def _put(self, level: Level, key: str, document: Document | None, *, again: bool = False) -> None:
        writer, term = self._writer, schema.key_term(level, key)
        if document is None or document.rowid or again:
            writer.delete_documents_by_term("key", term)
        if document is not None:
            if not document.rowid:
                document.rowid, self.next_rowid = self.next_rowid, self.next_rowid + self._step
                self._added(level, key, term)
            writer.add_json(schema.index_document(document, term))


def write_checkpoint(writer: tantivy.IndexWriter, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint, without committing. Raises ValueError."""
    writer.delete_documents_by_term("key", schema.CHECKPOINT)
    writer.add_document(schema.private_document(schema.CHECKPOINT, "", checkpoint.encode()))
