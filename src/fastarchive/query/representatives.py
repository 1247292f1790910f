"""Which stored records tell what the index does not hold of a patient, a study or a series.

An attribute that is not in the index is known from headers alone, and an entity may have thousands. So the earliest
instance of each of its series speaks for it, in the order in which they were received: the same rule as for what is
indexed, the first value there is counts, at a read for each series instead of one for each instance. The series
documents know their earliest record: nothing has to be searched for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from fastarchive.dicom.attributes import PATIENT_ID, STUDY_INSTANCE_UID, Level
from fastarchive.index.conditions import Condition, Term
from fastarchive.index.documents import Document, Order
from fastarchive.index.view import View
from fastarchive.store.record import Location

Places = tuple[Location, ...]
"""Where records are; their sizes may be 0, for not known."""


def representatives(view: View, level: Level, entities: Sequence[Document]) -> list[Places]:
    """For each of some entities of a level the records that speak for it, the earliest first.

    An instance speaks for itself, a series by its earliest instance, a study or patient by those of its series.
    """
    if level is Level.IMAGE:
        return [(image.location,) for image in entities]
    return [tuple(_place(order) for order in orders) for orders in _orders(view, level, entities)]


def _orders(view: View, level: Level, entities: Sequence[Document]) -> list[list[Order]]:
    if level is Level.SERIES:
        return [[_earliest(series)] for series in entities]
    found: dict[str, list[Order]] = {entity.key: [] for entity in entities}
    if level is Level.STUDY:
        owner_of = {study: study for study in found}
    else:
        condition = Term(PATIENT_ID, tuple(found))
        studies = (study for study in _below(view, Level.STUDY, condition) if study.patient in found)
        owner_of = {study.study: study.patient for study in studies}
    if owner_of:
        for series in _below(view, Level.SERIES, Term(STUDY_INSTANCE_UID, tuple(owner_of))):
            if (owner := owner_of.get(series.study)) is not None:
                found[owner].append(_earliest(series))
    return [sorted(found[entity.key]) for entity in entities]


def _below(view: View, level: Level, condition: Condition) -> Iterator[Document]:
    """Entities that meet a condition and perhaps more, those in the tail of the log first."""
    for page in chain((view.tail_documents(level),), view.pages(level, condition)):
        yield from page


def _earliest(series: Document) -> Order:
    """The order of the earliest record of a series: every record has the UIDs, so the earliest gave them."""
    return min(series.origins.values())


def _place(order: Order) -> Location:
    _, pack, offset = order
    return Location(pack, offset, 0)
