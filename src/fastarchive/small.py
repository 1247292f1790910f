"""Small instances on their way in by the shortest way: one call into C from data set to record, and no future.

Only the plain case goes this way (``native/small.c``): a data set in Explicit VR Little Endian with nothing to find
fault with, whose UID nobody knows yet. Whatever is different takes the way through an :class:`Intake`, which comes to
the same.
"""

from __future__ import annotations

import time
from typing import Any, Final, Protocol

from fastarchive.admission import Admission
from fastarchive.dicom.attributes import STORED_TAGS
from fastarchive.native.small import MOST, SmallRecords, small_records
from fastarchive.store.appends import Landing, WholeRecord
from fastarchive.store.glimpse import glimpse_of_own
from fastarchive.store.log import Log

__all__ = ["MOST", "Sender", "SmallInstances", "Token", "small_instances"]

_DIGEST: Final = slice(48, 80)
"""Where a record has the digest of its data set (docs/format.md, "Record")."""


class Token(Protocol):
    """Stands for an instance while its record is on its way to the disk."""

    sop_instance: str


class Sender:
    """What the records of instances have in common that come over one association in one presentation context."""

    def __init__(self, sop_class: str, transfer_syntax: str, calling_ae: str, called_ae: str) -> None:
        """Raises ValueError for a text no record can hold."""
        self.calling_ae = calling_ae
        self.name = sop_class
        self.sop_class = sop_class.encode()
        texts = [text.encode() for text in (transfer_syntax, calling_ae, called_ae)]
        self.titles = b"".join(texts)
        self.lengths = bytes(map(len, texts))


class SmallInstances:
    """Lets small instances into the log. For one thread, which is never made to wait."""

    def __init__(self, admission: Admission, log: Log, records: SmallRecords, landing: Landing) -> None:
        """`landing` is told in the committer thread of tokens whose instances are durable, or were not stored."""
        self._admission = admission
        self._log = log
        self._records = records
        self._landing = landing
        self._settle: Landing = self._settled
        self._admitted: list[tuple[Token, WholeRecord]] = []

    @property
    def times(self) -> tuple[float, float]:
        """Seconds it took to digest and to compress the last one."""
        return self._records.times

    @property
    def stalled(self) -> float:
        """Seconds the disk has been at the group that is being written."""
        return self._log.stalled

    def admit(self, token: Token, data: bytes, sender: Sender) -> bool:
        """Take a data set in, whose affected SOP Instance UID is that of `token`, for the next :meth:`flush`.

        False, and nothing was done, for one that doesn't go this way. Raises OSError when the index can't be read.
        """
        instance = token.sop_instance.encode()
        sop_class = sender.sop_class
        lengths = bytes((len(sop_class), len(instance))) + sender.lengths
        received = time.time_ns()
        made = self._records.make(data, sop_class + instance + sender.titles, lengths, received)
        if made is None:
            return False
        digest = made[_DIGEST]
        if not self._admission.begin(token.sop_instance, digest, sender.calling_ae):
            return False
        metadata = made[: 8 + int.from_bytes(made[4:8], "little")]
        record = glimpse_of_own(metadata, sender.name, token.sop_instance, received, digest)
        self._admitted.append((token, WholeRecord(made, len(made), record)))
        return True

    def flush(self) -> None:
        """Hand the log what was admitted since the last time.

        The committer, who takes the interpreter lock from this thread, is woken once for all of it.
        """
        admitted, self._admitted = self._admitted, []
        self._log.append_for(self._settle, admitted)

    def _settled(self, tokens: list[Any], synced: float, error: Exception | None) -> None:
        self._admission.end([token.sop_instance for token in tokens], error)
        self._landing(tokens, synced, error)


def small_instances(admission: Admission, log: Log, landing: Landing) -> SmallInstances | None:
    """The short way; None where there is none."""
    records = small_records(STORED_TAGS)
    return None if records is None else SmallInstances(admission, log, records, landing)
