"""Unique identifiers: their syntax (PS3.5 section 9) and the well-known ones an archive speaks of (PS3.6 Annex A)."""

import re
from typing import Final

from fastarchive.dicom.tables import UIDS

# Chosen once for this implementation and never changed (PS3.7 D.3.3.2); derived from a UUID (PS3.5 B.2).
IMPLEMENTATION_CLASS_UID: Final = "2.25.69978874999758826802674294656090838440"
IMPLEMENTATION_VERSION_NAME: Final = "FASTARCHIVE_0"
"""At most 16 characters (PS3.7 D.3.3.2.3)."""

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"

VERIFICATION: Final = "1.2.840.10008.1.1"
STORAGE_COMMITMENT_PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
MODALITY_WORKLIST_FIND: Final = "1.2.840.10008.5.1.4.31"

PATIENT_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.1.1"
PATIENT_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
PATIENT_STUDY_ONLY_FIND: Final = "1.2.840.10008.5.1.4.1.2.3.1"
PATIENT_STUDY_ONLY_MOVE: Final = "1.2.840.10008.5.1.4.1.2.3.2"
PATIENT_STUDY_ONLY_GET: Final = "1.2.840.10008.5.1.4.1.2.3.3"

FIND_SOP_CLASSES: Final = frozenset({PATIENT_ROOT_FIND, STUDY_ROOT_FIND, PATIENT_STUDY_ONLY_FIND})
MOVE_SOP_CLASSES: Final = frozenset({PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE, PATIENT_STUDY_ONLY_MOVE})
GET_SOP_CLASSES: Final = frozenset({PATIENT_ROOT_GET, STUDY_ROOT_GET, PATIENT_STUDY_ONLY_GET})

# SOP classes with "Storage" in their name that store no composite instance over an association.
_NOT_COMPOSITE_STORAGE: Final = frozenset(
    {
        "1.2.840.10008.1.3.10",  # Media Storage Directory: exists on media only
        "1.2.840.10008.1.20.1",  # Storage Commitment Push Model
        "1.2.840.10008.1.20.2",  # Storage Commitment Pull Model
        "1.2.840.10008.5.1.1.27",  # Stored Print: normalized print management
    }
)
# Younger than the dictionary this is derived from.
_YOUNGER_STORAGE: Final = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation
        "1.2.840.10008.5.1.4.1.1.66.8",  # Height Map Segmentation
    }
)

STORAGE_SOP_CLASSES: Final[frozenset[str]] = _YOUNGER_STORAGE.union(
    uid
    for uid, (name, kind, *_) in UIDS.items()
    if kind == "SOP Class" and "Storage" in name and uid not in _NOT_COMPOSITE_STORAGE
)
"""Every composite storage SOP class of the standard, retired and trial ones included."""

_VALID_UID = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*\Z", re.ASCII)


def is_valid_uid(uid: str) -> bool:
    """Whether `uid` is well formed: 1 to 64 characters, numeric components without leading zeros (PS3.5 9.1)."""
    return len(uid) <= 64 and _VALID_UID.match(uid) is not None
