"""What a deletion record deletes: every record before it, in record order, of the study, series or instance it names.

It stays in force, as a *tombstone*, for records that are read after it but were received before.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastarchive.index.documents import Order, series_key
from fastarchive.store.record import Record


def tombstone_of(record: Record) -> str:
    """The name of what a deletion record deletes."""
    if record.sop_instance:
        return f"I{record.sop_instance}"
    if record.series:
        return f"E{series_key(record.study, record.series)}"
    return f"S{record.study}"


def is_deleted(tombstones: Mapping[str, Order], order: Order, study: str, series: str, instance: str) -> bool:
    """Whether a deletion later than `order` names the instance, its series or its study."""
    for name in (f"I{instance}", f"E{series_key(study, series)}", f"S{study}"):
        deleted = tombstones.get(name)
        if deleted is not None and order < deleted:
            return True
    return False
