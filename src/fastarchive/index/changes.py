"""What has changed over the index, handed to Tantivy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import tantivy

from fastarchive.dicom.attributes import Level
from fastarchive.index import schema
from fastarchive.index.documents import Document
from fastarchive.index.overlay import Overlay
from fastarchive.index.snapshot import Checkpoint, encode_note, encode_tombstone

_ENTITIES: Final = (Level.PATIENT, Level.STUDY, Level.SERIES)


def write_changes(
    writer: tantivy.IndexWriter,
    overlay: Overlay,
    next_rowid: int,
    *,
    step: int = 1,
    added: Callable[[Level, str, str], object] = lambda _level, _key, _term: None,
) -> int:
    """Replace, add and delete documents as the overlay says, without committing; the next free rowid.

    New documents get every `step`-th rowid from `next_rowid` on. added: told level, key and term of each of them.
    Raises ValueError when the index can't be written.
    """

    def put(level: Level, key: str, document: Document | None) -> None:
        nonlocal next_rowid
        term = schema.key_term(level, key)
        if document is None or document.rowid:
            writer.delete_documents_by_term("key", term)
        if document is not None:
            if not document.rowid:
                document.rowid, next_rowid = next_rowid, next_rowid + step
                added(level, key, term)
            writer.add_json(schema.index_document(document, term))

    for level in _ENTITIES:  # what is read together stands together, in the order in which it came
        for changed, key in overlay.changed:
            if changed is level:
                put(level, key, overlay.entities[level, key])
    for instance, document in overlay.instances.items():
        put(Level.IMAGE, instance, document)
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
    return next_rowid


def write_checkpoint(writer: tantivy.IndexWriter, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint, without committing. Raises ValueError."""
    writer.delete_documents_by_term("key", schema.CHECKPOINT)
    writer.add_document(schema.private_document(schema.CHECKPOINT, "", checkpoint.encode()))
