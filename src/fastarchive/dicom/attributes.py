"""Which attributes live at which level, and what kind of key each is (PS3.4 C.6.1.1, C.6.2.1, Tables C.6-1…5)."""

from collections.abc import Iterable, Mapping
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from fastarchive.dicom import uids
from fastarchive.dicom.dictionary import keyword_of, vr_of

SPECIFIC_CHARACTER_SET: Final = 0x00080005
QUERY_RETRIEVE_LEVEL: Final = 0x00080052
RETRIEVE_AE_TITLE: Final = 0x00080054
INSTANCE_AVAILABILITY: Final = 0x00080056
MODALITIES_IN_STUDY: Final = 0x00080061
SOP_CLASSES_IN_STUDY: Final = 0x00080062
TIMEZONE_OFFSET_FROM_UTC: Final = 0x00080201
SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
MODALITY: Final = 0x00080060
PATIENT_NAME: Final = 0x00100010
PATIENT_ID: Final = 0x00100020
STUDY_DATE: Final = 0x00080020
STUDY_TIME: Final = 0x00080030
ACCESSION_NUMBER: Final = 0x00080050
STUDY_ID: Final = 0x00200010
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E
SERIES_NUMBER: Final = 0x00200011
INSTANCE_NUMBER: Final = 0x00200013
NUMBER_OF_PATIENT_RELATED_STUDIES: Final = 0x00201200
NUMBER_OF_PATIENT_RELATED_SERIES: Final = 0x00201202
NUMBER_OF_PATIENT_RELATED_INSTANCES: Final = 0x00201204
NUMBER_OF_STUDY_RELATED_SERIES: Final = 0x00201206
NUMBER_OF_STUDY_RELATED_INSTANCES: Final = 0x00201208
NUMBER_OF_SERIES_RELATED_INSTANCES: Final = 0x00201209


class Level(StrEnum):
    """A Query/Retrieve Level (0008,0052), the outermost first; the value is the one sent (PS3.4 C.4.1.1.3.1)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"

    @property
    def depth(self) -> int:
        """0 for PATIENT to 3 for IMAGE."""
        return _DEPTH[self]

    @property
    def above(self) -> "tuple[Level, ...]":
        """The levels that enclose this one, the outermost first."""
        return _LEVELS[: _DEPTH[self]]

    @property
    def below(self) -> "tuple[Level, ...]":
        """The levels inside this one, the nearest first."""
        return _LEVELS[_DEPTH[self] + 1 :]


_LEVELS: Final = tuple(Level)
_DEPTH: Final[Mapping[Level, int]] = {level: depth for depth, level in enumerate(_LEVELS)}


class Kind(Enum):
    """The kind of a key (PS3.4 C.2.2.1)."""

    UNIQUE = "unique"
    REQUIRED = "required"
    OPTIONAL = "optional"


class Attribute(NamedTuple):
    """One attribute kept of every instance, at the level it describes."""

    tag: int
    keyword: str
    vr: str
    level: Level


_STORED: Final[Mapping[Level, tuple[int, ...]]] = {
    Level.PATIENT: (
        PATIENT_NAME,
        PATIENT_ID,
        0x00100021,  # Issuer of Patient ID
        0x00100030,  # Patient's Birth Date
        0x00100032,  # Patient's Birth Time
        0x00100040,  # Patient's Sex
        0x00101000,  # Other Patient IDs
        0x00101001,  # Other Patient Names
        0x00102160,  # Ethnic Group
        0x00104000,  # Patient Comments
    ),
    Level.STUDY: (
        STUDY_DATE,
        STUDY_TIME,
        ACCESSION_NUMBER,
        0x00080090,  # Referring Physician's Name
        0x00081030,  # Study Description
        0x00081048,  # Physician(s) of Record
        0x00081060,  # Name of Physician(s) Reading Study
        0x00081080,  # Admitting Diagnoses Description
        0x00101010,  # Patient's Age
        0x00101020,  # Patient's Size
        0x00101030,  # Patient's Weight
        0x00102180,  # Occupation
        0x001021B0,  # Additional Patient History
        STUDY_INSTANCE_UID,
        STUDY_ID,
    ),
    Level.SERIES: (
        0x00080021,  # Series Date
        0x00080031,  # Series Time
        MODALITY,
        0x00080070,  # Manufacturer
        0x00080080,  # Institution Name
        0x00081010,  # Station Name
        0x0008103E,  # Series Description
        0x00081050,  # Performing Physician's Name
        0x00081070,  # Operators' Name
        0x00081090,  # Manufacturer's Model Name
        0x00180015,  # Body Part Examined
        0x00181030,  # Protocol Name
        0x00185100,  # Patient Position
        SERIES_INSTANCE_UID,
        SERIES_NUMBER,
        0x00200052,  # Frame of Reference UID
        0x00200060,  # Laterality
        0x00400244,  # Performed Procedure Step Start Date
        0x00400245,  # Performed Procedure Step Start Time
    ),
    Level.IMAGE: (
        0x00080008,  # Image Type
        SOP_CLASS_UID,
        SOP_INSTANCE_UID,
        0x00080022,  # Acquisition Date
        0x00080023,  # Content Date
        0x0008002A,  # Acquisition DateTime
        0x00080032,  # Acquisition Time
        0x00080033,  # Content Time
        0x00200012,  # Acquisition Number
        INSTANCE_NUMBER,
        0x00280008,  # Number of Frames
        0x00280010,  # Rows
        0x00280011,  # Columns
        0x00280100,  # Bits Allocated
    ),
}

STORED_ATTRIBUTES: Final[Mapping[Level, tuple[Attribute, ...]]] = MappingProxyType(
    {
        level: tuple(Attribute(tag, keyword_of(tag), vr_of(tag), level) for tag in sorted(tags))
        for level, tags in _STORED.items()
    }
)
"""What the archive keeps of every instance for searching and answering, by tag within each level."""

EVERY_LEVEL_TAGS: Final = frozenset({SPECIFIC_CHARACTER_SET, TIMEZONE_OFFSET_FROM_UTC})
"""Stored with every entity: without them its text and times can't be read."""

