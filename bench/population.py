"""A hospital's archive of any size, computed rather than kept: every patient, study and series follows from the seed.

Nothing is stored but the seed and the size, so the right answers to a question about ten million instances can be
worked out again at any time. Sizes are skewed as in hospitals: most studies are a radiograph or two, a few hold
hundreds of slices; most patients come once, some come often; studies arrive by date, but for old ones brought along.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import date, timedelta
from hashlib import blake2b
from typing import Final, NamedTuple

from bench.people import MIX, SCRIPTS, person_name


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


INSTANCES: Final = {"100k": 100_000, "1m": 1_000_000, "10m": 10_000_000}
"""Sizes by name: about so many instances, in a fifth as many studies of a tenth as many patients."""

_VISITS: Final = (1, 1, 1, 1, 1, 2, 3, 6)
"""Studies of each of eight patients in a row: 16."""
_OWNERS: Final = tuple(patient for patient, count in enumerate(_VISITS) for _ in range(count))
_SPREAD: Final = 2_654_435_761  # prime: steps through all visits in an order that looks like chance
_FIRST_DAY: Final = date(2014, 1, 1)
_DAYS: Final = 3652
_DAY_TEXTS: Final = tuple((_FIRST_DAY + timedelta(days=day)).strftime("%Y%m%d") for day in range(_DAYS))
_STOCK_SHARE: Final = 128  # of 256: those who have one of the common family names
_SYLLABLES: Final = _words(
    "ba ben bor cal cor dal dem der dor el fen gar gol hal har hol in kar kel kov lan lem lin lo mal mar mel mi"
    " mol nar nel nor o pal per por ra ren ri ro sal sel ser sol stan tal tam ter tor u val var ven ver vin wal wen"
    " wil yar zan"
)
_ENDINGS: Final = _words("son ski er man ez ini ford ley berg ton wood s kov ard ell")

_CT_LENGTHS: Final = (1, 1, 2, 2, 4, 6, 8, 10, 14, 18, 22, 30)
_MR_LENGTHS: Final = (1, 2, 2, 3, 3, 4, 5, 6)
LONG_SERIES: Final = 500
"""Images of the long series that one CT study in 512 has."""


class Kind(NamedTuple):
    """One sort of study."""

    modality: str
    sop_class: str
    rows: int
    columns: int
    bits: int
    description: str
    body_part: str


KINDS: Final = (
    Kind("CR", "1.2.840.10008.5.1.4.1.1.1", 2140, 1760, 16, "Chest PA and lateral", "CHEST"),
    Kind("DX", "1.2.840.10008.5.1.4.1.1.1.1", 3056, 2544, 16, "Knee left", "KNEE"),
    Kind("US", "1.2.840.10008.5.1.4.1.1.3.1", 768, 1024, 8, "Abdomen", "ABDOMEN"),
    Kind("CT", "1.2.840.10008.5.1.4.1.1.2", 512, 512, 16, "CT chest with contrast", "CHEST"),
    Kind("MR", "1.2.840.10008.5.1.4.1.1.4", 256, 256, 16, "Brain with contrast", "HEAD"),
    Kind("MG", "1.2.840.10008.5.1.4.1.1.1.2", 4096, 3328, 16, "Screening mammography", "BREAST"),
)
_KIND_OF: Final = (0,) * 74 + (1,) * 41 + (2,) * 51 + (3,) * 46 + (4,) * 31 + (5,) * 13  # of 256


class Person(NamedTuple):
    """A patient of the population."""

    number: int
    patient_id: str
    name: str
    script: str
    birth_date: str
    sex: str


class Visit(NamedTuple):
    """A study of the population."""

    number: int
    uid: str
    patient: int
    date: str
    time: str
    accession_number: str
    kind: Kind
    lengths: tuple[int, ...]
    """Instances of each of its series."""

    @property
    def instances(self) -> int:
        """How many instances it has."""
        return sum(self.lengths)


class Population:
    """`instances` / 10 patients with `instances` / 5 studies and about as many instances, in multiples of 80."""

    def __init__(self, seed: int, instances: int) -> None:
        self.seed = seed
        self.patients = max(1, instances // 80) * 8
        self.studies = 2 * self.patients
        self._inverse = pow(_SPREAD, -1, self.studies)

    def person(self, number: int) -> Person:
        """Patient `number`, from 0."""
        chance = self._chance(b"patient", number)
        script = MIX[chance[0] % len(MIX)]
        days = timedelta(days=chance[1] << 7 | chance[2] >> 1)
        return Person(
            number=number,
            patient_id=f"PAT{self.seed:03d}-{number:08d}",
            name=_name(script, chance),
            script=script,
            birth_date=(date(1928, 1, 1) + days).strftime("%Y%m%d"),
            sex="MF"[chance[3] & 1],
        )

    def name(self, number: int) -> str:
        """The name of patient `number`."""
        chance = self._chance(b"patient", number)
        return _name(MIX[chance[0] % len(MIX)], chance)

    def visit(self, number: int) -> Visit:
        """Study `number` in order of arrival, from 0."""
        day, kind, chance = self.when(number)
        seconds = chance[2] << 8 | chance[3]
        return Visit(
            number=number,
            uid=self.study_uid(number),
            patient=self.patient_of(number),
            date=day,
            time=f"{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}",
            accession_number=f"A{self.seed:02d}{number:08d}",
            kind=kind,
            lengths=_lengths(kind.modality, chance),
        )

    def when(self, number: int) -> tuple[str, Kind, bytes]:
        """Date and kind of study `number`, and the chance the rest of it is made from."""
        chance = self._chance(b"study", number)
        old = chance[0] < 38  # brought on a disc
        days = (chance[14] << 8 | chance[15]) % _DAYS if old else number * _DAYS // self.studies
        return _DAY_TEXTS[days], KINDS[_KIND_OF[chance[1]]], chance

    def patient_of(self, study: int) -> int:
        """The patient of study `study`."""
        place = study * _SPREAD % self.studies
        return place // 16 * 8 + _OWNERS[place % 16]

    def studies_of(self, patient: int) -> list[int]:
        """The studies of a patient, in order of arrival."""
        start = patient // 8 * 16
        places = (start + place for place, owner in enumerate(_OWNERS) if owner == patient % 8)
        return sorted(place * self._inverse % self.studies for place in places)

    def study_uid(self, number: int) -> str:
        """Study Instance UID of study `number`, under the UUID root 2.25 (PS3.5 B.2)."""
        return f"2.25.{int.from_bytes(self._chance(b'study uid', number), 'big')}"

    def series_uid(self, study: int, series: int) -> str:
        """Series Instance UID of series `series` (from 1) of study `study`."""
        return f"2.25.{int.from_bytes(self._chance(b'series uid', study << 8 | series), 'big')}"

    @staticmethod
    def instance_uid(series_uid: str, number: int) -> str:
        """SOP Instance UID of instance `number` (from 1) of a series."""
        return f"{series_uid[:58]}.{number}"

    def long_series(self) -> Iterator[tuple[Visit, int]]:
        """The studies with a series of :data:`LONG_SERIES` images, and the number of that series."""
        for number in range(self.studies):
            chance = self._chance(b"study", number)
            if KINDS[_KIND_OF[chance[1]]].modality == "CT" and _is_long(chance):
                visit = self.visit(number)
                yield visit, visit.lengths.index(LONG_SERIES) + 1

    def _chance(self, what: bytes, number: int) -> bytes:
        return blake2b(struct.pack("<QQ", self.seed, number), digest_size=16, person=what).digest()


def _name(script: str, chance: bytes) -> str:
    family, given = chance[4] << 8 | chance[5], chance[6] << 8 | chance[7]
    writing = SCRIPTS[script]
    if script not in ("english", "european") or chance[8] < _STOCK_SHARE:
        name = person_name(writing, family, given)
        return name if writing.romanised else f"{name}^{_letter(chance)}"
    stem = _SYLLABLES[chance[4] % len(_SYLLABLES)] + _SYLLABLES[chance[5] % len(_SYLLABLES)]
    ending = _ENDINGS[chance[9] % len(_ENDINGS)]
    return f"{stem.capitalize()}{ending}^{writing.given[given % len(writing.given)]}^{_letter(chance)}"


def _letter(chance: bytes) -> str:
    return "ABCDEFGHJKLMNPRSTVW"[chance[10] % 19]


def _is_long(chance: bytes) -> bool:
    return chance[11] == 0 and chance[12] < 128


def _lengths(modality: str, chance: bytes) -> tuple[int, ...]:
    pick = chance[11]
    match modality:
        case "CT":
            if _is_long(chance):
                return (2, LONG_SERIES, 40)
            return (1, _CT_LENGTHS[pick % 12], *(_CT_LENGTHS[chance[12] % 12],) * (chance[13] % 4 == 0))
        case "MR":
            return tuple(_MR_LENGTHS[value % 8] for value in chance[11 : 13 + pick % 2])
        case "US":
            return (1 + min(pick, chance[12]) % 8,)
        case "MG":
            return (4,) if pick % 4 else (4, 2)
        case _:
            return (1 + (pick % 3 == 0),) if pick % 8 else (1, 1)
