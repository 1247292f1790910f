"""Small instances for tests that need some and care little which."""

from __future__ import annotations

from pathlib import Path

from fastarchive.dicom.data_sets import encode
from fastarchive.dicom.elements import Element
from fastarchive.dicom.part10 import encode_file_head
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE

EXPLICIT_LITTLE_UID = "1.2.840.10008.1.2.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_ROOT = "1.2.826.0.1.3680043.10.543"


def sop_instance_uid(number: int) -> str:
    """The SOP Instance UID of the small instance of that number."""
    return f"{_ROOT}.{number}.3"


def small_instance(number: int, *, pixels: int = 64) -> bytes:
    """A data set (explicit little endian) of about ``pixels`` bytes, whole rows of 1000 if more; ten are one study."""
    study = number // 10
    text = {
        0x00080016: ("UI", SECONDARY_CAPTURE),
        0x00080018: ("UI", sop_instance_uid(number)),
        0x00080020: ("DA", f"202401{study % 28 + 1:02d}"),
        0x00080060: ("CS", "OT"),
        0x00100010: ("PN", f"TEST^NUMBER{study}"),
        0x00100020: ("LO", f"P{study}"),
        0x0020000D: ("UI", f"{_ROOT}.{study}.1"),
        0x0020000E: ("UI", f"{_ROOT}.{study}.2"),
        0x00200013: ("IS", str(number)),
    }
    elements = [Element(tag, vr, value.encode()) for tag, (vr, value) in text.items()]
    numbers = {
        0x00280002: 1,
        0x00280010: max(1, pixels // 1000),
        0x00280011: min(1000, pixels),
        0x00280100: 8,
        0x00280101: 8,
        0x00280102: 7,
    }
    elements += [Element(tag, "US", value.to_bytes(2, "little")) for tag, value in numbers.items()]
    elements.append(Element(0x00280004, "CS", b"MONOCHROME2"))
    elements.append(Element(0x7FE00010, "OB", bytes(position % 251 for position in range(pixels))))
    return encode(elements, EXPLICIT_LITTLE)


def write_instances(folder: Path, numbers: range, *, pixels: int = 64) -> list[Path]:
    """The small instances of these numbers as DICOM files in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in numbers:
        head = encode_file_head(EXPLICIT_LITTLE_UID, SECONDARY_CAPTURE, sop_instance_uid(number))
        files.append(folder / f"{number:06d}.dcm")
        files[-1].write_bytes(head + small_instance(number, pixels=pixels))
    return files
