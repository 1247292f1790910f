"""The answer to any query, without plan or index: every entity of the level, joined and judged by the criteria."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fastarchive.dicom.attributes import Level
from fastarchive.index.documents import Document
from fastarchive.index.view import View
from fastarchive.query.criteria import criteria_of
from fastarchive.query.execute import matches
from fastarchive.query.identifier import FindQuery
from fastarchive.query.plan import plan


def brute_force(query: FindQuery, documents: Mapping[Level, Mapping[str, Document]]) -> set[str]:
    """The keys of the entities that match."""
    found = set()
    for document in documents[query.level].values():
        lineage = {query.level: document}
        for level in (Level.SERIES, Level.STUDY):
            if level.depth < query.level.depth:
                lineage[level] = documents[level][document.key_at(level)]
        if query.level is not Level.PATIENT:
            lineage[Level.PATIENT] = documents[Level.PATIENT][lineage[Level.STUDY].patient_id]
        if all(criterion.accepts(lineage[criterion.level]) for criterion in criteria_of(query)):
            found.add(document.key)
    return found


def executed(query: FindQuery, view: View) -> list[str]:
    """The keys a plan finds, in the order found."""
    depth = query.level.depth
    found = (match[depth] for page in matches(plan(query, view), view) for match in page)
    return [document.key for document in found if document is not None]


def keys_of(documents: Iterable[Document]) -> list[str]:
    """The keys of some documents."""
    return [document.key for document in documents]
