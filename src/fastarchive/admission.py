"""Which instances are taken in: each SOP Instance UID once, whoever else sends it in the same moment (S3, S7).

The UID of an instance on its way in is looked up before any work is done on its bytes but the digest. What is stored
already with the same digest is acknowledged, and nothing is compressed or written. Only where the digests differ are
the data sets compared by what they say; where they still differ, it is for a policy to say what becomes of the new one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from fastarchive.dicom.attributes import PATIENT_ID, PATIENT_NAME, Level
from fastarchive.dicom.elements import Element, encode
from fastarchive.dicom.meaning import may_mean_the_same, meaning_of
from fastarchive.dicom.rejection import EXPIRED, KEY_OBJECT_SELECTION
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE
from fastarchive.index.contributions import contribution_of
from fastarchive.index.current import Index, InstanceEntry, NotNow
from fastarchive.index.disagreements import disagreeing
from fastarchive.index.documents import Document
from fastarchive.store.blobs import Blobs, DamagedInstance
from fastarchive.store.encoding import EncodedRecord
from fastarchive.store.intake import Identity, Intake
from fastarchive.store.log import Log
from fastarchive.store.record import Location, RecordKind, deletion
from fastarchive.store.writers import LogBroken

__all__ = ["Admission", "ConflictPolicies", "Outcome", "Policy", "Receipt"]


class Policy(Enum):
    """What becomes of a data set whose SOP Instance UID is stored with another data set."""

    KEEP_FIRST = "keep-first"
    """It is refused; what is stored stays."""
    REPLACE = "replace"
    """It takes the place of what is stored, unless that is on hold."""
    QUARANTINE = "quarantine"
    """It is kept where no query finds it, until a person decides."""


class Outcome(Enum):
    """What became of an instance."""

    STORED = "stored"
    ALREADY_PRESENT = "already present"
    """The same data set is stored under the same UID, perhaps in another encoding; nothing was written."""
    CONFLICT_KEPT_FIRST = "conflict"
    """A different data set is stored under the same UID; it was kept and this one was not stored."""
    CONFLICT_ON_HOLD = "on hold"
    """A different data set is stored under the same UID, of a study on hold; it was kept and this one not stored."""
    REPLACED = "replaced"
    """A different data set was stored under the same UID; this one has its place now."""
    QUARANTINED = "quarantined"
    """A different data set is stored under the same UID; it was kept and this one is in quarantine."""
    REJECTED = "rejected"
    """A rejection note names the UID, which is not taken again; nothing was stored."""
    OTHER_PATIENT = "other patient"
    """What it says of the patient is not what its study says; it is in quarantine."""


_UNKNOWN: Final = b""
"""The digest of a data set before it is made."""
_STORED: Final = frozenset({Outcome.STORED, Outcome.ALREADY_PRESENT, Outcome.REPLACED})

_IDENTIFYING: Final = frozenset({PATIENT_NAME, PATIENT_ID, 0x00100030, 0x00100040})
"""Patient's Name, Patient ID, Patient's Birth Date and Patient's Sex."""
TEXT_VALUE: Final = 0x0040A160
_REPLACED: Final = encode([Element(TEXT_VALUE, "UT", b"replaced by another data set")], EXPLICIT_LITTLE)

Holds = Callable[[], AbstractContextManager[Container[str]]]
"""Gives the Study Instance UIDs on hold, and while it is entered nobody puts another one on hold."""


def _nothing_held() -> AbstractContextManager[Container[str]]:
    return nullcontext(frozenset())


