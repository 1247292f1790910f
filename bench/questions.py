"""The questions workstations ask all day, with the answers that are right: generated data knows what it holds."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.encoding import element
from bench.modality import Instance, Study
from bench.process import percentile
from bench.requestor import STUDY_ROOT_FIND, Found, Requestor

_KEYS = {"STUDY": 0x0020000D, "SERIES": 0x0020000E, "IMAGE": 0x00080018}
_VRS = {
    0x00080018: "UI",
    0x00080020: "DA",
    0x00080050: "SH",
    0x00080061: "CS",
    0x00100010: "PN",
    0x00100020: "LO",
    0x0020000D: "UI",
    0x0020000E: "UI",
}
_RETURNS = {
    "STUDY": (
        (0x00080020, "DA"),
        (0x00080030, "TM"),
        (0x00080050, "SH"),
        (0x00080061, "CS"),
        (0x00081030, "LO"),
        (0x00100010, "PN"),
        (0x00100020, "LO"),
        (0x00100030, "DA"),
        (0x0020000D, "UI"),
        (0x00201206, "IS"),
        (0x00201208, "IS"),
    ),
    "SERIES": (
        (0x00080060, "CS"),
        (0x0008103E, "LO"),
        (0x0020000D, "UI"),
        (0x0020000E, "UI"),
        (0x00200011, "IS"),
        (0x00201209, "IS"),
    ),
    "IMAGE": (
        (0x00080016, "UI"),
        (0x00080018, "UI"),
        (0x0020000D, "UI"),
        (0x0020000E, "UI"),
        (0x00200013, "IS"),
    ),
}


@dataclass(frozen=True, slots=True)
class Question:
    """One C-FIND identifier of the Study Root model, in Explicit VR Little Endian, and the unique keys it must find."""

    identifier: bytes
    level: str
    expected: frozenset[str]

    def ask(self, association: Requestor) -> Found:
        """Put it over an association that has a Study Root FIND context."""
        return association.find(STUDY_ROOT_FIND, self.identifier)

    def found(self, answers: Found) -> frozenset[str]:
        """The unique keys of the level in the answers."""
        return frozenset(unique_key(identifier, _KEYS[self.level]) for identifier in answers.identifiers)


def identifier(level: str, keys: dict[int, str]) -> bytes:
    """A query at a level: these matching keys, and what a workstation's list shows as return keys."""
    wanted = {tag: element(tag, vr, "") for tag, vr in _RETURNS[level]}
    wanted[0x00080052] = element(0x00080052, "CS", level)
    wanted |= {
        tag: element(tag, _VRS[tag], value if value.isascii() else value.encode()) for tag, value in keys.items()
    }
    if not all(value.isascii() for value in keys.values()):
        wanted[0x00080005] = element(0x00080005, "CS", "ISO_IR 192")
    return b"".join(wanted[tag] for tag in sorted(wanted))


def unique_key(answer: bytes, tag: int) -> str:
    """The UID under `tag` in an answer in Explicit VR Little Endian; empty without one."""
    start = answer.find(element(tag, "UI", "")[:6])
    if start < 0:
        return ""
    length = int.from_bytes(answer[start + 6 : start + 8], "little")
    return answer[start + 8 : start + 8 + length].decode("ascii", "replace").rstrip("\0 ")


def folded(name: str) -> str:
    """A name without case and accents, as archives compare them."""
    plain = unicodedata.normalize("NFD", name)
    return "".join(character for character in plain if not unicodedata.combining(character)).casefold()