PIXEL_TAGS: Final = frozenset(
    0x00280000 | element for element in (0x0002, 0x0004, 0x0006, 0x0008, 0x0010, 0x0011, 0x0100, 0x0101, 0x0102, 0x0103)
)
"""What describes the pixel data (PS3.3 C.7.6.3)."""

RECORD_TAGS: Final = EVERY_LEVEL_TAGS.union(tag for tags in _STORED.values() for tag in tags)
"""The attributes a record keeps: those of every level, the character set and the time zone."""

STORED_TAGS: Final = RECORD_TAGS | PIXEL_TAGS
"""What a header scan looks for when an instance comes in."""

UNIQUE_KEYS: Final[Mapping[Level, int]] = MappingProxyType(
    {
        Level.PATIENT: PATIENT_ID,
        Level.STUDY: STUDY_INSTANCE_UID,
        Level.SERIES: SERIES_INSTANCE_UID,
        Level.IMAGE: SOP_INSTANCE_UID,
    }
)

COMPUTED: Final[Mapping[int, Level]] = MappingProxyType(
    {
        MODALITIES_IN_STUDY: Level.STUDY,
        SOP_CLASSES_IN_STUDY: Level.STUDY,
        NUMBER_OF_PATIENT_RELATED_STUDIES: Level.PATIENT,
        NUMBER_OF_PATIENT_RELATED_SERIES: Level.PATIENT,
        NUMBER_OF_PATIENT_RELATED_INSTANCES: Level.PATIENT,
        NUMBER_OF_STUDY_RELATED_SERIES: Level.STUDY,
        NUMBER_OF_STUDY_RELATED_INSTANCES: Level.STUDY,
        NUMBER_OF_SERIES_RELATED_INSTANCES: Level.SERIES,
    }
)
"""Attributes derived from the entities below (PS3.4 C.3.4), and the level they describe."""

ANSWERED_AT_EVERY_LEVEL: Final = frozenset({RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY})
"""Attributes of the archive itself, answered at whatever level is asked (PS3.4 C.4.1.1.3.2)."""

LEVEL_OF: Final[Mapping[int, Level]] = MappingProxyType(
    {tag: level for level, tags in _STORED.items() for tag in tags} | dict(COMPUTED)
)
"""The level each stored or computed attribute describes, before an information model moves it."""

# Tables C.6-1 (patient), C.6-2 and C.6-5 (study), C.6-3 (series), C.6-4 (composite instance): R keys.
_REQUIRED: Final[Mapping[Level, frozenset[int]]] = {
    Level.PATIENT: frozenset({PATIENT_NAME}),
    Level.STUDY: frozenset({STUDY_DATE, STUDY_TIME, ACCESSION_NUMBER, STUDY_ID}),
    Level.SERIES: frozenset({MODALITY, SERIES_NUMBER}),
    Level.IMAGE: frozenset({INSTANCE_NUMBER}),
}


