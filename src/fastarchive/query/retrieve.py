"""What a C-MOVE or C-GET asks for, and the instances that are meant (PS3.4 C.4.2.1.4, C.4.3.1.3; rule R2).

Only unique keys count. Those of the level asked for must be there, so that a request can never mean everything; those
of the levels above narrow it when they are there. Many senders leave those out, or add attributes they once queried
for: neither makes a request ambiguous, so neither is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from fastarchive.dicom.attributes import INSTANCE_NUMBER, UNIQUE_KEYS, InformationModel, Level
from fastarchive.dicom.dictionary import keyword_of
from fastarchive.dicom.transfer_syntaxes import Encoding
from fastarchive.index.conditions import Condition, Term
from fastarchive.index.documents import Document, patient_key
from fastarchive.index.view import View
from fastarchive.query.execute import PAGE
from fastarchive.query.identifier import (
    IdentifierError,
    read_character_set,
    read_elements,
    read_level,
    unique_key_values,
)

SORTED: Final = 5_000
"""Up to so many instances of a study are put in order; more are handed out as the index has them."""


@dataclass(frozen=True, slots=True)
class RetrieveRequest:
    """The level and, for it and levels above it, the values its unique key may have (Patient ID: one)."""

    level: Level
    keys: Mapping[Level, tuple[str, ...]]


def parse_retrieve(
    identifier: bytes, encoding: Encoding, model: InformationModel, declared_character_set: str | None = None
) -> RetrieveRequest:
    """The request an identifier makes; raises IdentifierError (A900) when it names nothing at its level.

    ``declared_character_set``: what the sender's text really is, whatever it declares.
    """
    elements = read_elements(identifier, encoding)
    level = read_level(elements, model)
    character_set = read_character_set(elements, declared_character_set)
    keys: dict[Level, tuple[str, ...]] = {}
    for one in (one for one in model.levels if one.depth <= level.depth):
        tag = UNIQUE_KEYS[one]
        values = tuple(dict.fromkeys(unique_key_values(elements, one, character_set)))
        if one is Level.PATIENT:
            values = tuple(key for value in values if (key := patient_key(value.encode())))
        if not values:
            if one is level:
                raise IdentifierError(f"{keyword_of(tag)} is required", tag)
            continue
        if one is Level.PATIENT and len(values) > 1:
            raise IdentifierError("PatientID may not be a list", tag)
        if one is not Level.PATIENT and any("*" in value or "?" in value for value in values):
            raise IdentifierError(f"{keyword_of(tag)} allows no wildcards", tag)
        keys[one] = values
    return RetrieveRequest(level, keys)


def instances(request: RetrieveRequest, view: View) -> Iterator[list[Document]]:
    """The instances meant, each once, in pages: study by study, by series and instance number when few enough."""
    keys = request.keys[request.level]
    for start in range(0, len(keys), PAGE):
        found = view.get_many(request.level, keys[start : start + PAGE])
        if request.level is Level.PATIENT:
            found = [study for patient in found for page in _children(Level.STUDY, patient, view) for study in page]
        found = _within(found, request, view)
        if request.level is Level.IMAGE:
            yield found
        else:
            for entity in found:
                yield from _below(entity, view)


def _within(page: Sequence[Document], request: RetrieveRequest, view: View) -> list[Document]:
    """Those of a page that belong to the entities above the request names, if it names any."""
    studies, series = request.keys.get(Level.STUDY), request.keys.get(Level.SERIES)
    found = [
        document
        for document in page
        if (studies is None or document.study in studies) and (series is None or document.series in series)
    ]
    patients = request.keys.get(Level.PATIENT)
    if patients is None or not found:
        return found
    # Only the study says whose it is.
    owners = {study.key: study.patient for study in view.get_many(Level.STUDY, {one.study for one in found})}
    return [document for document in found if owners.get(document.study) in patients]


def _children(level: Level, parent: Document, view: View) -> Iterator[list[Document]]:
    """The entities of a level below one entity, those in the tail of the log first."""
    value = parent.series if parent.level is Level.SERIES else parent.key
    condition: Condition = Term(UNIQUE_KEYS[parent.level], (value,))
    for page in chain((view.tail_documents(level),), view.pages(level, condition)):
        yield [document for document in page if document.key_at(parent.level) == parent.key]


def _below(entity: Document, view: View) -> Iterator[list[Document]]:
    """The instances of a study or a series, in order if they are few enough to hold at once."""
    pages = _children(Level.IMAGE, entity, view)
    if entity.number_of_instances > SORTED:
        yield from pages
        return
    found = [document for page in pages for document in page]
    found.sort(key=_place)
    for start in range(0, len(found), PAGE):
        yield found[start : start + PAGE]


def _place(document: Document) -> tuple[str, int, str]:
    values = document.values(INSTANCE_NUMBER)
    number = int(values[0]) if values and values[0].lstrip("+-").isascii() and values[0].lstrip("+-").isdigit() else 0
    return document.series, number, document.instance
