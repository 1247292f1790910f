"""The population that large archives are filled with: computed, never kept, and as the archive finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import filling, population
from bench.copies import copied
from bench.expected import KINDS, questions
from bench.peers import Fastarchive
from bench.population import Population
from bench.questions import unique_key
from fastarchive.archive import Archive
from fastarchive.dicom.attributes import Level, model_of
from fastarchive.dicom.transfer_syntaxes import encoding_of
from fastarchive.query.execute import matches
from fastarchive.query.identifier import parse_find
from fastarchive.query.plan import plan
from fastarchive.query.respond import Responder
from fastarchive.upkeep.reindex import count_records, rebuild

EXPLICIT = "1.2.840.10008.1.2.1"


def test_every_study_has_its_patient_and_every_patient_its_studies() -> None:
    some = Population(3, 8_000)
    owners = [some.patient_of(number) for number in range(some.studies)]
    for patient in range(some.patients):
        assert some.studies_of(patient) == [number for number, owner in enumerate(owners) if owner == patient]
    assert {owners.count(patient) for patient in range(8)} == {1, 2, 3, 6}


def test_the_same_seed_makes_the_same_and_another_others() -> None:
    first, again, other = Population(1, 8_000), Population(1, 8_000), Population(2, 8_000)
    assert first.person(7) == again.person(7) != other.person(7)
    assert first.visit(7) == again.visit(7) != other.visit(7)
    assert first.name(7) == first.person(7).name


def test_sizes_are_skewed_and_about_what_was_asked_for() -> None:
    some = Population(1, 100_000)
    visits = [some.visit(number) for number in range(some.studies)]
    assert sum(visit.instances for visit in visits) == pytest.approx(100_000, rel=0.1)
    assert sum(visit.instances <= 2 for visit in visits) > some.studies / 3
    long = list(some.long_series())
    assert all(visit.lengths[series - 1] == population.LONG_SERIES for visit, series in long)
    assert {visit.number for visit, _ in long} == {v.number for v in visits if population.LONG_SERIES in v.lengths}
    assert long


def test_what_it_expects_is_what_an_archive_filled_with_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(population.INSTANCES, "tiny", 2_000)
    monkeypatch.setattr(Population, "long_series", lambda self: ((self.visit(number), 1) for number in (3, 5)))
    monkeypatch.setattr("bench.expected.LONG_SERIES", 1)
    folder = tmp_path / "tiny"
    some = filling.prepare(folder, "tiny", 1, content=True, processes=1)
    assert filling.prepare(folder, "tiny", 1, content=True).studies == some.studies  # used again
    with pytest.raises(RuntimeError, match="another"):
        filling.prepare(folder, "tiny", 2, content=True)
    instances = sum(some.visit(number).instances for number in range(some.studies))
    assert count_records(folder) == instances
    assert rebuild(folder, parts=2).records == instances
    encoding = encoding_of(EXPLICIT)
    known = model_of("1.2.840.10008.5.1.4.1.2.2.1")
    assert known is not None
    copy = Fastarchive(tmp_path / "copy")
    with copied(folder, copy.directory, copy.frozen), Archive.open(tmp_path / "copy", read_only=True) as archive:
        view = archive.index.view()
        assert view.tail_length == 0
        assert view.counts() == {
            Level.PATIENT: some.patients,
            Level.STUDY: some.studies,
            Level.SERIES: sum(len(some.visit(number).lengths) for number in range(some.studies)),
            Level.IMAGE: instances,
        }
        for kind, asked in questions(some, 12).items():
            assert kind in KINDS
            for question in asked:
                query = parse_find(question.identifier, encoding, known[0])
                responder = Responder(query, encoding, "AE")
                answers = [responder.identifier(one) for page in matches(plan(query, view), view) for one in page]
                tag = {"STUDY": 0x0020000D, "SERIES": 0x0020000E, "IMAGE": 0x00080018}[question.level]
                found = [unique_key(answer, tag) for answer in answers]
                expected = question.expected
                if kind == "images of a series of 500":
                    assert expected <= set(found)
                else:
                    assert sorted(found) == sorted(expected), kind
        uid = some.instance_uid(some.series_uid(0, 1), 1)
        assert archive.read(uid).read().endswith(bytes(range(32)))
    assert not (tmp_path / "copy").exists()