class InformationModel(Enum):
    """A Query/Retrieve Information Model (PS3.4 C.6); Patient/Study Only is retired, but still asked."""

    PATIENT_ROOT = "Patient Root"
    STUDY_ROOT = "Study Root"
    PATIENT_STUDY_ONLY = "Patient/Study Only"

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels of this model, the outermost first (rule Q2)."""
        return _MODEL_LEVELS[self]

    def level_of(self, tag: int) -> Level | None:
        """The level at which this model has `tag`; None if the archive keeps no such attribute.

        In Study Root the attributes of patients are attributes of studies (PS3.4 C.6.2.1.2, rule Q6). None as well
        for what belongs to no level in particular (ANSWERED_AT_EVERY_LEVEL, EVERY_LEVEL_TAGS).
        """
        level = LEVEL_OF.get(tag)
        if level is Level.PATIENT and self is InformationModel.STUDY_ROOT:
            return Level.STUDY
        return level if level in _MODEL_LEVELS[self] else None

    def kind_of(self, tag: int, level: Level) -> Kind | None:
        """What kind of key `tag` is at `level` (Tables C.6-1 to C.6-5); None if it is no supported key there."""
        if level not in _MODEL_LEVELS[self]:
            return None
        if tag in ANSWERED_AT_EVERY_LEVEL or tag == TIMEZONE_OFFSET_FROM_UTC:
            return Kind.OPTIONAL
        if self.level_of(tag) is not level:
            return None
        if tag == UNIQUE_KEYS[level]:
            return Kind.UNIQUE
        if tag in _REQUIRED[level]:
            return Kind.REQUIRED
        if self is InformationModel.STUDY_ROOT and tag in {PATIENT_NAME, PATIENT_ID}:
            return Kind.REQUIRED
        return Kind.OPTIONAL

    def keys_of(self, level: Level, kinds: Iterable[Kind] = Kind) -> tuple[int, ...]:
        """The tags this model has as keys of the given kinds at `level`, in order."""
        wanted = frozenset(kinds)
        known = LEVEL_OF.keys() | ANSWERED_AT_EVERY_LEVEL | {TIMEZONE_OFFSET_FROM_UTC}
        return tuple(tag for tag in sorted(known) if self.kind_of(tag, level) in wanted)


_MODEL_LEVELS: Final[Mapping[InformationModel, tuple[Level, ...]]] = {
    InformationModel.PATIENT_ROOT: _LEVELS,
    InformationModel.STUDY_ROOT: (Level.STUDY, Level.SERIES, Level.IMAGE),
    InformationModel.PATIENT_STUDY_ONLY: (Level.PATIENT, Level.STUDY),
}

Operation = Literal["FIND", "MOVE", "GET"]

_MODELS: Final[Mapping[str, tuple[InformationModel, Operation]]] = {
    uids.PATIENT_ROOT_FIND: (InformationModel.PATIENT_ROOT, "FIND"),
    uids.PATIENT_ROOT_MOVE: (InformationModel.PATIENT_ROOT, "MOVE"),
    uids.PATIENT_ROOT_GET: (InformationModel.PATIENT_ROOT, "GET"),
    uids.STUDY_ROOT_FIND: (InformationModel.STUDY_ROOT, "FIND"),
    uids.STUDY_ROOT_MOVE: (InformationModel.STUDY_ROOT, "MOVE"),
    uids.STUDY_ROOT_GET: (InformationModel.STUDY_ROOT, "GET"),
    uids.PATIENT_STUDY_ONLY_FIND: (InformationModel.PATIENT_STUDY_ONLY, "FIND"),
    uids.PATIENT_STUDY_ONLY_MOVE: (InformationModel.PATIENT_STUDY_ONLY, "MOVE"),
    uids.PATIENT_STUDY_ONLY_GET: (InformationModel.PATIENT_STUDY_ONLY, "GET"),
}


def model_of(sop_class: str) -> tuple[InformationModel, Operation] | None:
    """The information model and operation of a Query/Retrieve SOP class (PS3.4 C.6); None for any other."""
    return _MODELS.get(sop_class)
