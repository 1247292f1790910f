"""Deleting patients, studies, series or instances: first a plan, then records in the log that take them away.

A deletion is a record like any other: durable before it counts, seen by the next query of every process, and honoured
by whoever builds an index from the packs. It takes away what was received before it, so an instance that is sent again
is stored again. The bytes stay in their packs until these are compacted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from fastarchive.dicom.attributes import SPECIFIC_CHARACTER_SET, Level
from fastarchive.dicom.elements import Element, ElementError, encode, walk
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE
from fastarchive.index.documents import Document
from fastarchive.index.view import View
from fastarchive.store.encoding import EncodedRecord
from fastarchive.store.follow import Follower
from fastarchive.store.log import Log
from fastarchive.store.mirror import MirrorWait
from fastarchive.store.record import Record, RecordKind, deletion
from fastarchive.upkeep import holds
from fastarchive.upkeep.selection import Selection, instances_of

OPERATORS_NAME: Final = 0x00081070
TEXT_VALUE: Final = 0x0040A160
LONGEST_REASON: Final = 1000
"""Characters."""
_PACK_SIZE: Final = 1 << 20
_BATCH: Final = 1000
_CLOCK_SECONDS: Final = 2.0


class OnHold(Exception):
    """Something that was to be deleted is on hold; nothing was deleted."""

    def __init__(self, studies: tuple[str, ...]) -> None:
        super().__init__(f"on hold: {', '.join(studies)}")
        self.studies = studies


class ClockBehind(Exception):
    """The clock stands before the time something was received at: a deletion now would not take it away."""


@dataclass(slots=True)
class PlannedStudy:
    """What goes of one study."""

    study: str
    patient: str
    """Key of its patient."""
    series: set[str] = field(default_factory=set)
    instances: int = 0
    bytes: int = 0
    """Of the records in the packs."""


@dataclass(slots=True)
class Plan:
    """What a deletion would take away."""

    level: Level
    missing: tuple[str, ...]
    studies: dict[str, PlannedStudy] = field(default_factory=dict)
    targets: dict[tuple[str, str, str], int | None] = field(default_factory=dict)
    """Study, series and instance of each deletion record, the lower ones empty where all of it goes. What was received
    before the moment given (nanoseconds since the epoch) goes; None: everything received until it is deleted."""
    newest: int = 0
    """When the last of the instances was received, in nanoseconds since the epoch."""

    @property
    def series(self) -> int:
        """Series that lose instances, or go."""
        return sum(len(study.series) for study in self.studies.values())

    @property
    def instances(self) -> int:
        """Instances that go."""
        return sum(study.instances for study in self.studies.values())

    @property
    def bytes(self) -> int:
        """Bytes that compaction can give back."""
        return sum(study.bytes for study in self.studies.values())

    def held(self, on_hold: Mapping[str, holds.Hold]) -> tuple[str, ...]:
        """Studies in the plan that are on hold."""
        return tuple(study for study in self.studies if study in on_hold)


def make_plan(view: View, selection: Selection, advance: Callable[[], object] = lambda: None) -> Plan:
    """What deleting a selection takes away. Nothing is changed."""
    plan = Plan(selection.level, selection.missing)
    for instance in instances_of(view, selection):
        study = plan.studies.get(instance.study)
        if study is None:
            study = plan.studies[instance.study] = PlannedStudy(instance.study, instance.patient)
        study.series.add(instance.series)
        study.instances += 1
        study.bytes += instance.location.size
        plan.targets[_target(selection.level, instance)] = None
        plan.newest = max(plan.newest, instance.received)
        advance()
    return plan


def delete(
    directory: Path,
    plan: Plan,
    *,
    reason: str,
    operator: str = "",
    mirror: Path | None = None,
    mirror_wait: str = MirrorWait.BOTH,
) -> int:
    """Carry a plan out; the number of deletion records, all durable.

    Raises OnHold or ClockBehind with nothing deleted, HoldsUnreadable, NoSpace or LogBroken: some of it may be deleted
    then, and it is safe to do it again. Raises ValueError for a reason that is empty or too long.
    """
    if not reason.strip() or len(reason) > LONGEST_REASON:
        raise ValueError(f"a reason of 1 to {LONGEST_REASON} characters is needed")
    attributes = _attributes(reason.strip(), operator)
    with holds.locked(directory) as on_hold:
        if held := plan.held(on_hold):
            raise OnHold(held)
        _wait_past(plan.newest)
        targets = list(plan.targets.items())
        with Log(directory, seal_size=_PACK_SIZE, mirror=mirror, mirror_wait=MirrorWait(mirror_wait)) as log:
            for start in range(0, len(targets), _BATCH):
                now = time.time_ns()
                batch = [
                    EncodedRecord.of(replace(deletion(moment or now, *names), attributes=attributes))
                    for names, moment in targets[start : start + _BATCH]
                ]
                for future in log.append_batch(batch):
                    future.result()
    return len(targets)


@dataclass(frozen=True, slots=True)
class PastDeletion:
    """A deletion in the log."""

    moment: int
    """Nanoseconds since the epoch; what was received before it is gone."""
    level: Level
    study: str
    series: str
    """Empty where the whole study was deleted."""
    sop_instance: str
    """Empty where a whole study or series was deleted."""
    operator: str
    reason: str


def past_deletions(directory: Path, mirror: Path | None = None) -> list[PastDeletion]:
    """All deletions in the log of a data directory, oldest first. Raises OSError."""
    found: dict[tuple[int, int, int], PastDeletion] = {}
    with Follower(directory, mirror=mirror) as follower:
        while records := follower.poll(_BATCH):
            for location, record in records:
                if record.kind is RecordKind.DELETION:
                    found[record.order(location)] = _past(record)
    return [found[order] for order in sorted(found)]


def _past(record: Record) -> PastDeletion:
    said = {element.tag: element.value.decode("utf-8", "replace").strip() for element in _walked(record.attributes)}
    level = Level.IMAGE if record.sop_instance else Level.SERIES if record.series else Level.STUDY
    return PastDeletion(
        record.received,
        level,
        record.study,
        record.series,
        record.sop_instance,
        said.get(OPERATORS_NAME, "") or record.calling_ae,
        said.get(TEXT_VALUE, ""),
    )


def _walked(attributes: bytes) -> list[Element]:
    try:
        return list(walk(attributes, EXPLICIT_LITTLE))
    except ElementError:
        return []


def _target(level: Level, instance: Document) -> tuple[str, str, str]:
    if level is Level.IMAGE:
        return instance.study, instance.series, instance.instance
    return instance.study, instance.series if level is Level.SERIES else "", ""


def _attributes(reason: str, operator: str) -> bytes:
    elements = [Element(SPECIFIC_CHARACTER_SET, "CS", b"ISO_IR 192"), Element(TEXT_VALUE, "UT", reason.encode())]
    if operator:
        elements.append(Element(OPERATORS_NAME, "PN", operator.encode()))
    return encode(elements, EXPLICIT_LITTLE)


def _wait_past(moment: int) -> None:
    """Wait until the clock is past `moment` if it soon will be. Raises ClockBehind."""
    behind = (moment - time.time_ns()) / 1e9
    if behind > _CLOCK_SECONDS:
        raise ClockBehind(
            f"the newest instance was received {behind:.0f} s after what this machine's clock shows now; set the clock"
        )
    while time.time_ns() <= moment:
        time.sleep(0.001)
