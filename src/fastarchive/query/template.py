"""The identifiers of a query as a list of steps, for the C function that encodes answers straight from stored rows."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from fastarchive.dicom import attributes
from fastarchive.dicom.attributes import Level
from fastarchive.dicom.elements import Element, encode_element
from fastarchive.dicom.layout import LONG_VRS, WORD_SIZE
from fastarchive.dicom.transfer_syntaxes import Encoding
from fastarchive.index.documents import Document
from fastarchive.index.encoded import KEPT
from fastarchive.native import answers
from fastarchive.query.identifier import Key
from fastarchive.query.match import Match

WorkOut = Callable[[Document], bytes]

_COUNTED: Final = {
    attributes.NUMBER_OF_PATIENT_RELATED_STUDIES: answers.STUDIES,
    attributes.NUMBER_OF_PATIENT_RELATED_SERIES: answers.SERIES,
    attributes.NUMBER_OF_PATIENT_RELATED_INSTANCES: answers.INSTANCES,
    attributes.NUMBER_OF_STUDY_RELATED_SERIES: answers.SERIES,
    attributes.NUMBER_OF_STUDY_RELATED_INSTANCES: answers.INSTANCES,
    attributes.NUMBER_OF_SERIES_RELATED_INSTANCES: answers.INSTANCES,
    attributes.MODALITIES_IN_STUDY: answers.MODALITIES,
    attributes.SOP_CLASSES_IN_STUDY: answers.SOP_CLASSES,
}
"""What the row of an entity counts and lists."""


class RowTemplate(NamedTuple):
    """How the answers of a query are encoded from rows of its level."""

    template: answers.Template
    above: tuple[tuple[int, int, WorkOut | None], ...]
    """Depth and tag of each value that comes from an entity above, and how it comes about if it isn't stored."""

    def values_above(self, match: Match) -> list[bytes]:
        """Those values for a match, and for every other one below the same entities."""
        values = []
        for depth, tag, work_out in self.above:
            document = match[depth]
            if document is None:
                values.append(b"")
            else:
                values.append(document.pick((tag,))[0] if work_out is None else work_out(document))
        return values


def lay_out(keys: Sequence[Key], constants: dict[int, Element], encoding: Encoding) -> tuple[list[bytes], bytes]:
    """What comes before the length of each key's value in a little endian answer, and what comes after the last value.

    keys: in the order of their tags. The elements that are the same in every answer are in these bytes.
    """
    headers: list[bytes] = []
    waiting = sorted(constants)
    for key in keys:
        before = b""
        while waiting and waiting[0] < key.tag:
            before += encode_element(constants[waiting.pop(0)], encoding)
        vr = key.vr.encode() if encoding.explicit else b""
        reserved = b"\0\0" if vr in LONG_VRS else b""
        headers.append(before + struct.pack("<HH", key.tag >> 16, key.tag & 0xFFFF) + vr + reserved)
    return headers, b"".join(encode_element(constants[tag], encoding) for tag in waiting)


def row_template(
    level: Level,
    variables: Sequence[tuple[Key, WorkOut | None]],
    constants: dict[int, Element],
    encoding: Encoding,
    character_set: bytes,
) -> RowTemplate | None:
    """The template of answers with these elements; None when they take more than rows and values from above.

    variables: in the order of their tags, each with how its value comes about if it isn't stored. character_set: the
    element that comes first in an answer that is not ASCII; empty if such an answer isn't in UTF-8.
    """
    explicit, little = encoding
    if not little or len(variables) > answers.MOST_STEPS:
        return None
    steps: list[answers.Step] = []
    above: list[tuple[int, int, WorkOut | None]] = []
    headers, trailer = lay_out([key for key, _ in variables], constants, encoding)
    for (key, work_out), header in zip(variables, headers, strict=True):
        source, argument = answers.ELEMENT, key.tag
        if key.holder is not level:
            source, argument = answers.ABOVE, len(above)
            above.append((key.holder.depth, key.tag, work_out))
        elif work_out is not None:
            if key.tag not in _COUNTED:
                return None
            source = _COUNTED[key.tag]
        elif level is Level.IMAGE and key.tag not in KEPT:
            source = answers.NONE
        padding = 0 if key.vr == "UI" else 0x20
        is_text = key.vr not in WORD_SIZE
        length_size = 2 if explicit and key.vr.encode() not in LONG_VRS else 4
        steps.append(answers.Step(source, argument, header, length_size, is_text, padding))
    return RowTemplate(answers.Template(steps, trailer, character_set), tuple(above))
