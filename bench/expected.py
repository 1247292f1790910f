"""Questions to a population, with the answers that are right worked out in one pass over it."""

from __future__ import annotations

import random
from typing import Final, NamedTuple

from bench.population import LONG_SERIES, Population
from bench.questions import Question, folded, identifier


class Kind(NamedTuple):
    """A kind of question, and what is expected of it."""

    first: bool
    """Whether it is judged by its first answer rather than by all."""
    p50_ms: float
    p99_ms: float
    growth: float
    """How many times slower it may be with ten times as many instances."""
    whole_every: int = 1
    """Of which number of questions one is read to its end; the others are cancelled after their first answer."""


KINDS: Final = {
    "study by UID": Kind(False, 1, 5, 1.5),
    "by PatientID": Kind(False, 1, 5, 1.5),
    "by AccessionNumber": Kind(False, 1, 5, 1.5),
    "name SMITH*": Kind(True, 3, 10, 2, 10),
    "name *SMI*": Kind(True, 3, 10, 2, 10),
    "name 王*": Kind(True, 3, 10, 2, 10),
    "month and modality": Kind(True, 5, 15, 2, 4),
    "series of a study": Kind(False, 3, 10, 1.2),
    "images of a series of 500": Kind(False, 3, 10, 1.2),
    "all studies": Kind(True, 0, 0, 0),
}

_PREFIXES: Final = ("SMITH", "GARCIA", "COOPER", "Müller", "Kalben")
_INFIXES: Final = ("SMI", "son^M", "ünt", "lenberg", "ski^")
_IDEOGRAPHS: Final = ("王", "欧阳", "朱", "山田")


def questions(population: Population, each: int, seed: int = 1) -> dict[str, list[Question]]:
    """{kind: `each` questions}; the same for the same population and seed."""
    if not each:
        return {"all studies": [Question(identifier("STUDY", {}), "STUDY", frozenset())]}
    chance = random.Random(seed)
    studies = [population.visit(chance.randrange(population.studies)) for _ in range(each)]
    months = [(visit.date[:6], visit.kind.modality) for visit in studies]
    patterns = {
        "name SMITH*": [f"{text}*" for text in _PREFIXES],
        "name *SMI*": [f"*{text}*" for text in _INFIXES],
        "name 王*": [f"{text}*" for text in _IDEOGRAPHS],
    }
    named = _studies_by_name(population, [pattern for kind in patterns.values() for pattern in kind])
    dated = _studies_by_month(population, set(months))
    asked: dict[str, list[Question]] = {
        "study by UID": [_study({0x0020000D: visit.uid}, [visit.uid]) for visit in studies],
        "by PatientID": [
            _study(
                {0x00100020: population.person(visit.patient).patient_id},
                [population.study_uid(number) for number in population.studies_of(visit.patient)],
            )
            for visit in studies
        ],
        "by AccessionNumber": [_study({0x00080050: visit.accession_number}, [visit.uid]) for visit in studies],
    }
    for kind, texts in patterns.items():
        those = [Question(identifier("STUDY", {0x00100010: text}), "STUDY", named[text]) for text in texts]
        asked[kind] = [those[number % len(those)] for number in range(each)]
    asked["month and modality"] = [
        Question(
            identifier("STUDY", {0x00080020: f"{month}01-{month}31", 0x00080061: modality}),
            "STUDY",
            dated[month, modality],
        )
        for month, modality in months
    ]
    asked["series of a study"] = [
        Question(
            identifier("SERIES", {0x0020000D: visit.uid}),
            "SERIES",
            frozenset(population.series_uid(visit.number, series) for series in range(1, len(visit.lengths) + 1)),
        )
        for visit in studies
    ]
    long = [(visit.uid, population.series_uid(visit.number, series)) for visit, series in population.long_series()]
    picked = [chance.choice(long) for _ in range(each)]
    asked["images of a series of 500"] = [
        Question(
            identifier("IMAGE", {0x0020000D: study, 0x0020000E: series}),
            "IMAGE",
            frozenset(population.instance_uid(series, number) for number in range(1, LONG_SERIES + 1)),
        )
        for study, series in picked
    ]
    return asked


def _study(keys: dict[int, str], expected: list[str]) -> Question:
    return Question(identifier("STUDY", keys), "STUDY", frozenset(expected))


def _studies_by_name(population: Population, patterns: list[str]) -> dict[str, frozenset[str]]:
    patients: dict[str, list[int]] = {pattern: [] for pattern in patterns}
    texts = [(pattern, folded(pattern.strip("*")), pattern.startswith("*")) for pattern in patterns]
    for number in range(population.patients):
        name = folded(population.name(number))
        for pattern, text, anywhere in texts:
            if text in name and (anywhere or any(group.startswith(text) for group in name.split("="))):
                patients[pattern].append(number)
    return {
        pattern: frozenset(population.study_uid(study) for number in numbers for study in population.studies_of(number))
        for pattern, numbers in patients.items()
    }


def _studies_by_month(population: Population, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], frozenset[str]]:
    found: dict[tuple[str, str], list[str]] = {month: [] for month in wanted}
    for number in range(population.studies):
        day, kind, _ = population.when(number)
        studies = found.get((day[:6], kind.modality))
        if studies is not None:
            studies.append(population.study_uid(number))
    return {month: frozenset(studies) for month, studies in found.items()}
