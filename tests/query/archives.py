"""Small archives in memory: entities made with the index's own documents, and a view that narrows nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from fastarchive.dicom.attributes import LEVEL_OF, MODALITY, SPECIFIC_CHARACTER_SET, Level
from fastarchive.dicom.charsets import UTF8, CharacterSet
from fastarchive.dicom.dictionary import tag_of, vr_of
from fastarchive.dicom.elements import Element, encode
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE
from fastarchive.index.conditions import And, Condition, Everything, Grams, Or, Range, Term
from fastarchive.index.documents import Contribution, Document, add, blank
from fastarchive.index.terms import exact_term
from fastarchive.index.view import View
from fastarchive.query.header_keys import recode
from fastarchive.store.record import Location

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"


@dataclass(frozen=True)
class Instance:
    """One stored instance: its identity and other attributes by keyword, text as stored."""

    patient: str
    study: str
    series: str
    uid: str
    attributes: Mapping[str, str | bytes] = field(default_factory=dict)
    sop_class: str = CT
    more: tuple[Element, ...] = ()
    """What only its header has; text in UTF-8."""
    character_set: str = "ISO_IR 192"
    """What its data set is in, if that can hold it."""

    def elements(self) -> dict[int, bytes]:
        """Every attribute by tag, empty ones left out."""
        given = {
            "PatientID": self.patient,
            "StudyInstanceUID": self.study,
            "SeriesInstanceUID": self.series,
            "SOPInstanceUID": self.uid,
            "SOPClassUID": self.sop_class,
            **self.attributes,
        }
        encoded = {
            tag_of(keyword): value.encode() if isinstance(value, str) else value for keyword, value in given.items()
        }
        return {tag: value for tag, value in encoded.items() if value}

    def data_set(self) -> bytes:
        """The instance as a sender encodes it, in its character set or else in UTF-8."""
        elements = [
            Element(tag, vr_of(tag), value) for tag, value in self.elements().items() if tag != SPECIFIC_CHARACTER_SET
        ]
        elements += self.more
        character_set = CharacterSet.parse(self.character_set.encode())
        held = [recode(element, UTF8, character_set) for element in elements]
        if None in held:
            character_set, held = UTF8, [*elements]
        named = Element(SPECIFIC_CHARACTER_SET, "CS", character_set.value)
        return encode([named, *(element for element in held if element is not None)], EXPLICIT_LITTLE)

    def contribution(self, number: int) -> Contribution:
        """What this instance says, the ``number``-th to arrive."""
        by_level: dict[Level, dict[int, bytes]] = {level: {} for level in Level}
        for tag, value in self.elements().items():
            for level in (LEVEL_OF[tag],) if tag in LEVEL_OF else tuple(Level):
                by_level[level][tag] = value
        modality = by_level[Level.SERIES].get(MODALITY, b"").decode()
        return Contribution(
            (number, 1, number), self.patient, self.study, self.series, self.uid, self.sop_class, modality, by_level
        )


def documents_of(instances: Iterable[Instance]) -> dict[Level, dict[str, Document]]:
    """The documents of all levels for instances with distinct UIDs, consistent in their hierarchy."""
    found: dict[Level, dict[str, Document]] = {level: {} for level in Level}
    for number, instance in enumerate(instances, 1):
        contribution = instance.contribution(number)
        image = Document(
            Level.IMAGE,
            patient=contribution.patient,
            study=instance.study,
            series=instance.series,
            instance=instance.uid,
        )
        image.elements.update(contribution.elements[Level.IMAGE])
        image.sop_class, image.received, image.location = instance.sop_class, number, Location(1, number, 100)
        found[Level.IMAGE][image.key] = image
        for level in (Level.SERIES, Level.STUDY, Level.PATIENT):
            key = image.key_at(level)
            document = found[level].setdefault(key, blank(level, contribution))
            add(document, contribution)
            document.number_of_instances += 1
    for series in found[Level.SERIES].values():
        found[Level.STUDY][series.study].number_of_series += 1
    for study in found[Level.STUDY].values():
        patient = found[Level.PATIENT][study.patient]
        patient.number_of_studies += 1
        patient.number_of_series += study.number_of_series
    return found


class MemoryView(View):
    """A view of documents in memory. Conditions narrow by their terms only; ``asked`` remembers them."""

    def __init__(self, documents: Mapping[Level, Mapping[str, Document]], tail: Iterable[str] = ()) -> None:
        self.documents = documents
        self.tail = frozenset(tail)
        self.tail_length = len(self.tail)
        self.asked: list[tuple[Level, Condition]] = []

    def get(self, level: Level, key: str) -> Document | None:
        return next(iter(self.get_many(level, (key,))), None)

    def get_many(self, level: Level, keys: Iterable[str]) -> list[Document]:
        wanted = set(keys)
        return [
            document
            for key, document in self.documents[level].items()
            if key in wanted or (level is Level.SERIES and document.series in wanted)
        ]

    def tail_documents(self, level: Level) -> list[Document]:
        return [document for key, document in self.documents[level].items() if key in self.tail]

    def pages(
        self, level: Level, condition: Condition, *, first_page: int = 50, page_size: int = 1000
    ) -> Iterator[list[Document]]:
        self.asked.append((level, condition))
        found = [
            document
            for key, document in self.documents[level].items()
            if key not in self.tail and meets(document, condition)
        ]
        for start in range(0, len(found), 2):
            yield found[start : start + 2]

    def estimate(self, level: Level, condition: Condition, *, counted: bool = True) -> int:
        return sum(meets(document, condition) for document in self.documents[level].values())

    def counts(self) -> dict[Level, int]:
        return {level: len(found) for level, found in self.documents.items()}


def meets(document: Document, condition: Condition) -> bool:
    """Whether a document may meet a condition, as far as this view can tell."""
    match condition:
        case Term(tag, values):
            asked = {_written(tag, value) for value in values}
            return bool(_terms(document, tag) & asked) if tag in _KEYS or tag in document.elements else True
        case And(parts):
            return all(meets(document, part) for part in parts)
        case Or(parts):
            return any(meets(document, part) for part in parts)
        case Range() | Grams() | Everything():
            return True


_KEYS = {tag_of(keyword) for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}


def _terms(document: Document, tag: int) -> set[str]:
    own = {
        tag_of("PatientID"): document.patient,
        tag_of("StudyInstanceUID"): document.study,
        tag_of("SeriesInstanceUID"): document.series,
        tag_of("SOPInstanceUID"): document.instance,
    }
    return {own[tag]} if tag in own else {_written(tag, value) for value in document.values(tag)}


def _written(tag: int, value: str) -> str:
    """A value in one way of those it may be written in, as the index has it: 007 = 7."""
    return value if tag in _KEYS else exact_term(tag, vr_of(tag), value)
