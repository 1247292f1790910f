"""Where the instances of one study say different things about their patient or their study.

The document of a study tells what the first of its instances said; that others said something else is noted beside it.
An attribute that only some instances have, and spelling that makes no difference in matching (padding, trailing empty
components of a name, the form of composed characters), are no disagreement.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from fastarchive.dicom.attributes import STORED_ATTRIBUTES, Level
from fastarchive.dicom.dictionary import vr_of
from fastarchive.index.documents import Contribution, text_values

DISAGREEMENT: Final = "D"
"""Kind of the notes that list the attributes in which the instances of a study disagree; the name is its UID."""

COMPARED: Final = frozenset(
    attribute.tag for level in (Level.PATIENT, Level.STUDY) for attribute in STORED_ATTRIBUTES[level]
)
"""The attributes that are the same in all instances of a study (PS3.3 A.1.2)."""


def meant(tag: int, value: bytes) -> tuple[str, ...]:
    """What a value (UTF-8) says, in the one form in which values are compared."""
    vr = vr_of(tag)
    values = tuple(unicodedata.normalize("NFC", each) for each in text_values(value, vr))
    if vr == "PN":
        values = tuple("=".join(group.rstrip("^ ") for group in each.split("=")).rstrip("=") for each in values)
    return values


def statements(contribution: Contribution) -> Iterator[tuple[int, bytes]]:
    """What an instance says of its patient and its study: tag and value."""
    for level in (Level.PATIENT, Level.STUDY):
        for tag, value in contribution.elements[level].items():
            if tag in COMPARED:
                yield tag, value


def disagreeing(known: Mapping[int, bytes], contribution: Contribution) -> set[int]:
    """The attributes of which an instance says something else than is known of its study."""
    return {
        tag
        for tag, value in statements(contribution)
        if (other := known.get(tag)) is not None and other != value and meant(tag, other) != meant(tag, value)
    }


def disagreeing_among(contributions: Iterable[Contribution]) -> set[int]:
    """The attributes in which instances of one study disagree."""
    known: dict[int, bytes] = {}
    found: set[int] = set()
    for contribution in contributions:
        found |= disagreeing(known, contribution)
        known.update(statements(contribution))
    return found


def encode_tags(tags: Iterable[int]) -> bytes:
    """Attributes as a note; empty for none."""
    return ",".join(f"{tag:08x}" for tag in sorted(tags)).encode()


def decode_tags(note: bytes | None) -> frozenset[int]:
    """The attributes in a note."""
    return frozenset(int(tag, 16) for tag in note.decode().split(",")) if note else frozenset()
