"""Which instances are taken in: each SOP Instance UID once, whoever else sends it in the same moment (S3, S7)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum

from fastarchive.index.view import Index
from fastarchive.store.encoding import EncodedRecord
from fastarchive.store.log import Log
from fastarchive.store.record import Location


class Outcome(Enum):
    """What became of an instance."""

    STORED = "stored"
    ALREADY_PRESENT = "already present"
    """The same data set is stored under the same UID; nothing was written."""
    CONFLICT_KEPT_FIRST = "conflict"
    """A different data set is stored under the same UID; it was kept and this one was not stored."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What happened to one data set. ``timings`` are seconds of the stages it went through: digest, compress, sync."""

    outcome: Outcome
    sop_instance: str
    location: Location
    timings: Mapping[str, float] = field(default_factory=dict)


class Admission:
    """Lets each instance into the log once. Thread-safe."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._under_way: dict[str, _UnderWay] = {}

    def admit(self, encoded: EncodedRecord, timings: dict[str, float], log: Log) -> Future[Receipt]:
        """Append a record to `log` unless its instance is stored, or being stored, already.

        The future resolves when the record is durable, or at once if nothing has to be written. It fails with NoSpace
        or LogBroken. `timings` go into the receipt. Raises OSError when the index can't be read.
        """
        record = encoded.record
        result: Future[Receipt] = Future()
        with self._lock:
            other = self._under_way.get(record.sop_instance)
            if other is None:
                self._under_way[record.sop_instance] = _UnderWay(record.digest, result)
        if other is not None:
            _follow(other, encoded, timings, result)
            return result
        try:
            # Looked up after the UID is taken, so that what another thread made durable meanwhile is seen.
            known = self._index.locate(record.sop_instance)
            if known is not None:
                self._release(record.sop_instance)
                result.set_result(_receipt_for(encoded, known.digest, known.location, timings))
                return result
            appended = log.append(encoded)
        except BaseException as error:
            self._release(record.sop_instance)
            result.set_exception(error)  # for whoever follows this one
            raise
        appended.add_done_callback(lambda future: self._appended(future, encoded, timings, result))
        return result

    def _release(self, sop_instance: str) -> None:
        with self._lock:
            self._under_way.pop(sop_instance, None)

    def _appended(
        self, future: Future[Location], encoded: EncodedRecord, timings: dict[str, float], result: Future[Receipt]
    ) -> None:
        """The record is durable and visible to every process, or was not written."""
        self._release(encoded.record.sop_instance)
        error = future.exception()
        if error is not None:
            result.set_exception(error)
            return
        timings.update(encoded.timings)
        result.set_result(Receipt(Outcome.STORED, encoded.record.sop_instance, future.result(), timings))


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """An instance this process is appending."""

    digest: bytes
    result: Future[Receipt]


def _follow(other: _UnderWay, encoded: EncodedRecord, timings: dict[str, float], result: Future[Receipt]) -> None:
    """Answer for an instance whose UID is just being appended by another thread: its fate is this one's too (S7)."""

    def settle(first: Future[Receipt]) -> None:
        error = first.exception()
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(_receipt_for(encoded, other.digest, first.result().location, timings))

    other.result.add_done_callback(settle)


def _receipt_for(encoded: EncodedRecord, digest: bytes, location: Location, timings: dict[str, float]) -> Receipt:
    """For an instance whose UID is taken by a data set of this digest."""
    same = digest == encoded.record.digest
    outcome = Outcome.ALREADY_PRESENT if same else Outcome.CONFLICT_KEPT_FIRST
    return Receipt(outcome, encoded.record.sop_instance, location, timings)
