"""What one record says about its patient, study, series and instance.

Text is turned into UTF-8 here, once, so nothing above knows of character sets. Most instances of a series say the same
about everything above them: :class:`Template` recognises that by comparing bytes, at a fifth of the cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from fastarchive.dicom.attributes import LEVEL_OF, MODALITY, PATIENT_ID, Level
from fastarchive.dicom.charsets import CharacterSet
from fastarchive.index.documents import Contribution, patient_key, text_values
from fastarchive.index.encoded import (
    BELOW_SERIES,
    BINARY_VRS,
    COMMON_TAGS,
    LONG_VRS,
    PADDING,
    SHORT,
    TEXT_VRS,
    encode_elements,
    walk,
)
from fastarchive.native import attributes as native
from fastarchive.store.record import Location, Record

_MOST_SHAPES: Final = 16


def contribution_of(record: Record, location: Location) -> Contribution:
    """What `record` says, by level. Never fails: what can't be decoded is replaced, what is malformed left out."""
    attributes = record.attributes
    elements, encoded = _by_level(attributes)
    modality = text_values(elements[Level.SERIES].get(MODALITY, b""), "CS")
    patient_id = patient_key(elements[Level.PATIENT].get(PATIENT_ID, b""))
    if not patient_id:
        elements[Level.PATIENT].pop(PATIENT_ID, None)  # nothing but control characters
    return Contribution(
        order=record.order(location),
        patient_id=patient_id,
        study=record.study,
        series=record.series,
        instance=record.sop_instance,
        sop_class=record.sop_class,
        modality=modality[0] if modality else "",
        elements=elements,
        encoded=encoded,
    )


KINDS: Final = native.Kinds(
    {
        tag: (native.EVERY_LEVEL if tag not in LEVEL_OF else LEVEL_OF[tag].depth)
        + (native.BELOW_SERIES if tag in BELOW_SERIES else 0)
        for tag in COMMON_TAGS | LEVEL_OF.keys()
    }
    | dict.fromkeys(BELOW_SERIES - LEVEL_OF.keys() - COMMON_TAGS, native.NONE + native.BELOW_SERIES)
)
"""What each attribute describes, for the functions in C."""


def _by_level(data: bytes) -> tuple[dict[Level, dict[int, bytes]], bytes]:
    """The elements that say something by the level they describe, text in UTF-8; those of the instance encoded, too."""
    characters = CharacterSet.parse(_declared(data))
    if native.split is None or not characters.begins_with_ascii or (found := native.split(data, KINDS)) is None:
        return split_by_level(data, characters)
    patient: dict[int, bytes] = {}
    study: dict[int, bytes] = {}
    series: dict[int, bytes] = {}
    image: dict[int, bytes] = {}
    levels = (patient, study, series, image)
    places, encoded = found
    transcoded = False
    for kind, text_vr, tag, start, end in places:
        value = data[start:end]
        if text_vr:
            value = characters.decode(value, text_vr.to_bytes(2, "little").decode()).encode()
            transcoded = transcoded or kind >= native.IMAGE
        if kind == native.EVERY_LEVEL:
            patient[tag] = study[tag] = series[tag] = image[tag] = value
        else:
            levels[kind][tag] = value
    elements = {Level.PATIENT: patient, Level.STUDY: study, Level.SERIES: series, Level.IMAGE: image}
    return elements, encode_elements(image) if transcoded else encoded


def split_by_level(data: bytes, characters: CharacterSet) -> tuple[dict[Level, dict[int, bytes]], bytes]:
    """The same by Python alone, and for elements in any order."""
    patient: dict[int, bytes] = {}
    study: dict[int, bytes] = {}
    series: dict[int, bytes] = {}
    image: dict[int, bytes] = {}
    places = {Level.PATIENT: patient, Level.STUDY: study, Level.SERIES: series, Level.IMAGE: image}
    unpack, end, position = SHORT.unpack_from, len(data), 0
    while position + 8 <= end:
        group, element, vr, size = unpack(data, position)
        position += 8
        if vr in LONG_VRS:
            if position + 4 > end:
                break
            size = int.from_bytes(data[position : position + 4], "little")
            position += 4
        value = data[position : position + size]
        position += size
        if position > end:
            break
        if not (value.strip(PADDING) or (value and vr in BINARY_VRS)):
            continue
        tag = group << 16 | element
        if vr in TEXT_VRS:
            value = characters.decode(value, vr.decode()).encode()
        level = LEVEL_OF.get(tag)
        if level is not None:
            places[level][tag] = value
        elif tag in COMMON_TAGS:
            patient[tag] = study[tag] = series[tag] = image[tag] = value
    return places, encode_elements(image)


def _declared(attributes: bytes) -> bytes | None:
    """The character set a record declares, which is its first element; None if it declares none."""
    if attributes.startswith(b"\x08\x00\x05\x00CS"):
        return next((value for _, _, value, _ in walk(attributes)), None)
    return None


class _Shape(NamedTuple):
    """Attributes of one length: which bytes must be equal, and where the elements of the instance are."""

    mask: int
    expected: int
    slices: list[tuple[int, int]]


def instance_part_by(first: bytes) -> Callable[[bytes], bytes | None]:
    """:meth:`Template.instance_part` of the template of the attributes `first`."""
    part = native.instance_part
    return Template(first).instance_part if part is None else lambda attributes: part(first, attributes, KINDS)


class Template:
    """What a record said above the level of instances, as the bytes it said it with.

    Records of a series mostly differ in a few values of known place and length. Per length of the attributes a mask
    says which bytes are not those values: one comparison of two long integers instead of a walk.
    """

    __slots__ = ("_common", "_learnt", "_shapes", "_static")

    def __init__(self, attributes: bytes) -> None:
        self._shapes: dict[int, _Shape] = {}
        self._common = b""
        self._static: bytes | None = None
        self._learnt = False
        self.instance_part(attributes)
        self._learnt = True

    def instance_part(self, attributes: bytes) -> bytes | None:
        """The elements of the instance, encoded, if everything else is as in the template; else None."""
        shape = self._shapes.get(len(attributes))
        if shape is None or int.from_bytes(attributes, "little") & shape.mask != shape.expected:
            shape = self._learn(attributes)
            if shape is None:
                return None
        return b"".join([attributes[start:end] for start, end in shape.slices]) + self._common

    def _learn(self, attributes: bytes) -> _Shape | None:
        mask = bytearray(b"\xff" * len(attributes))
        static: list[bytes] = []
        common: list[bytes] = []
        slices: list[tuple[int, int]] = []
        position = 0
        for tag, vr, value, end in walk(attributes):
            if tag in BELOW_SERIES:
                if vr in TEXT_VRS or vr in LONG_VRS:
                    return None  # its text could need another character set
                mask[end - len(value) : end] = bytes(len(value))
                if slices and slices[-1][1] == position:
                    slices[-1] = (slices[-1][0], end)
                else:
                    slices.append((position, end))
            else:
                static.append(attributes[position:end])
                if tag in COMMON_TAGS:
                    common.append(attributes[position:end])
            position = end
        static.append(attributes[position:])
        joined = b"".join(static)
        if self._static is None:
            if self._learnt:
                return None  # the first one had such text
            self._static, self._common = joined, b"".join(common)
        elif joined != self._static:
            return None
        number = int.from_bytes(mask, "little")
        shape = _Shape(number, int.from_bytes(attributes, "little") & number, slices)
        if len(self._shapes) < _MOST_SHAPES or len(attributes) in self._shapes:
            self._shapes[len(attributes)] = shape
        return shape
