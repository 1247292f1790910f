"""Which instances are rejected by a rejection note in the archive, kept as notes of the index.

A rejected instance is no instance for anybody, but its record stays, as a shadow, and it is one again when the note is
deleted. All follows from the records: the note's own record says what it rejects.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from fastarchive.dicom.rejection import EXPIRED, rejection_in
from fastarchive.index.documents import Document, Order
from fastarchive.store.record import Location

REJECTED: Final = "R"
"""Kind of the notes on rejected instances; the name is the SOP Instance UID."""
REJECTING: Final = "N"
"""Kind of the notes on rejection notes; the name is the SOP Instance UID."""

_log = logging.getLogger(__name__)
Place = tuple[str, str]


class RejectionNote(NamedTuple):
    """A rejection note in force."""

    order: Order
    code: str
    """A key of :data:`fastarchive.dicom.rejection.TITLES`."""
    study: str
    series: str
    instance: str
    """SOP Instance UID of the note itself."""
    rejected: tuple[str, ...]
    """SOP Instance UIDs."""


def encode_rejection(note: RejectionNote) -> bytes:
    """As a note of the index."""
    return json.dumps(note).encode()


def decode_rejection(note: bytes) -> RejectionNote:
    """The reverse of :func:`encode_rejection`."""
    order, code, study, series, instance, rejected = json.loads(note)
    return RejectionNote((order[0], order[1], order[2]), code, study, series, instance, tuple(rejected))


Marks = dict[str, tuple[str, Order]]
"""Of a rejected instance: SOP Instance UID of a note → its code and its order."""


def _decode_marks(note: bytes | None) -> Marks:
    if not note:
        return {}
    return {uid: (code, (order[0], order[1], order[2])) for uid, (code, order) in json.loads(note).items()}


def _encode_marks(marks: Marks) -> bytes:
    return json.dumps(marks).encode() if marks else b""


class Rejections:
    """The rejections a ledger knows of: what the base has, and what `notes` changes in it."""

    def __init__(
        self,
        notes: dict[Place, bytes],
        note: Callable[[Place], bytes | None],
        content: Callable[[Location], bytes | None],
    ) -> None:
        """`note` looks one up in `notes` and the base; `content` reads the data set of a record, None if it can't."""
        self._notes = notes
        self._note = note
        self._content = content
        self.any = False
        """Whether any instance may be rejected at all."""

    def marked(self, instance: str) -> bool:
        """Whether a rejection note names the instance."""
        return self.any and bool(self._note((REJECTED, instance)))

    def reject(self, document: Document) -> str | None:
        """The code by which a record of an instance is rejected; None if it isn't."""
        if not self.any:
            return None
        for uid, (code, order) in _decode_marks(self._note((REJECTED, document.instance))).items():
            if code != EXPIRED or document.order < order or uid == document.instance:
                return code
        return None

    def update(self, note: str, holder: Document | None) -> set[str]:
        """The Key Object Selection document with this UID is `holder` now, None if it is gone: the instances for which
        that changes something."""
        place = (REJECTING, note)
        known = self._note(place)
        before = decode_rejection(known) if known else None
        if before is not None and holder is not None and before.order == holder.order:
            return set()
        after = None if holder is None else self._read(holder)
        if before is None and after is None:
            return set()
        self._notes[place] = b"" if after is None else encode_rejection(after)
        concerned = {uid for each in (before, after) if each is not None for uid in marked_by(each)}
        marks = set() if after is None else marked_by(after)
        for uid in concerned:
            of_instance = _decode_marks(self._note((REJECTED, uid)))
            of_instance.pop(note, None)
            if after is not None and uid in marks:
                of_instance[note] = (after.code, after.order)
            self._notes[REJECTED, uid] = _encode_marks(of_instance)
        self.any = True
        return concerned

    def gather(self, notes: Iterable[bytes]) -> set[str]:
        """Mark everything anew that all rejection notes name; the instances."""
        marks: dict[str, Marks] = {}
        for note in map(decode_rejection, notes):
            for uid in marked_by(note):
                marks.setdefault(uid, {})[note.instance] = (note.code, note.order)
        for uid, of_instance in marks.items():
            self._notes[REJECTED, uid] = _encode_marks(of_instance)
        self.any = self.any or bool(marks)
        return set(marks)

    def _read(self, holder: Document) -> RejectionNote | None:
        content = self._content(holder.location)
        if content is None:
            _log.warning("a key object selection can't be read: pack %d", holder.location.pack)
            return None
        rejection = rejection_in(content, holder.transfer_syntax)
        if rejection is None:
            return None
        return RejectionNote(
            holder.order, rejection.code, holder.study, holder.series, holder.instance, rejection.instances
        )


def marked_by(note: RejectionNote) -> set[str]:
    """What a note hides: what it names, and itself when it is only there to say that something has expired."""
    return {*note.rejected, *([note.instance] if note.code == EXPIRED else [])}


def rejection_notes(notes: Mapping[str, bytes]) -> list[RejectionNote]:
    """The rejection notes in force, oldest first."""
    return sorted(decode_rejection(note) for note in notes.values() if note)
