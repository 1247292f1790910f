"""What the instances of a study say differently about it and its patient, value by value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from fastarchive.archive import Archive
from fastarchive.dicom.attributes import Level
from fastarchive.dicom.dictionary import keyword_of
from fastarchive.index.contributions import contribution_of
from fastarchive.index.disagreements import meant, statements
from fastarchive.store.blobs import DamagedInstance
from fastarchive.upkeep.selection import Selection, instances_of

_NO_VALUE: Final = ()


@dataclass(slots=True)
class Statement:
    """One of the values of an attribute, and who says so."""

    value: str
    """Values of a multi-valued attribute are joined by backslashes; empty: these instances have none."""
    instances: int = 0
    calling_ae_titles: set[str] = field(default_factory=set)
    an_instance: str = ""
    """SOP Instance UID of one of them, to look at."""


@dataclass(slots=True)
class Disagreement:
    """An attribute of a study in which its instances disagree; what queries tell comes first."""

    study: str
    tag: int
    keyword: str
    statements: list[Statement]


def disagreements(archive: Archive, studies: Iterable[str] = ()) -> Iterator[Disagreement]:
    """Every disagreement, or those of some studies, study by study; reads the metadata of all instances of each.

    Instances whose metadata is damaged are left out. Raises OSError.
    """
    view = archive.view()
    wanted = set(studies)
    for study, tags in view.disagreements().items():
        document = view.get(Level.STUDY, study)
        if document is None or (wanted and study not in wanted):
            continue
        found: dict[int, dict[tuple[str, ...], Statement]] = {tag: {} for tag in sorted(tags)}
        for instance in instances_of(view, Selection(Level.STUDY, (document,), ())):
            try:
                record = archive.blobs.open(instance.location, content=False, instance=instance.instance).record
            except DamagedInstance:
                continue
            said = dict(statements(contribution_of(record, instance.location)))
            for tag, values in found.items():
                value = meant(tag, said[tag]) if tag in said else _NO_VALUE
                statement = values.setdefault(value, Statement("\\".join(value)))
                statement.instances += 1
                statement.calling_ae_titles.add(record.calling_ae)
                statement.an_instance = statement.an_instance or instance.instance
        for tag, values in found.items():
            first = meant(tag, document.elements.get(tag, b""))
            order = sorted(values.items(), key=lambda item: (item[0] != first, -item[1].instances, item[0]))
            yield Disagreement(study, tag, keyword_of(tag), [statement for _, statement in order])