@dataclass(frozen=True, slots=True)
class ConflictPolicies:
    """Which policy is whose, by calling AE title, and what no policy may touch."""

    default: Policy = Policy.KEEP_FIRST
    of_senders: Mapping[str, Policy] = field(default_factory=dict)
    holds: Holds = _nothing_held
    quarantine_other_patients: bool = False
    """Whether an instance goes into quarantine that disagrees with its study about who the patient is."""

    def of(self, calling_ae: str) -> Policy:
        """The policy for what a sender sends."""
        return self.of_senders.get(calling_ae, self.default)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What happened to one data set. ``timings`` are seconds of the stages it went through: digest, compress, sync."""

    outcome: Outcome
    sop_instance: str
    location: Location
    timings: Mapping[str, float] = field(default_factory=dict)


class Admission:
    """Lets each instance into the log once. Thread-safe."""

    def __init__(self, index: Index, blobs: Blobs, policies: ConflictPolicies | None = None) -> None:
        self._index = index
        self._blobs = blobs
        self._policies = policies or ConflictPolicies()
        self._lock = threading.Lock()
        self._under_way: dict[str, _UnderWay] = {}

    def is_known(self, sop_instance: str) -> bool:
        """Whether an instance of this UID is stored."""
        return self._index.locate(sop_instance) is not None

    def admit(self, intake: Intake, log: Log) -> Future[Receipt]:
        """Append a complete data set to `log` unless its instance is stored, or being stored, already.

        The future resolves when the record is durable, or at once if nothing has to be written. It fails with NoSpace
        or LogBroken. Raises IntakeError, OSError when index or spool can't be used, and where a policy writes NoSpace
        or LogBroken, too.
        """
        identity = intake.identify()
        policy = self._policies.of(intake.calling_ae)
        result: Future[Receipt] = Future()
        while True:
            with self._lock:
                other = self._under_way.get(identity.sop_instance)
                if other is None:
                    self._under_way[identity.sop_instance] = _UnderWay(identity.digest, policy, result)
                    break
                fate = other.result = other.result or Future()
            if (other.digest, other.policy) == (identity.digest, policy):
                _follow(fate, dict(intake.timings), result)
                return result
            wait([fate])  # then it is seen what it became
        try:
            # Looked up after the UID is taken, so that what another thread made durable meanwhile is seen.
            known = self._index.locate(identity.sop_instance)
            rejected = self._index.rejected(identity.sop_instance) if known is None else None
            if rejected is not None and _stays_out(*rejected, identity.digest):
                hidden, _ = rejected
                note = hidden.sop_class == KEY_OBJECT_SELECTION and hidden.digest == identity.digest
                outcome = Outcome.ALREADY_PRESENT if note else Outcome.REJECTED
                receipt = self._receipt(outcome, identity, hidden.location, intake)
            elif known is None and self._is_of_another_patient(encoded := intake.finish()):
                receipt = self._receipt(Outcome.OTHER_PATIENT, identity, self._quarantine(encoded, log), intake)
            elif known is None:
                self._append(encoded, intake, log, result)
                return result
            else:
                receipt = self._settle(known, identity, policy, intake, log)
        except BaseException as error:
            self._release(identity.sop_instance)
            result.set_exception(error)  # for whoever follows this one
            raise
        self._release(identity.sop_instance)
        result.set_result(receipt)
        return result

    def admit_promptly(self, intake: Intake, log: Log) -> Future[Receipt] | None:
        """As :meth:`admit`, for whoever can't wait; None, and nothing was done, when it takes more than a moment: to
        wait for another thread, to look into what is stored, or to follow a policy.

        Raises as :meth:`admit`.
        """
        if self._policies.quarantine_other_patients:
            return None
        identity = intake.identify()
        result: Future[Receipt] = Future()
        with self._lock:  # looked up and taken in one: nobody can have begun to follow what is then not done here
            if identity.sop_instance in self._under_way:
                return None
            try:
                known = self._index.locate_promptly(identity.sop_instance)
            except NotNow:
                return None
            if known is None:
                policy = self._policies.of(intake.calling_ae)
                self._under_way[identity.sop_instance] = _UnderWay(identity.digest, policy, result)
        if known is not None:
            if known.digest != identity.digest:
                return None
            result.set_result(self._receipt(Outcome.ALREADY_PRESENT, identity, known.location, intake))
            return result
        try:
            self._append(intake.finish(), intake, log, result)
        except BaseException as error:
            self._release(identity.sop_instance)
            result.set_exception(error)  # for whoever follows this one
            raise
        return result

    def begin(self, sop_instance: str, calling_ae: str) -> bool:
        """Take a SOP Instance UID for a record that is going to be appended, if that can be decided in a moment and the
        instance is not stored, nor being stored. :meth:`end` or :meth:`withdraw` must follow. Raises OSError.

        Others with the same UID wait to see what becomes of it."""
        if self._policies.quarantine_other_patients:
            return False
        with self._lock:
            if sop_instance in self._under_way:
                return False
            try:
                if self._index.locate_promptly(sop_instance) is not None:
                    return False
            except NotNow:
                return False
            self._under_way[sop_instance] = _UnderWay(_UNKNOWN, self._policies.of(calling_ae))
        return True

    def withdraw(self, sop_instance: str) -> None:
        """The record of this instance is not going to be appended this way."""
        self.end([(sop_instance, None)])

    def end(self, instances: Iterable[tuple[str, Exception | None]]) -> None:
        """The records of these instances are durable and visible to every process, or were not written."""
        with self._lock:
            ended = [(self._under_way.pop(uid), error) for uid, error in instances]
        for one, error in ended:
            if one.result is not None:  # who waits for it looks again
                one.result.set_exception(error or LogBroken("it is not known here what was stored"))

    def _append(self, encoded: EncodedRecord, intake: Intake, log: Log, result: Future[Receipt]) -> None:
        timings = dict(intake.timings)
        log.append(encoded).add_done_callback(lambda future: self._appended(future, encoded, timings, result))

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

    def _settle(self, known: InstanceEntry, identity: Identity, policy: Policy, intake: Intake, log: Log) -> Receipt:
        """For a data set whose UID is taken. In the end, nothing but what its sender is told depends on the timing."""
        outcome, location = Outcome.ALREADY_PRESENT, known.location
        if known.digest != identity.digest and not self._says_the_same(identity.sop_instance, known, intake):
            outcome = Outcome.CONFLICT_KEPT_FIRST
            if policy is Policy.REPLACE:
                replaced = self._replace(known, intake.finish(), log)
                outcome = Outcome.CONFLICT_ON_HOLD if replaced is None else Outcome.REPLACED
                location = replaced or location
            elif policy is Policy.QUARANTINE:
                outcome, location = Outcome.QUARANTINED, self._quarantine(intake.finish(), log)
        return self._receipt(outcome, identity, location, intake)

    @staticmethod
    def _receipt(outcome: Outcome, identity: Identity, location: Location, intake: Intake) -> Receipt:
        timings = {stage: seconds for stage, seconds in intake.timings.items() if seconds}  # of those it went through
        return Receipt(outcome, identity.sop_instance, location, timings)

    def _is_of_another_patient(self, encoded: EncodedRecord) -> bool:
        if not self._policies.quarantine_other_patients:
            return False
        study = self._index.view().get(Level.STUDY, encoded.record.study)
        if study is None:
            return False
        said = contribution_of(encoded.record, Location(0, 0, 0))
        return not _IDENTIFYING.isdisjoint(disagreeing(study.elements, said))

    def _says_the_same(self, sop_instance: str, known: InstanceEntry, intake: Intake) -> bool:
        """Whether the data set stored and the new one are one in two encodings."""
        if not may_mean_the_same(known.transfer_syntax, intake.transfer_syntax):
            return False
        content = intake.whole
        new = meaning_of(intake.finish().content() if content is None else content, intake.transfer_syntax)
        try:
            stored = self._blobs.open(known.location, instance=sop_instance)
            return new is not None and new == meaning_of(stored.chunks(), known.transfer_syntax)
        except DamagedInstance:
            return False

    def _quarantine(self, encoded: EncodedRecord, log: Log) -> Location:
        """Put a data set into quarantine, unless it is there already."""
        for one in self._index.view().quarantined(encoded.record.sop_instance):
            if one.digest == encoded.record.digest:
                return one.location
        record = replace(encoded.record, kind=RecordKind.QUARANTINED, received=time.time_ns())
        quarantined = EncodedRecord.of(record, encoded.buffers, encoded.spool)
        location = log.append(quarantined).result()
        encoded.timings.update(quarantined.timings)
        return location

    def _replace(self, known: InstanceEntry, encoded: EncodedRecord, log: Log) -> Location | None:
        """Put a data set in the place of the one stored; None if that is on hold."""
        with self._policies.holds() as held:
            if known.study in held or encoded.record.study in held:
                return None
            return succeed(known, encoded, log)


def _stays_out(hidden: Document, code: str, digest: bytes) -> bool:
    """Whether a data set under the UID of a rejected instance is not taken: it is only after its retention expired, and
    a note that says so is hidden itself."""
    return code != EXPIRED or (hidden.sop_class == KEY_OBJECT_SELECTION and hidden.digest == digest)


def succeed(known: InstanceEntry, encoded: EncodedRecord, log: Log) -> Location:
    """Make a record the instance in place of a known one; where it lies, when all is durable.

    The record comes first and is a shadow until the deletion behind it, which is of a moment between the two, takes the
    other one away: killed in between, the instance is what it was. Of several that do this in one moment the latest
    stays, because none can delete what is later than itself.

    Raises NoSpace or LogBroken: the instance may be either then, and its sender has to try again.
    """
    record = replace(encoded.record, received=max(time.time_ns(), known.received + 2))
    successor = EncodedRecord.of(record, encoded.buffers, encoded.spool)
    location = log.append(successor).result()
    encoded.timings.update(successor.timings)
    gone = deletion(record.received - 1, known.study, known.series, record.sop_instance, calling_ae=record.calling_ae)
    log.append(EncodedRecord.of(replace(gone, attributes=_REPLACED))).result()
    return location


@dataclass(slots=True)
class _UnderWay:
    """An instance this process is taking in."""

    digest: bytes
    policy: Policy
    result: Future[Receipt] | None = None
    """Made when somebody wants to know."""


def _follow(other: Future[Receipt], timings: dict[str, float], result: Future[Receipt]) -> None:
    """Answer for a data set that another thread is just taking in: its fate is this one's too (S7)."""

    def settle(first: Future[Receipt]) -> None:
        error = first.exception()
        if error is not None:
            result.set_exception(error)
            return
        receipt = first.result()
        outcome = Outcome.ALREADY_PRESENT if receipt.outcome in _STORED else receipt.outcome
        result.set_result(replace(receipt, outcome=outcome, timings=timings))

    other.add_done_callback(settle)
