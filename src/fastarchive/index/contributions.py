"""What one record says about its patient, study, series and instance.

Text is turned into UTF-8 here, once, so nothing above knows of character sets. Most instances of a series say the same
about everything above them: :class:`Template` recognises that by comparing bytes, at a fifth of the cost.
"""

from __future__ import annotations

import re
import struct
import unicodedata
from collections.abc import Iterator
from typing import Final

from fastarchive.dicom.attributes import (
    EVERY_LEVEL_TAGS,
    LEVEL_OF,
    MODALITY,
    PATIENT_ID,
    PIXEL_TAGS,
    SPECIFIC_CHARACTER_SET,
    Level,
)
from fastarchive.dicom.charsets import CharacterSet
from fastarchive.index.documents import Contribution, text_values
from fastarchive.store.record import Location, Record

LONGEST_PATIENT_ID: Final = 1024
"""Characters of a Patient ID that tell patients apart (LO allows 64; index terms have to end somewhere)."""

_SHORT: Final = struct.Struct("<HH2sH")
_LONG: Final = struct.Struct("<I")
_LONG_VRS: Final = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_TEXT_VRS: Final = frozenset({b"LO", b"LT", b"PN", b"SH", b"ST", b"UC", b"UT"})
_BINARY_VRS: Final = frozenset({b"AT", b"FD", b"FL", b"SL", b"SS", b"UL", b"US", *_LONG_VRS}) - {b"UC", b"UR", b"UT"}
_PADDING: Final = b" \0\\^="
_ESCAPE: Final = b"\x1b"
_KATAKANA: Final = b"IR 13"  # the one set in which bytes below 0x80 aren't all ASCII (0x5C yen, 0x7E overline)
_INSTANCE_TAGS: Final = frozenset(tag for tag, level in LEVEL_OF.items() if level is Level.IMAGE) | PIXEL_TAGS
_CONTROL: Final = re.compile("[\0-\x1f\x7f]")


def _walk(data: bytes, position: int = 0) -> Iterator[tuple[int, bytes, bytes, int]]:
    """(tag, VR, value, end) of each element of a record's attributes; stops at anything malformed."""
    end = len(data)
    unpack = _SHORT.unpack_from
    while position + 8 <= end:
        group, element, vr, size = unpack(data, position)
        position += 8
        if vr in _LONG_VRS:
            if position + 4 > end:
                return
            (size,) = _LONG.unpack_from(data, position)
            position += 4
        value = data[position : position + size]
        position += size
        if position > end:
            return
        yield group << 16 | element, vr, value, position


def contribution_of(record: Record, location: Location) -> Contribution:
    """What `record` says, by level. Never fails: what can't be decoded is replaced, what is malformed left out."""
    elements: dict[Level, dict[int, bytes]] = {level: {} for level in Level}
    attributes = record.attributes
    transcode = _transcoder(attributes)
    for tag, vr, value, _ in _walk(attributes):
        if not _says_something(vr, value):
            continue
        if transcode is not None and vr in _TEXT_VRS:
            value = transcode.decode(value, vr.decode()).encode()  # noqa: PLW2901
        level = LEVEL_OF.get(tag)
        if level is not None:
            elements[level][tag] = value
        elif tag in EVERY_LEVEL_TAGS and tag != SPECIFIC_CHARACTER_SET:
            for each in elements.values():
                each[tag] = value
    modality = text_values(elements[Level.SERIES].get(MODALITY, b""), "CS")
    return Contribution(
        order=record.order(location),
        patient_id=patient_key(elements[Level.PATIENT].get(PATIENT_ID, b"")),
        study=record.study,
        series=record.series,
        instance=record.sop_instance,
        sop_class=record.sop_class,
        modality=modality[0] if modality else "",
        elements=elements,
    )


def _says_something(vr: bytes, value: bytes) -> bool:
    """Whether a value is more than padding and delimiters."""
    return bool(value if vr in _BINARY_VRS else value.strip(_PADDING))


def patient_key(value: bytes) -> str:
    """A Patient ID (UTF-8) as the key of a patient: stripped, in NFC, without control characters."""
    text = value.decode("utf-8", "replace").strip(" \0")[:LONGEST_PATIENT_ID]
    if not text.isprintable():
        text = _CONTROL.sub("", text)
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _transcoder(attributes: bytes) -> CharacterSet | None:
    """The character set to decode a record's text from; None when its text is UTF-8 as it is."""
    declared = None
    if attributes.startswith(b"\x08\x00\x05\x00CS"):
        declared = next(_walk(attributes))[2]
    if attributes.isascii() and _ESCAPE not in attributes and (declared is None or _KATAKANA not in declared):
        return None
    return CharacterSet.parse(declared)


class Template:
    """What a record said above the level of instances, as the bytes it said it with."""

    __slots__ = ("_blocks", "_common")

    def __init__(self, attributes: bytes) -> None:
        blocks: list[bytes] = []
        self._common: dict[int, bytes] = {}
        start = position = 0
        for tag, vr, value, end in _walk(attributes):
            if tag in EVERY_LEVEL_TAGS and tag != SPECIFIC_CHARACTER_SET and _says_something(vr, value):
                self._common[tag] = value
            if tag in _INSTANCE_TAGS:
                if position > start:
                    blocks.append(attributes[start:position])
                start = end
            position = end
        if position > start:
            blocks.append(attributes[start:position])
        self._blocks = blocks

    def instance_elements(self, attributes: bytes) -> dict[int, bytes] | None:
        """The elements of the instance, if everything else in `attributes` is as in the template; else None.

        Attributes with text of their own at the level of instances are never templates (their VR could need decoding):
        a text VR there gives None.
        """
        found = dict(self._common)
        blocks = iter(self._blocks)
        block = next(blocks, None)
        position, end = 0, len(attributes)
        unpack = _SHORT.unpack_from
        while position < end:
            if block is not None and attributes.startswith(block, position):
                position += len(block)
                block = next(blocks, None)
                continue
            if position + 8 > end:
                return None
            group, element, vr, size = unpack(attributes, position)
            tag = group << 16 | element
            if tag not in _INSTANCE_TAGS or vr in _LONG_VRS or vr in _TEXT_VRS:
                return None
            position += 8
            value = attributes[position : position + size]
            position += size
            if tag in LEVEL_OF and _says_something(vr, value):
                found[tag] = value
        return found if block is None and position == end else None
