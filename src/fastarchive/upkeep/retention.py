"""Retention: which whole studies the rules let go, a plan of it, and carrying the plan out.

Nothing goes that no rule names, and nothing of a study on hold, whatever the rules say. What arrives for a study while
the plan is carried out stays: the deletion is of the moment of the last instance that was planned with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Final

from fastarchive.archive import Archive
from fastarchive.dicom.attributes import STUDY_DATE, Level
from fastarchive.dicom.values import parse_date
from fastarchive.index.conditions import Everything
from fastarchive.index.documents import Document
from fastarchive.index.view import View
from fastarchive.store.blobs import DamagedInstance
from fastarchive.store.mirror import MirrorWait
from fastarchive.upkeep import deletion, holds
from fastarchive.upkeep.retention_rules import Rule, Rules, Scope
from fastarchive.upkeep.selection import Selection, instances_of

OPERATOR: Final = "retention"
"""Who deletes, in the deletion records."""

Advance = Callable[[], object]


@dataclass(slots=True)
class Candidate:
    """A study and what retention has to know of it."""

    study: Document
    instances: int = 0
    bytes: int = 0
    """Of its records in the packs."""
    newest: int = 0
    """When its last instance was received, nanoseconds since the epoch."""


@dataclass(slots=True)
class RetentionPlan:
    """What the rules let go, by rule; each study is under the first one that does."""

    due: dict[str, list[Candidate]] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)
    """Studies that would go but are on hold."""

    @property
    def candidates(self) -> Iterator[Candidate]:
        """All that goes."""
        return chain.from_iterable(self.due.values())

    @property
    def instances(self) -> int:
        """Instances that go."""
        return sum(each.instances for each in self.candidates)

    @property
    def bytes(self) -> int:
        """Bytes that compaction can give back."""
        return sum(each.bytes for each in self.candidates)


def make_plan(
    archive: Archive,
    rules: Rules,
    held: Container[str],
    *,
    now: datetime | None = None,
    advance: Advance = lambda: None,
) -> RetentionPlan:
    """What the rules let go now. Nothing is changed. Raises OSError.

    Looks at every instance of the index once; a rule that names AE titles reads the metadata of the instances it would
    let go otherwise.
    """
    now = now or datetime.now(UTC)
    view = archive.view()
    known = _candidates(view, advance) if rules else {}
    senders = _Senders(archive, view)
    plan = RetentionPlan()
    on_hold: set[str] = set()

    def take(scope: Scope, candidate: Candidate) -> bool:
        """Whether a candidate goes; it is not looked at again then."""
        uid = candidate.study.study
        if uid in held:
            on_hold.add(uid)
            return False
        plan.due.setdefault(scope.name, []).append(known.pop(uid))
        return True

    for rule in rules.rules:
        for candidate in sorted(known.values(), key=_age):
            if _is_due(rule, candidate, now) and _is_within(rule, candidate, senders):
                take(rule, candidate)
    for quota in rules.quotas:
        within = [each for each in sorted(known.values(), key=_age) if _is_within(quota, each, senders)]
        size = sum(each.bytes for each in within)
        for candidate in within:
            if size <= quota.size:
                break
            if take(quota, candidate):
                size -= candidate.bytes
    plan.held = sorted(on_hold)
    return plan


def apply(
    archive: Archive,
    plan: RetentionPlan,
    *,
    operator: str = OPERATOR,
    mirror: Path | None = None,
    mirror_wait: str = MirrorWait.BOTH,
) -> int:
    """Delete what the plan says, but for studies that changed since it was made or are on hold now; how many went.

    Raises HoldsUnreadable, ClockBehind, NoSpace, LogBroken or OSError: some of it may be deleted then, and it is safe
    to plan and apply again.
    """
    deleted = 0
    for name, candidates in plan.due.items():
        view, held = archive.view(), holds.read(archive.directory)
        going = deletion.Plan(Level.STUDY, ())
        for each in candidates:
            uid = each.study.study
            study = view.get(Level.STUDY, uid)
            if study is None or study.number_of_instances != each.instances or uid in held:
                continue
            going.studies[uid] = deletion.PlannedStudy(uid, study.patient, set(), each.instances, each.bytes)
            going.targets[uid, "", ""] = each.newest + 1
            going.newest = max(going.newest, each.newest)
        if going.targets:
            deletion.delete(
                archive.directory,
                going,
                reason=f"retention: {name}",
                operator=operator,
                mirror=mirror,
                mirror_wait=mirror_wait,
            )
            deleted += len(going.targets)
    return deleted


def _age(candidate: Candidate) -> tuple[int, str]:
    return candidate.newest, candidate.study.study


def _candidates(view: View, advance: Advance) -> dict[str, Candidate]:
    found: defaultdict[str, Candidate] = defaultdict(lambda: Candidate(_NO_STUDY))
    for instance in _all(view, Level.IMAGE):
        candidate = found[instance.study]
        candidate.instances += 1
        candidate.bytes += instance.location.size
        candidate.newest = max(candidate.newest, instance.received)
        advance()
    for study in _all(view, Level.STUDY):
        if study.study in found:
            found[study.study].study = study
    return {uid: each for uid, each in found.items() if each.study is not _NO_STUDY}


_NO_STUDY: Final = Document(Level.STUDY)


def _all(view: View, level: Level) -> Iterable[Document]:
    return chain(view.tail_documents(level), chain.from_iterable(view.pages(level, Everything(), first_page=1000)))


def _is_due(rule: Rule, candidate: Candidate, now: datetime) -> bool:
    if rule.since == "receipt":
        return candidate.newest / 1e9 + rule.seconds <= now.timestamp()
    latest = _latest_date(candidate.study)
    # A day is over everywhere when it is over in the zone that is furthest behind.
    return latest is not None and latest + timedelta(days=1, hours=12) + timedelta(seconds=rule.seconds) <= now


def _latest_date(study: Document) -> datetime | None:
    """The last day the Study Date may mean, None if it says nothing that is a date."""
    dates = [span for value in study.values(STUDY_DATE) if value and (span := parse_date(value)) is not None]
    if not dates:
        return None
    latest = str(max(high for _, high in dates))
    try:
        return datetime.strptime(latest, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:  # such as the 31st of February
        return None


def _is_within(scope: Scope, candidate: Candidate, senders: _Senders) -> bool:
    modalities = candidate.study.modalities
    if scope.modalities and not (modalities and scope.modalities.issuperset(modalities)):
        return False
    return not scope.calling_ae_titles or scope.calling_ae_titles.issuperset(senders.of(candidate.study))


class _Senders:
    """Who sent the instances of a study: read from the records, as no index has it."""

    def __init__(self, archive: Archive, view: View) -> None:
        self._archive = archive
        self._view = view
        self._known: dict[str, frozenset[str]] = {}

    def of(self, study: Document) -> frozenset[str]:
        """Calling AE titles; an instance whose record can't be read counts as one of nobody's."""
        found = self._known.get(study.study)
        if found is None:
            selection = Selection(Level.STUDY, (study,), ())
            found = frozenset(self._sender(instance) for instance in instances_of(self._view, selection))
            self._known[study.study] = found
        return found

    def _sender(self, instance: Document) -> str:
        blobs = self._archive.blobs
        try:
            return blobs.open(instance.location, content=False, instance=instance.instance).record.calling_ae
        except DamagedInstance:
            return ""
