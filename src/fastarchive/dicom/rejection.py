"""Rejection notes: Key Object Selection documents whose title says that what they name is rejected (PS3.16 CID 7011).

IHE's Imaging Object Change Management uses four of the titles to tell an archive what is not to be used any more.
"""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple

from fastarchive.dicom.data_sets import parse_sequence, walk
from fastarchive.dicom.elements import Element, ElementError
from fastarchive.dicom.transfer_syntaxes import encoding_of, is_deflated

KEY_OBJECT_SELECTION: Final = "1.2.840.10008.5.1.4.1.1.88.59"
EXPIRED: Final = "113039"
"""Data Retention Policy Expired: what is sent again after the note is taken as new."""
TITLES: Final = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    EXPIRED: "Data Retention Policy Expired",
}
"""Code values of the coding scheme DCM, and their meanings."""

LONGEST_NOTE: Final = 64 << 20
"""Bytes of a deflated note, inflated."""

_CODE_VALUE: Final = 0x00080100
_CODING_SCHEME: Final = 0x00080102
_CONCEPT_NAME_CODES: Final = 0x0040A043
_EVIDENCE: Final = 0x0040A375
_REFERENCED_SERIES: Final = 0x00081115
_REFERENCED_INSTANCES: Final = 0x00081199
_REFERENCED_INSTANCE_UID: Final = 0x00081155


class Rejection(NamedTuple):
    """What a note rejects, and why."""

    code: str
    """One of :data:`TITLES`."""
    instances: tuple[str, ...]
    """SOP Instance UIDs in the Current Requested Procedure Evidence Sequence (PS3.3 C.17.6.2.1)."""


def rejection_in(data_set: bytes, transfer_syntax: str) -> Rejection | None:
    """The rejection that a Key Object Selection document is; None if it is another one, or can't be read."""
    try:
        if is_deflated(transfer_syntax):
            data_set = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data_set, LONGEST_NOTE)
        elements = {element.tag: element for element in walk(data_set, encoding_of(transfer_syntax))}
        titles = [
            _text(title, _CODE_VALUE)
            for title in _items(elements, _CONCEPT_NAME_CODES)
            if _text(title, _CODING_SCHEME) == "DCM"
        ]
        code = next((title for title in titles if title in TITLES), None)
        if code is None:
            return None
        found = [
            _text(instance, _REFERENCED_INSTANCE_UID)
            for study in _items(elements, _EVIDENCE)
            for series in _items(study, _REFERENCED_SERIES)
            for instance in _items(series, _REFERENCED_INSTANCES)
        ]
    except (ElementError, zlib.error):
        return None
    return Rejection(code, tuple(dict.fromkeys(uid for uid in found if uid)))


def _items(elements: dict[int, Element], tag: int) -> list[dict[int, Element]]:
    element = elements.get(tag)
    return parse_sequence(element.value) if element is not None and element.vr == "SQ" else []


def _text(elements: dict[int, Element], tag: int) -> str:
    element = elements.get(tag)
    return element.value.decode("latin-1").strip(" \0") if element is not None else ""
