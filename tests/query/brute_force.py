"""The answer to any query, without plan, index or documents: what the records say of each entity, judged one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fastarchive.dicom.attributes import COMPUTED, LEVEL_OF, MODALITY, STORED_ATTRIBUTES, Level
from fastarchive.dicom.charsets import UTF8
from fastarchive.dicom.dictionary import tag_of
from fastarchive.dicom.elements import Element, parse_sequence
from fastarchive.index.documents import Document, text_values
from fastarchive.index.view import View
from fastarchive.query.criteria import Criterion, criteria_of
from fastarchive.query.execute import matches
from fastarchive.query.header_keys import HeaderKey
from fastarchive.query.headers import HeaderReader
from fastarchive.query.identifier import FindQuery
from fastarchive.query.match import Match
from fastarchive.query.plan import plan
from tests.query.archives import Instance

_IDENTITY: dict[Level, Callable[[Instance], str]] = {
    # Nobody knows whose the studies without a Patient ID are: they are not one patient's.
    Level.PATIENT: lambda one: f"ID {one.patient}" if one.patient else f"study {one.study}",
    Level.STUDY: lambda one: one.study,
    Level.SERIES: lambda one: f"{one.study}\\{one.series}",
    Level.IMAGE: lambda one: one.uid,
}


def brute_force(query: FindQuery, archive: Iterable[Instance]) -> set[str]:
    """The identities (:func:`identity`) of the entities that match."""
    archive = list(archive)
    asked = criteria_of(query)
    found = set()
    for one in archive:
        accepted = all(criterion.accepts(_facts(criterion, query.level, one, archive)) for criterion in asked)
        if accepted and all(key.accepts(_told(key, query.level, one, archive), UTF8) for key in query.header_keys):
            found.add(identity(query.level, one))
    return found


def bare(element: Element) -> object:
    """The value of an element without padding, that of a sequence item by item."""
    if element.vr != "SQ":
        return element.value.rstrip(b" \0")
    return [{tag: bare(inner) for tag, inner in item.items()} for item in parse_sequence(element.value)]


def header_answers(query: FindQuery, archive: Iterable[Instance]) -> dict[str, dict[int, object]]:
    """What headers answer for every entity there is, by identity and tag."""
    archive = list(archive)
    return {
        identity(query.level, one): {
            key.tag: bare(key.answer(_told(key, query.level, one, archive), UTF8)) for key in query.header_keys
        }
        for one in archive
    }


def _told(key: HeaderKey, level: Level, one: Instance, archive: Sequence[Instance]) -> Element | None:
    """The first value that the earliest instances of the series of an entity have of an attribute."""
    if level is Level.IMAGE:
        speakers = [one]
    else:
        earliest: dict[str, Instance] = {}
        for other in archive:
            if identity(level, other) == identity(level, one):
                earliest.setdefault(identity(Level.SERIES, other), other)
        speakers = list(earliest.values())
    said = [element for speaker in speakers for element in speaker.more if element.tag == key.tag]
    return next((element for element in said if element.value), None)


def identity(level: Level, one: Instance) -> str:
    """What tells the entity of a level that an instance belongs to from others."""
    return _IDENTITY[level](one)


def identity_of(match: Match, level: Level) -> str:
    """The same of an entity found."""
    document = match[level.depth]
    assert document is not None
    if level is not Level.PATIENT:
        return document.key
    return f"ID {document.key}" if document.values(tag_of("PatientID")) else f"study {document.key[1:]}"


def _facts(criterion: Criterion, level: Level, one: Instance, archive: Sequence[Instance]) -> Document:
    """What the records say about what a criterion asks for an entity of a level."""
    tag = criterion.matchers[0].tag
    home = LEVEL_OF.get(tag, level)
    # Below PATIENT level the study's own records tell of the patient (Q6); other studies only count.
    told_by = Level.STUDY if home is Level.PATIENT and level is not Level.PATIENT and tag not in COMPUTED else home
    mine = [other for other in archive if identity(told_by, other) == identity(told_by, one)]
    document = Document(told_by)
    kept = {each.tag for each in STORED_ATTRIBUTES[home]} | {tag_of("TimezoneOffsetFromUTC")}
    for other in mine:
        for said, value in other.elements().items():
            if said in kept:
                document.elements.setdefault(said, value)
    document.number_of_instances = len(mine)
    document.number_of_series = len({identity(Level.SERIES, other) for other in mine})
    document.number_of_studies = len({other.study for other in mine})
    modalities = {value for other in mine for value in text_values(other.elements().get(MODALITY, b""), "CS")}
    document.modalities = tuple(sorted(modalities))
    document.sop_classes = tuple(sorted({other.sop_class for other in mine}))
    return document


def found_by_plan(query: FindQuery, view: View, headers: HeaderReader | None = None) -> list[str]:
    """The identities of what a plan finds, in the order found."""
    pages = matches(plan(query, view), view, headers=headers)
    return [identity_of(match, query.level) for page in pages for match in page]


def executed(query: FindQuery, view: View) -> list[str]:
    """The keys a plan finds, in the order found."""
    depth = query.level.depth
    found = (match[depth] for page in matches(plan(query, view), view) for match in page)
    return [document.key for document in found if document is not None]
