"""What a sealed pack holds that is still needed, and what of it is dead space.

Dead is a record that a deletion names, a second record of an instance with the very same data set, what was let out of
quarantine, and the old copy of a record that was moved. Everything else is needed, also what nobody can find at
present: deletions, which hold good for copies that may come back from a backup or a disk that was away, and a second,
*different* data set of an instance that two processes acknowledged in the same moment. The pack itself knows none of
this; the index does.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final, NamedTuple

from fastarchive.dicom.attributes import Level
from fastarchive.index.conditions import Everything
from fastarchive.index.documents import Document, Order
from fastarchive.index.view import View
from fastarchive.store.pack import PAGE, Seal, read_state, read_table
from fastarchive.store.record import Location, Record, RecordKind
from fastarchive.store.rewrite import DamagedSource, Source

SETTLED_SECONDS: Final = 3600.0
"""How old the second record of a data set has to be: until then the first one may still be about to be replaced."""
_LOOKED_UP_AT_ONCE: Final = 500


class Unreadable(Exception):
    """It can't be told what a pack holds: something in it is whole in no copy."""


class Kept(NamedTuple):
    """A record that is needed. Sorts by study, series and the order of records."""

    study: str
    series: str
    order: Order
    instance: str
    location: Location


@dataclass(slots=True)
class Use:
    """What one pack is used for."""

    pack: int
    size: int
    """Bytes of the file."""
    settled: int
    """What was received before, in nanoseconds since the epoch, can't be replaced any more by what is under way."""
    kept: list[Kept] = field(default_factory=list)
    kept_records: int = 0
    kept_bytes: int = 0
    dead_records: int = 0
    dead_bytes: int = 0
    elsewhere: set[int] = field(default_factory=set)
    """Packs with the copies of records that are dead here because they were moved."""


def live_bytes(view: View, advance: Callable[[int], object] = lambda _: None) -> Mapping[int, int]:
    """Bytes of the records that are instances now, by pack, from the index alone."""
    found: Counter[int] = Counter()
    for page in chain((view.tail_documents(Level.IMAGE),), view.pages(Level.IMAGE, Everything(), first_page=1000)):
        for document in page:
            found[document.location.pack] += document.location.size
        advance(len(page))
    return found


def examine(view: View, source: Source, *, settled_seconds: float = SETTLED_SECONDS) -> Use:
    """What a sealed pack is used for, record by record. Raises Unreadable, OSError."""
    seal = read_state(source.fds[0]).seal
    assert seal is not None
    use = Use(source.pack, seal.length, time.time_ns() - int(settled_seconds * 1e9))
    located = iter(_locations(source, seal))
    while batch := list(islice(located, _LOOKED_UP_AT_ONCE)):
        records = []
        for location in batch:
            try:
                records.append((location, source.read_record(location)))
            except DamagedSource as error:
                raise Unreadable(str(error)) from error
        names = {record.sop_instance for _, record in records if record.kind is RecordKind.INSTANCE}
        winners = {each.instance: each for each in view.get_many(Level.IMAGE, names)}
        for location, record in records:
            kept = Kept(record.study, record.series, record.order(location), record.sop_instance, location)
            if _is_dead(use, view, winners.get(kept.instance), kept, record):
                use.dead_records += 1
                use.dead_bytes += location.size
            else:
                use.kept.append(kept)
                use.kept_records += 1
                use.kept_bytes += location.size
    return use


def _locations(source: Source, seal: Seal) -> Sequence[Location]:
    for fd in source.fds:
        offsets = read_table(fd, seal)
        if offsets and len(offsets) == seal.records and offsets[0] == PAGE:
            ends = [*offsets[1:], seal.records_end]
            return [Location(source.pack, start, end - start) for start, end in zip(offsets, ends, strict=True)]
    raise Unreadable("its table of records is damaged")


def _is_dead(use: Use, view: View, winner: Document | None, kept: Kept, record: Record) -> bool:
    if record.kind is RecordKind.QUARANTINED:
        return _has_left_quarantine(use, view, kept)
    if record.kind is not RecordKind.INSTANCE:
        return False
    if view.is_deleted(kept.order, kept.study, kept.series, kept.instance):
        return True
    if winner is None:
        return False
    if winner.order == kept.order:
        moved = winner.location.pack > kept.location.pack
        if moved:
            use.elsewhere.add(winner.location.pack)
        return moved
    same = (record.digest, kept.study, kept.series) == (winner.digest, winner.study, winner.series)
    return same and kept.order > winner.order and record.received < use.settled


def _has_left_quarantine(use: Use, view: View, kept: Kept) -> bool:
    for one in view.quarantined(kept.instance):
        if one.order == kept.order:
            if moved := one.location.pack > kept.location.pack:
                use.elsewhere.add(one.location.pack)
            return moved
    return kept.order[0] < use.settled


def distinct(uses: Iterable[Use]) -> list[Kept]:
    """All records needed in some packs, each once, those of a series together."""
    found: dict[tuple[Order, str, str, str], Kept] = {}
    for kept in chain.from_iterable(use.kept for use in uses):
        key = (kept.order, kept.study, kept.series, kept.instance)
        known = found.get(key)
        if known is None or kept.location.pack > known.location.pack:
            found[key] = kept
    return sorted(found.values())
