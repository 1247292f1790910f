"""The head of a DICOM file (PS3.10 7): where its data set begins and how it is encoded.

A file is a 128-byte preamble, ``DICM``, the file meta information (group 0002, explicit VR little endian) and a data
set. Files in the field lack the preamble, parts of the meta information, or all of it; what can be told from the
first bytes of the data set is told, the rest is refused with a reason.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from fastarchive.dicom.dictionary import vr_of
from fastarchive.dicom.elements import Element, encode, encode_element
from fastarchive.dicom.layout import LONG_VRS, VR_NAMES
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE
from fastarchive.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

PREAMBLE_LENGTH: Final = 128
HEAD_LENGTH: Final = 64 * 1024
"""Bytes of a file that are enough to hold any reasonable file meta information."""

MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"
"""Media Storage Directory Storage: a DICOMDIR, an index of a medium and no instance of its own (PS3.3 F)."""

MAXIMUM_FIRST_LENGTH: Final = 4096
"""Bytes the first element of a data set without file meta information may have to be believed."""

_EXPLICIT_LITTLE_UID: Final = "1.2.840.10008.1.2.1"
_IMPLICIT_LITTLE_UID: Final = "1.2.840.10008.1.2"
_EXPLICIT_BIG_UID: Final = "1.2.840.10008.1.2.2"


class NotDicomFile(ValueError):
    """The bytes are not a DICOM file; the message says why."""


class FileHead(NamedTuple):
    """What stands before the data set of a file. Empty strings: not said by the file."""

    transfer_syntax: str
    data_set_offset: int
    sop_class: str
    sop_instance: str
    source_ae: str


def parse_file_head(head: bytes) -> FileHead:
    """Read the file meta information (PS3.10 7.1) from the first bytes of a file.

    ``head``: the first :data:`HEAD_LENGTH` bytes, or the whole file if it is shorter.

    Raises :class:`NotDicomFile` when neither meta information nor a data set can be recognised.
    """
    if len(head) < 8:
        raise NotDicomFile("the file is empty" if not head else "the file is too short to be DICOM")
    position = PREAMBLE_LENGTH + 4 if head[PREAMBLE_LENGTH : PREAMBLE_LENGTH + 4] == b"DICM" else 0
    values: dict[int, str] = {}
    for element, value, end in _meta_elements(head, position):
        values[element] = value
        position = end
    transfer_syntax = values.get(0x0010) or _guess_transfer_syntax(head, position)
    return FileHead(transfer_syntax, position, values.get(0x0002, ""), values.get(0x0003, ""), values.get(0x0016, ""))


def encode_file_head(transfer_syntax: str, sop_class: str, sop_instance: str, source_ae: str = "") -> bytes:
    """Preamble, prefix and file meta information (PS3.10 7.1) for a data set of these properties."""
    elements = [
        Element(0x00020001, "OB", b"\x00\x01"),
        Element(0x00020002, "UI", sop_class.encode("ascii")),
        Element(0x00020003, "UI", sop_instance.encode("ascii")),
        Element(0x00020010, "UI", transfer_syntax.encode("ascii")),
        Element(0x00020012, "UI", IMPLEMENTATION_CLASS_UID.encode("ascii")),
        Element(0x00020013, "SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
    ]
    if source_ae:
        elements.append(Element(0x00020016, "AE", source_ae.encode("ascii", "replace")))
    body = encode(elements, EXPLICIT_LITTLE)
    length = encode_element(Element(0x00020000, "UL", struct.pack("<I", len(body))), EXPLICIT_LITTLE)
    return bytes(PREAMBLE_LENGTH) + b"DICM" + length + body


def _meta_elements(head: bytes, position: int) -> Iterator[tuple[int, str, int]]:
    """Element number, text value and end offset of each element of group 0002 from ``position`` on."""
    while head[position : position + 2] == b"\x02\x00" and position + 8 <= len(head):
        (element,) = struct.unpack_from("<H", head, position + 2)
        vr = head[position + 4 : position + 6]
        if vr in LONG_VRS:
            if position + 12 > len(head):
                raise NotDicomFile("the file ends inside its file meta information")
            (length,) = struct.unpack_from("<I", head, position + 8)
            start = position + 12
        elif vr.isalpha() and vr.isupper():
            (length,) = struct.unpack_from("<H", head, position + 6)
            start = position + 8
        else:  # file meta information written in implicit VR, against the standard, but unambiguous
            (length,) = struct.unpack_from("<I", head, position + 4)
            start = position + 8
        position = start + length
        if position > len(head):
            raise NotDicomFile("the file ends inside its file meta information")
        yield element, head[start:position].rstrip(b"\0 ").decode("ascii", "replace"), position


def _guess_transfer_syntax(head: bytes, position: int) -> str:
    """The encoding of a data set without file meta information, told from its first element's tag and VR."""
    start = head[position : position + 8]
    if len(start) < 8:
        raise NotDicomFile("the file holds no data set")
    explicit = start[4:6] in VR_NAMES
    group, element = struct.unpack_from("<HH", start)
    big_group, _ = struct.unpack_from(">HH", start)
    if explicit and group:
        # Of the two readings the smaller group number is the true one: data sets begin with low groups.
        return _EXPLICIT_LITTLE_UID if group <= big_group else _EXPLICIT_BIG_UID
    (length,) = struct.unpack_from("<I", start, 4)
    if group and vr_of(group << 16 | element) != "UN" and length <= MAXIMUM_FIRST_LENGTH:
        return _IMPLICIT_LITTLE_UID
    raise NotDicomFile("neither a DICM prefix nor the beginning of a data set")
