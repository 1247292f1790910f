"""Which packs compaction rewrites: those with much dead space, and small ones when there are several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fastarchive.index.current import Index
from fastarchive.index.view import View
from fastarchive.store.log import SEAL_SIZE
from fastarchive.store.mirror import seal_of
from fastarchive.store.pack import Seal, list_packs, used_bytes
from fastarchive.store.rewrite import Unsealed, open_source
from fastarchive.upkeep.liveness import SETTLED_SECONDS, Unreadable, Use, examine, live_bytes

DEAD: Final = 0.3
"""Share of a pack that has to be dead before it is rewritten."""
SMALL: Final = 8
"""A pack is small below this part of the size at which packs are sealed."""
MOST_RECORDS: Final = 100_000
"""Packs with more records are rewritten alone: what is known of them has to be in memory."""


@dataclass(frozen=True, slots=True)
class Aims:
    """What is worth rewriting."""

    seal_size: int = SEAL_SIZE
    dead: float = DEAD
    least_small: int = 2
    """How many small packs there have to be before they are joined."""
    settled_seconds: float = SETTLED_SECONDS

    def are_met(self, use: Use) -> bool:
        """Whether a pack is worth rewriting for its dead space alone."""
        return use.dead_bytes >= self.dead * use.size

    def is_small(self, size: int) -> bool:
        """Whether a pack is worth joining with others."""
        return size < self.seal_size // SMALL


@dataclass(slots=True)
class Plan:
    """What compaction would do."""

    packs: int = 0
    """Packs there are."""
    size: int = 0
    """Bytes of their files, without what open ones have reserved."""
    candidates: list[Use] = field(default_factory=list)
    """Packs to be rewritten or removed, by id; what they keep is counted, not listed."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Packs that would be if they weren't damaged, and why."""

    @property
    def dead_bytes(self) -> int:
        """Dead space in the candidates."""
        return sum(use.dead_bytes for use in self.candidates)

    @property
    def dead_records(self) -> int:
        """Dead records in the candidates."""
        return sum(use.dead_records for use in self.candidates)

    @property
    def moved_bytes(self) -> int:
        """Bytes to be copied."""
        return sum(use.kept_bytes for use in self.candidates)

    def groups(self, aims: Aims) -> list[list[int]]:
        """Packs that go into one new pack each; first those of which nothing is needed, they make room."""
        groups = [[use.pack] for use in self.candidates if not use.kept_bytes]
        group: list[int] = []
        size = records = 0
        for use in self.candidates:
            if not use.kept_bytes:
                continue
            if group and (size + use.kept_bytes > aims.seal_size or records + use.kept_records > MOST_RECORDS):
                groups.append(group)
                group, size, records = [], 0, 0
            group.append(use.pack)
            size, records = size + use.kept_bytes, records + use.kept_records
        return [*groups, group] if group else groups


def make_plan(
    copies: Sequence[Path], index: Index, aims: Aims, advance: Callable[[int], object] = lambda _: None
) -> Plan:
    """What is worth rewriting in the data directory that is first in `copies`; nothing is changed.

    The index tells at once where there may be dead space; there it is looked at record by record. `advance` is told of
    instances and packs looked at, and may raise to end it. Raises OSError.
    """
    directory, view = copies[0], index.view()
    live = live_bytes(view, advance)
    plan = Plan()
    uses: dict[int, Use] = {}
    small: list[int] = []
    for pack in list_packs(directory):
        advance(0)
        seal = _seal_of(directory, pack)
        plan.packs += 1
        plan.size += used_bytes(directory, pack) if seal is None else seal.length
        if seal is None:
            continue
        if seal.length - live.get(pack, 0) >= aims.dead * seal.length:
            use = _look_at(pack, copies, view, plan, aims)
            if use is not None and aims.are_met(use):
                uses[pack] = use
            elif use is not None and aims.is_small(use.size):  # deletions: neither instances nor dead
                small.append(pack)
        elif aims.is_small(seal.length):
            small.append(pack)
    if len(small) >= aims.least_small or (small and uses):
        for pack in small:
            use = _look_at(pack, copies, view, plan, aims)
            if use is not None:
                uses[pack] = use
    if len(uses) > 1 or any(map(aims.are_met, uses.values())):
        plan.candidates = [uses[pack] for pack in sorted(uses)]
    return plan


def _look_at(pack: int, copies: Sequence[Path], view: View, plan: Plan, aims: Aims) -> Use | None:
    with ExitStack() as stack:
        try:
            source = open_source(pack, copies, stack, None)
            use = examine(view, source, settled_seconds=aims.settled_seconds)
        except (Unreadable, Unsealed) as error:
            plan.unreadable[pack] = str(error)
            return None
        except FileNotFoundError:
            return None
        use.kept = []  # they are many; looked up again when they are moved
        return use


def _seal_of(directory: Path, pack: int) -> Seal | None:
    try:
        return seal_of(directory, pack)
    except OSError:
        return None
