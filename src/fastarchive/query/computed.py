"""Attributes no instance carries: they are counted from the entities below (PS3.4 C.3.4).

They come from the aggregates of the patient, study and series documents, so they cost no walk over children and equal
what a retrieval delivers (F8).
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Final

from fastarchive.dicom import attributes
from fastarchive.index.documents import Document

Aggregate = int | tuple[str, ...]

AGGREGATES: Final[dict[int, Callable[[Document], Aggregate]]] = {
    attributes.NUMBER_OF_PATIENT_RELATED_STUDIES: attrgetter("number_of_studies"),
    attributes.NUMBER_OF_PATIENT_RELATED_SERIES: attrgetter("number_of_series"),
    attributes.NUMBER_OF_PATIENT_RELATED_INSTANCES: attrgetter("number_of_instances"),
    attributes.NUMBER_OF_STUDY_RELATED_SERIES: attrgetter("number_of_series"),
    attributes.NUMBER_OF_STUDY_RELATED_INSTANCES: attrgetter("number_of_instances"),
    attributes.NUMBER_OF_SERIES_RELATED_INSTANCES: attrgetter("number_of_instances"),
    attributes.MODALITIES_IN_STUDY: attrgetter("modalities"),
    attributes.SOP_CLASSES_IN_STUDY: attrgetter("sop_classes"),
}
"""How each is read off the document of the level it describes (``LEVEL_OF``)."""

COUNTS: Final = AGGREGATES.keys() - {attributes.MODALITIES_IN_STUDY, attributes.SOP_CLASSES_IN_STUDY}
"""Those that are numbers, which the index has no terms of."""


def values_of(document: Document, tag: int) -> list[str]:
    """The values of an attribute of one document, computed or stored; ``[]`` when it has none."""
    aggregate = AGGREGATES.get(tag)
    if aggregate is None:
        return document.values(tag)
    value = aggregate(document)
    return [str(value)] if isinstance(value, int) else list(value)