class Catalogue:
    """What was generated, to make questions from and to know their answers."""

    def __init__(self, instances: Iterable[Instance]) -> None:
        """Data sets are not needed; pass instances as they are generated, nothing of them is kept but UIDs."""
        self.studies: dict[str, Study] = {}
        self.series_of: dict[str, dict[str, None]] = {}
        self.images_of: dict[str, list[str]] = {}
        self.study_of: dict[str, str] = {}
        for instance in instances:
            self.add(instance)

    def add(self, instance: Instance) -> None:
        """Note one more instance."""
        study = instance.study.uid
        self.studies[study] = instance.study
        self.series_of.setdefault(study, {})[instance.series] = None
        self.images_of.setdefault(instance.series, []).append(instance.sop_instance)
        self.study_of[instance.series] = study

    @property
    def count(self) -> int:
        """How many instances there are."""
        return sum(map(len, self.images_of.values()))

    def questions(self, each: int, seed: int = 1) -> dict[str, list[Question]]:
        """{what is asked: `each` questions of that sort with different values}; the same for the same seed."""
        chance = random.Random(seed)
        studies = chance.choices(list(self.studies.values()), k=each)
        series = chance.choices(list(self.images_of), k=each)
        return {
            "StudyInstanceUID": [self._study({0x0020000D: study.uid}) for study in studies],
            "PatientID": [self._study({0x00100020: study.patient.patient_id}) for study in studies],
            "AccessionNumber": [self._study({0x00080050: study.accession_number}) for study in studies],
            "PatientName *XYZ*": [
                self._study({0x00100010: f"*{chance.choice(_PIECES)}*"}) for _ in range(max(each // 4, 1))
            ],
            "StudyDate, a month": [
                self._study({0x00080020: f"{study.date[:6]}01-{study.date[:6]}31"}) for study in studies
            ],
            "StudyDate, a year": [
                self._study({0x00080020: f"{study.date[:4]}0101-{study.date[:4]}1231"})
                for study in studies[: max(each // 4, 1)]
            ],
            "series of a study": [
                Question(identifier("SERIES", {0x0020000D: study.uid}), "SERIES", frozenset(self.series_of[study.uid]))
                for study in studies
            ],
            "images of a series": [
                Question(
                    identifier("IMAGE", {0x0020000D: self.study_of[uid], 0x0020000E: uid}),
                    "IMAGE",
                    frozenset(self.images_of[uid]),
                )
                for uid in series
            ],
            "all studies": [self._study({})] * max(each // 40, 1),
        }

    def _study(self, keys: dict[int, str]) -> Question:
        expected = frozenset(uid for uid, study in self.studies.items() if _matches(study, keys))
        return Question(identifier("STUDY", keys), "STUDY", expected)


_PIECES = ("SMI", "GAR", "MART", "son", "ella", "CHA", "ker", "ill", "ROB", "hew")


def _matches(study: Study, keys: dict[int, str]) -> bool:
    held = {
        0x0020000D: study.uid,
        0x00100020: study.patient.patient_id,
        0x00080050: study.accession_number,
    }
    for tag, value in keys.items():
        if tag == 0x00100010:
            if folded(value.strip("*")) not in folded(study.patient.name):
                return False
        elif tag == 0x00080020:
            first, _, last = value.partition("-")
            if not first <= study.date <= last:
                return False
        elif held[tag] != value:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Answered:
    """How one sort of question went."""

    kind: str
    asked: int
    answers: float
    """Mean number of answers."""
    first_p50_ms: float
    whole_p50_ms: float
    whole_p99_ms: float
    wrong: int
    """Questions whose answers were not exactly the expected ones."""


def ask_all(association: Requestor, kind: str, questions: Sequence[Question]) -> tuple[Answered, list[Found]]:
    """Ask one after the other over one association."""
    results = [question.ask(association) for question in questions]
    wrong = sum(
        found.response.status != 0
        or question.found(found) != question.expected
        or len(found.identifiers) != len(question.expected)
        for question, found in zip(questions, results, strict=True)
    )
    whole = [found.whole * 1000 for found in results]
    answered = Answered(
        kind=kind,
        asked=len(questions),
        answers=sum(len(found.identifiers) for found in results) / len(results),
        first_p50_ms=percentile((found.first * 1000 for found in results), 0.5),
        whole_p50_ms=percentile(whole, 0.5),
        whole_p99_ms=percentile(whole, 0.99),
        wrong=wrong,
    )
    return answered, results
