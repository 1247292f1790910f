"""Identifiers for tests, written with keywords."""

from __future__ import annotations

import struct

from fastarchive.dicom.attributes import InformationModel
from fastarchive.dicom.dictionary import tag_of, vr_of
from fastarchive.dicom.elements import Element, encode
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE, Encoding
from fastarchive.query.identifier import FindQuery, parse_find
from fastarchive.query.options import FindOptions


def identifier(
    level: str | None, encoding: Encoding = EXPLICIT_LITTLE, character_set: str = "", **keys: str | bytes | int
) -> bytes:
    """An encoded identifier; text as UTF-8 unless given as bytes."""
    elements = []
    if level is not None:
        elements.append(Element(tag_of("QueryRetrieveLevel"), "CS", level.encode()))
    if character_set:
        elements.append(Element(tag_of("SpecificCharacterSet"), "CS", character_set.encode()))
    for keyword, value in keys.items():
        tag = tag_of(keyword)
        if isinstance(value, int):
            value = struct.pack("<H", value)  # noqa: PLW2901
        elements.append(Element(tag, vr_of(tag), value if isinstance(value, bytes) else value.encode()))
    return encode(elements, encoding)


def query(
    level: str,
    model: InformationModel = InformationModel.STUDY_ROOT,
    options: FindOptions | None = None,
    character_set: str = "ISO_IR 192",
    **keys: str | bytes | int,
) -> FindQuery:
    """A parsed query."""
    return parse_find(identifier(level, character_set=character_set, **keys), EXPLICIT_LITTLE, model, options)
