"""Plain instances on their way in by the shortest way: one call into C from data set to record, and no future.

Only the plain case goes this way (``native/plain.c``): a data set of up to a megabyte in Explicit VR Little Endian with
nothing to find fault with, whose UID nobody knows yet. Whatever is different takes the way through an
:class:`Intake`, which comes to the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, Protocol

from fastarchive.admission import Admission
from fastarchive.dicom.attributes import STORED_TAGS
from fastarchive.native.plain import MOST, Made, PlainRecords, plain_records
from fastarchive.store.appends import Landing, WholeRecord
from fastarchive.store.glimpse import glimpse_of_own
from fastarchive.store.log import Log, LogBroken

__all__ = ["MOST", "SMALL", "PlainInstances", "Sender", "Token", "plain_instances"]

SMALL: Final = 64 << 10
"""Bytes of a data set up to which the work on it is less than to hand it to a thread and get it back."""
_DIGEST: Final = slice(48, 80)
"""Where a record has the digest of its data set (docs/format.md, "Record")."""


class Token(Protocol):
    """Stands for an instance while its record is on its way to the disk."""

    sop_instance: str
    digest: float
    """Seconds it took to digest the data set."""
    compress: float
    """And to compress it."""


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

    def strings(self, token: Token) -> tuple[bytes, bytes]:
        """What the record of an instance says of where it is from; the lengths of the five."""
        sop_class, instance = self.sop_class, token.sop_instance.encode()
        return sop_class + instance + self.titles, bytes((len(sop_class), len(instance))) + self.lengths


class PlainInstances:
    """Lets plain instances into the log. For one thread, which is never made to wait, and others that help it."""

    def __init__(self, admission: Admission, log: Log, records: PlainRecords, landing: Landing) -> None:
        """`records`: for small ones. `landing` is told in some thread of tokens whose instances are durable, or were
        not stored."""
        self._admission = admission
        self._log = log
        self._records = records
        self._landing = landing
        self._settle: Landing = self._settled
        self._admitted: list[tuple[Token, WholeRecord]] = []
        self._helping: list[PlainRecords] = []
        """For threads that have none at the moment."""

    @property
    def stalled(self) -> float:
        """Seconds the disk has been at the group that is being written."""
        return self._log.stalled

    def admit(self, token: Token, data: bytes, sender: Sender) -> bool:
        """Take a small data set in, whose affected SOP Instance UID is that of `token`, for the next :meth:`flush`.

        False, and nothing was done, for one that doesn't go this way. Raises OSError when the index can't be read.
        """
        strings, lengths = sender.strings(token)
        received = time.time_ns()
        made = self._records.make((data,), strings, lengths, received)
        if made is None or not self._admission.begin(token.sop_instance, made.record[_DIGEST], sender.calling_ae):
            return False
        self._admitted.append((token, _finished(token, made, sender, received)))
        return True

    def flush(self) -> None:
        """Hand the log what was admitted since the last time.

        The committer, who takes the interpreter lock from this thread, is woken once for all of it.
        """
        admitted, self._admitted = self._admitted, []
        if admitted:
            self._log.append_for(self._settle, admitted)

    def expect(self, token: Token, pieces: Sequence[bytes], size: int, sender: Sender) -> bool:
        """Take on a data set of `size` bytes, of any length up to :data:`MOST`: :meth:`finish` must follow. Otherwise
        as :meth:`admit`."""
        return self._records.look(pieces[0], size, *sender.strings(token)) and self._admission.begin(
            token.sop_instance, b"", sender.calling_ae
        )

    def finish(self, token: Token, pieces: Sequence[bytes], sender: Sender) -> None:
        """In another thread, for a data set that is expected: make its record and hand it to the log. Never raises."""
        try:
            received = time.time_ns()
            records = self._helper()
            made = records.make(pieces, *sender.strings(token), received)
            self._helping.append(records)
            if made is None:
                raise LogBroken("a data set is not what it was a moment ago")
            self._admission.know(token.sop_instance, made.record[_DIGEST])
            finished = _finished(token, made, sender, received)
        except Exception as error:  # whatever it is, who waits for the instance has to be told
            self._settled([token], 0.0, error)
        else:
            self._log.append_for(self._settle, [(token, finished)])

    def _helper(self) -> PlainRecords:
        try:
            return self._helping.pop()
        except IndexError:
            made = plain_records(STORED_TAGS, MOST, lets_others_run=True)
            if made is None:
                raise LogBroken("the C functions are gone") from None
            return made

    def _settled(self, tokens: list[Any], synced: float, error: Exception | None) -> None:
        self._admission.end([token.sop_instance for token in tokens], error)
        self._landing(tokens, synced, error)


def _finished(token: Token, made: Made, sender: Sender, received: int) -> WholeRecord:
    record, token.digest, token.compress = made
    metadata = record[: 8 + int.from_bytes(record[4:8], "little")]
    glimpse = glimpse_of_own(metadata, sender.name, token.sop_instance, received, record[_DIGEST])
    return WholeRecord(record, len(record), glimpse)


def plain_instances(admission: Admission, log: Log, landing: Landing) -> PlainInstances | None:
    """The short way; None where there is none."""
    records = plain_records(STORED_TAGS, SMALL)
    return None if records is None else PlainInstances(admission, log, records, landing)
