"""What the index keeps beside its documents: a few bytes under a name, found by it and listed by the kind of note.

A note is a function of the set of records, as documents are: it doesn't matter in which order they were read. An empty
one is none.

Quarantine: under each SOP Instance UID, the data sets of that instance that were put into quarantine, and those let out
of it again, by release or by being discarded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from fastarchive.index.documents import Order
from fastarchive.store.record import Location, Record, RecordKind

QUARANTINE: Final = "Q"
"""Kind of the notes on quarantined data sets; the name is the SOP Instance UID."""

Notes = Mapping[tuple[str, str], bytes]
"""Kind and name → note."""
NO_NOTES: Final[Notes] = MappingProxyType({})

IsDeleted = Callable[[Order, str, str, str], bool]
"""Whether a deletion names a record of this order, study, series and instance."""


class Quarantined(NamedTuple):
    """A data set in quarantine: where its record is, and what tells it apart."""

    order: Order
    location: Location
    digest: bytes
    study: str
    series: str
    instance: str


def with_quarantine_record(note: bytes | None, location: Location, record: Record) -> bytes:
    """The note of an instance after one more record that puts a data set into quarantine, or lets it out."""
    held, ended = _decoded(note)
    order, digest = record.order(location), record.digest.hex()
    if record.kind is RecordKind.QUARANTINE_END:
        ended[digest] = max(order, ended.get(digest, order))
    else:
        known = held.get(order)
        if known is None or location.pack > known.location.pack:  # else the same record, before it was moved
            held[order] = Quarantined(order, location, record.digest, record.study, record.series, record.sop_instance)
    rows = [
        [
            *one.order,
            one.location.pack,
            one.location.offset,
            one.location.size,
            one.digest.hex(),
            one.study,
            one.series,
            one.instance,
        ]
        for one in held.values()
    ]
    return json.dumps([rows, ended]).encode()


def in_quarantine(note: bytes, is_deleted: IsDeleted) -> list[Quarantined]:
    """The data sets of an instance that are in quarantine, each once, the one received first before the others."""
    held, ended = _decoded(note)
    found: dict[bytes, Quarantined] = {}
    for order, one in sorted(held.items()):
        end = ended.get(one.digest.hex())
        # Deletions of the instance itself don't count: they make room for what takes its place, too.
        if (end is None or end < order) and not is_deleted(order, one.study, one.series, ""):
            found.setdefault(one.digest, one)
    return list(found.values())


def _decoded(note: bytes | None) -> tuple[dict[Order, Quarantined], dict[str, Order]]:
    """The data sets by record order, and by digest (hexadecimal) when it was last let out."""
    if note is None:
        return {}, {}
    rows, ended = json.loads(note)
    held = {}
    for received, first_pack, first_offset, pack, offset, size, digest, study, series, instance in rows:
        order = (received, first_pack, first_offset)
        location = Location(pack, offset, size)
        held[order] = Quarantined(order, location, bytes.fromhex(digest), study, series, instance)
    return held, {digest: (order[0], order[1], order[2]) for digest, order in ended.items()}
