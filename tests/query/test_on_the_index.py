"""On a real index, with all of an archive in the index, none, or some: plans find what brute force finds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastarchive.dicom.attributes import InformationModel, Level
from fastarchive.index.conditions import Everything
from fastarchive.index.current import Index
from fastarchive.index.documents import Document
from fastarchive.index.view import View
from fastarchive.index.writer import IndexWriter
from fastarchive.query.options import FindOptions
from fastarchive.query.retrieve import RetrieveRequest, instances
from fastarchive.store.log import Log
from fastarchive.store.record import Record, RecordKind
from tests.folders import temporary_folder
from tests.index.archives import EXPLICIT, append, encoded
from tests.query.archives import Instance
from tests.query.brute_force import brute_force, found_by_plan
from tests.query.identifiers import query
from tests.query.random_archives import archives, questions


def record(instance: Instance, received: int) -> Record:
    """An instance as the log keeps it."""
    return Record(
        RecordKind.INSTANCE,
        received,
        bytes(32),
        100,
        instance.sop_class,
        instance.uid,
        instance.study,
        instance.series,
        EXPLICIT,
        "A",
        "B",
        encoded({0x0008_0005: "ISO_IR 192", **instance.elements()}),
        (),
    )


@contextmanager
def stored(archive: list[Instance], indexed: int) -> Iterator[View]:
    """A view of an archive whose first ``indexed`` instances are in the index, the others in the log only."""
    with temporary_folder() as directory:
        records = [record(instance, received) for received, instance in enumerate(archive, 1)]
        writer = IndexWriter(directory)
        with Log(directory, sync=False) as log:
            append(log, records[:indexed])
            while writer.step():
                pass
            writer.commit()
            append(log, records[indexed:])
            reader = Index(directory)
            try:
                yield reader.view()
            finally:
                reader.close()
                writer.close()


def everything(view: View) -> dict[Level, dict[str, Document]]:
    """All documents of a view."""
    return {
        level: {
            document.key: document
            for page in (view.tail_documents(level), *view.pages(level, Everything()))
            for document in page
        }
        for level in Level
    }


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(archives(), st.lists(questions(), min_size=5, max_size=15), st.data())
def test_plans_find_what_brute_force_finds_on_the_index(
    archive: list[Instance], asked: list[tuple[InformationModel, Level, dict[str, str]]], data: st.DataObject
) -> None:
    indexed = data.draw(st.one_of(st.just(0), st.just(len(archive)), st.integers(0, len(archive))))
    with stored(archive, indexed) as view:
        assert set(everything(view)[Level.IMAGE]) == {instance.uid for instance in archive}
        for model, level, keys in asked:
            options = FindOptions(
                relational=True,
                combined_datetime=data.draw(st.booleans()),
                fuzzy=data.draw(st.booleans()),
                timezone=data.draw(st.booleans()),
                multiple_value=data.draw(st.booleans()),
                match_unknown=data.draw(st.booleans()),
            )
            question = query(level, keys, model=model, options=options)
            found = found_by_plan(question, view)
            assert len(found) == len(set(found))
            assert set(found) == brute_force(question, archive)


@pytest.mark.parametrize("indexed", [0, 150, 300])
def test_F8_counts_equal_what_is_retrieved(indexed: int) -> None:
    archive = [
        Instance(f"P{n % 3}", f"1.{n % 6}", f"2.{n % 12}", f"9.{n}", {"InstanceNumber": str(n)}) for n in range(300)
    ]
    with stored(archive, indexed) as view:
        for level in (Level.PATIENT, Level.STUDY, Level.SERIES):
            for document in everything(view)[level].values():
                key = document.series if level is Level.SERIES else document.key
                request = RetrieveRequest(level, {level: (key,)})
                found = [image for page in instances(request, view) for image in page]
                assert len({image.key for image in found}) == len(found) == document.number_of_instances
                numbers = [int(image.values(0x0020_0013)[0]) for image in found if image.series == found[0].series]
                if level is not Level.PATIENT:
                    assert numbers == sorted(numbers)
