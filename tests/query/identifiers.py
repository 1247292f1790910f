"""Identifiers for tests, written with keywords."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType

from fastarchive.dicom.attributes import InformationModel
from fastarchive.dicom.dictionary import tag_of, vr_of
from fastarchive.dicom.elements import Element, encode
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE, Encoding
from fastarchive.query.identifier import FindQuery, parse_find
from fastarchive.query.options import FindOptions

Keys = Mapping[str, str | bytes | int]


def identifier(
    level: str | None,
    given: Keys = MappingProxyType({}),
    *,
    encoding: Encoding = EXPLICIT_LITTLE,
    character_set: str = "",
    **keys: str | bytes | int,
) -> bytes:
    """An encoded identifier of keys by keyword; text as UTF-8 unless given as bytes."""
    elements = []
    if level is not None:
        elements.append(Element(tag_of("QueryRetrieveLevel"), "CS", level.encode()))
    if character_set:
        elements.append(Element(tag_of("SpecificCharacterSet"), "CS", character_set.encode()))
    for keyword, value in {**given, **keys}.items():
        tag = tag_of(keyword)
        if isinstance(value, int):
            value = struct.pack("<H", value)  # noqa: PLW2901
        elements.append(Element(tag, vr_of(tag), value if isinstance(value, bytes) else value.encode()))
    return encode(elements, encoding)


def query(
    level: str,
    given: Keys = MappingProxyType({}),
    *,
    model: InformationModel = InformationModel.STUDY_ROOT,
    options: FindOptions | None = None,
    character_set: str = "ISO_IR 192",
    **keys: str | bytes | int,
) -> FindQuery:
    """A parsed query."""
    data = identifier(level, {**given, **keys}, character_set=character_set)
    return parse_find(data, EXPLICIT_LITTLE, model, options)
