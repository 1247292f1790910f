"""What a person names on the command line, found in the archive: entities of one level and the instances in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fastarchive.dicom.attributes import Level
from fastarchive.index.documents import Document, patient_key
from fastarchive.index.view import View
from fastarchive.query.retrieve import RetrieveRequest, instances


@dataclass(frozen=True, slots=True)
class Selection:
    """Entities of one level, as one view shows them."""

    level: Level
    entities: tuple[Document, ...]
    """Found; a Series Instance UID that two studies use gives one for each."""
    missing: tuple[str, ...]
    """Named, but not in the archive."""

    @property
    def number_of_instances(self) -> int:
        """Instances in all of them."""
        if self.level is Level.IMAGE:
            return len(self.entities)
        return sum(entity.number_of_instances for entity in self.entities)


def select(view: View, level: Level, names: Iterable[str]) -> Selection:
    """The entities with these unique keys: Patient IDs at PATIENT level, UIDs below."""
    wanted = dict.fromkeys(name.strip() for name in names)
    keys = {patient_key(name.encode()) if level is Level.PATIENT else name: name for name in wanted}
    entities = sorted(view.get_many(level, [key for key in keys if key]), key=lambda entity: entity.key)
    found = {_unique_key(entity) for entity in entities}
    return Selection(level, tuple(entities), tuple(name for key, name in keys.items() if key not in found))


def instances_of(view: View, selection: Selection) -> Iterator[Document]:
    """Every instance in what was selected, each once, study by study; in bounded memory."""
    keys = tuple(dict.fromkeys(_unique_key(entity) for entity in selection.entities))
    if keys:
        for page in instances(RetrieveRequest(selection.level, {selection.level: keys}), view):
            yield from page


def _unique_key(entity: Document) -> str:
    return entity.series if entity.level is Level.SERIES else entity.key
