"""What C-MOVE and C-GET have in common: instances to send, contexts to send them in, and the counting (PS3.4 C.4.2).

Everything here is pure; the sending itself is in :mod:`fastarchive.services.sending`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, NamedTuple

from fastarchive.dicom.elements import Element, encode
from fastarchive.dicom.transfer_syntaxes import Encoding
from fastarchive.services import status
from fastarchive.services.conversion import TARGETS, can_convert
from fastarchive.store.record import Location
from fastarchive.upperlayer import Command, PresentationContext, ProposedContext

__all__ = ["Instance", "Outcome", "Tally", "Voyage", "choose_context", "failed_list", "plan_voyages", "why_declined"]

MAXIMUM_CONTEXTS: Final = 128
"""Presentation contexts in one association: odd identifiers from 1 to 255 (PS3.8 9.3.2.2)."""

_FAILED_SOP_INSTANCE_UID_LIST: Final = 0x0008_0058
_LONGEST_LIST: Final = 0xFFFE
"""Bytes a UI element has room for in explicit VR (PS3.5 7.1.2)."""
_LARGEST_COUNT: Final = 0xFFFF


class Instance(NamedTuple):
    """One stored instance to be sent."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    length: int
    location: Location


class Outcome(Enum):
    """How a sub-operation ended; the value is its name in the metrics."""

    COMPLETED = "completed"
    WARNING = "warning"
    FAILED = "failed"

    @classmethod
    def of(cls, code: int | None) -> Outcome:
        """The outcome of the C-STORE status `code` (R12); no status at all is a failure."""
        if code == status.SUCCESS:
            return cls.COMPLETED
        return cls.WARNING if code is not None and status.is_warning(code) else cls.FAILED


@dataclass(slots=True)
class Tally:
    """The sub-operations of one retrieve. The four counts always add up to `total` (R4)."""

    total: int
    completed: int = 0
    warning: int = 0
    failed: int = 0
    failed_instances: list[str] = field(default_factory=list)

    @property
    def remaining(self) -> int:
        """Sub-operations not done yet."""
        return self.total - self.completed - self.warning - self.failed

    def count(self, instance: Instance, outcome: Outcome) -> None:
        """Count one sub-operation that is done."""
        if outcome is Outcome.COMPLETED:
            self.completed += 1
        elif outcome is Outcome.WARNING:
            self.warning += 1
        else:
            self.failed += 1
            self.failed_instances.append(instance.sop_instance)

    def final_status(self) -> int:
        """The status when every sub-operation is done (R3, R6)."""
        if self.failed and self.failed == self.total:
            return status.UNABLE_TO_PERFORM_SUBOPERATIONS
        if self.failed or self.warning:
            return status.SUBOPERATIONS_COMPLETE_WITH_FAILURES
        return status.SUCCESS

    def response(self, request: Command, code: int, *, comment: str = "", has_data_set: bool = False) -> Command:
        """The response with the counters as they are; Remaining only in Pending and Cancel (R4)."""
        return Command(
            field=request.field.response,
            responding_to=request.message_id,
            affected_sop_class=request.affected_sop_class,
            status=code,
            has_data_set=has_data_set,
            remaining=_clamped(self.remaining) if code in {status.PENDING, status.CANCELLED} else None,
            completed=_clamped(self.completed),
            failed=_clamped(self.failed),
            warning=_clamped(self.warning),
            error_comment=comment,
        )


def _clamped(count: int) -> int:
    """A count as the 16-bit number a response has room for (R4)."""
    return min(count, _LARGEST_COUNT)


def failed_list(instances: Sequence[str], encoding: Encoding) -> bytes:
    """The identifier with the Failed SOP Instance UID List (R5), cut where explicit VR has no more room for it."""
    value = "\\".join(instances)
    if len(value) > _LONGEST_LIST:
        value = value[:_LONGEST_LIST].rpartition("\\")[0]
    return encode([Element(_FAILED_SOP_INSTANCE_UID_LIST, "UI", value.encode("ascii", "replace"))], encoding)


class Voyage(NamedTuple):
    """One association to a destination: what it proposes and what it carries."""

    contexts: tuple[ProposedContext, ...]
    instances: tuple[Instance, ...]


def plan_voyages(instances: Iterable[Instance], maximum_contexts: int = MAXIMUM_CONTEXTS) -> list[Voyage]:
    """Spread instances over as few associations as their contexts need (R8), in the order they came within each.

    Each stored (SOP class, transfer syntax) gets a context of its own, so that accepting one doesn't decline another.
    A class that has uncompressed instances gets one more for each syntax these can be rewritten to.
    """
    by_class: dict[str, list[Instance]] = {}
    for instance in instances:
        by_class.setdefault(instance.sop_class, []).append(instance)
    voyages: list[Voyage] = []
    contexts: list[ProposedContext] = []
    aboard: list[Instance] = []
    for sop_class, members in by_class.items():
        syntaxes = _syntaxes_to_propose(dict.fromkeys(member.transfer_syntax for member in members))
        if contexts and len(contexts) + len(syntaxes) > maximum_contexts:
            voyages.append(Voyage(tuple(contexts), tuple(aboard)))
            contexts, aboard = [], []
        contexts += [ProposedContext(sop_class, (syntax,)) for syntax in syntaxes]
        aboard += members
    if contexts:
        voyages.append(Voyage(tuple(contexts), tuple(aboard)))
    return voyages


def _syntaxes_to_propose(stored: Iterable[str]) -> list[str]:
    syntaxes = list(stored)
    others = [target for target in TARGETS[:2] if any(can_convert(source, target) for source in syntaxes)]
    return syntaxes + [syntax for syntax in others if syntax not in syntaxes]


def choose_context(contexts: Iterable[PresentationContext], instance: Instance) -> PresentationContext | None:
    """The context to send `instance` in: as stored if possible, rewritten if not (R8), None if neither.

    Only contexts count in which this side may be the SCU, which in a C-GET takes role selection (R11).
    """
    usable = {
        context.transfer_syntax: context
        for context in contexts
        if context.as_scu and context.abstract_syntax == instance.sop_class
    }
    if instance.transfer_syntax in usable:
        return usable[instance.transfer_syntax]
    for target in TARGETS:
        if target in usable and can_convert(instance.transfer_syntax, target):
            return usable[target]
    return None


def why_declined(contexts: Iterable[PresentationContext], instance: Instance) -> str:
    """Why :func:`choose_context` finds none, for the log."""
    of_class = [context for context in contexts if context.abstract_syntax == instance.sop_class]
    if not of_class:
        return f"no context was accepted for SOP class {instance.sop_class}"
    if choose_context([replace(context, as_scu=True) for context in of_class], instance) is not None:
        return f"the other side did not select the SCP role for SOP class {instance.sop_class}"
    return f"the other side takes SOP class {instance.sop_class} neither in {instance.transfer_syntax} nor rewritten"
