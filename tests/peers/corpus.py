"""All files of pydicom's wheel and of pydicom-data: what of them can be sent, as bytes, each under a UID of its own.

Many of the files are variants of one image under one SOP Instance UID. An archive keeps the first of those, so every
later variant gets its UID changed in place, to one of the same length; all other bytes stay as they are.
"""

from __future__ import annotations

import importlib.util
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from bench.encoding import data_set_offset, file_meta

DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"


@dataclass(frozen=True, slots=True)
class Sample:
    """One file as it can be stored. UIDs are empty where the file has none."""

    name: str
    sop_class: str
    sop_instance: str
    study: str
    series: str
    patient_id: str
    transfer_syntax: str
    data_set: bytes

    def file(self) -> bytes:
        """As a DICOM file with new File Meta Information."""
        return file_meta(self.sop_class, self.sop_instance, self.transfer_syntax) + self.data_set

    @property
    def lacks(self) -> tuple[str, ...]:
        """The UIDs without which an instance belongs nowhere and that this one doesn't have."""
        named = {
            "SOPClassUID": self.sop_class,
            "SOPInstanceUID": self.sop_instance,
            "StudyInstanceUID": self.study,
            "SeriesInstanceUID": self.series,
        }
        return tuple(name for name, value in named.items() if not value)


def roots() -> list[Path]:
    """The folders the files are in."""
    wheel = Path(pydicom.__file__).parent / "data"
    spec = importlib.util.find_spec("data_store")
    assert spec and spec.origin, "pydicom-data is not installed"
    return [wheel / "test_files", wheel / "charset_files", Path(spec.origin).parent / "data"]


def files() -> Iterator[Path]:
    """Every file, in a fixed order."""
    for root in roots():
        yield from sorted(path for path in root.rglob("*") if path.is_file())


def read_sample(path: Path) -> Sample | None:
    """The file as a sample; None when pydicom doesn't take it for DICOM or when it is a DICOMDIR."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
    except InvalidDicomError:
        return None
    meta = header.file_meta
    if "DirectoryRecordSequence" in header or meta.get("MediaStorageSOPClassUID") == MEDIA_STORAGE_DIRECTORY:
        return None
    content = path.read_bytes()
    return Sample(
        name=path.name,
        sop_class=str(header.get("SOPClassUID") or ""),
        sop_instance=str(header.get("SOPInstanceUID") or ""),
        study=str(header.get("StudyInstanceUID") or ""),
        series=str(header.get("SeriesInstanceUID") or ""),
        patient_id=str(header.get("PatientID") or "").strip(),
        transfer_syntax=str(meta.get("TransferSyntaxUID") or "1.2.840.10008.1.2"),
        data_set=content[data_set_offset(content) :],
    )


def with_instance_uid(sample: Sample, uid: str) -> Sample:
    """The same with another SOP Instance UID of the same length, in the data set too."""
    assert len(uid) == len(sample.sop_instance)
    data = sample.data_set
    if sample.transfer_syntax == DEFLATED:
        data = zlib.decompress(data, -zlib.MAX_WBITS)
    tag = b"\x00\x08\x00\x18" if sample.transfer_syntax == BIG_ENDIAN else b"\x08\x00\x18\x00"
    start = data.index(sample.sop_instance.encode(), data.index(tag))
    data = data[:start] + uid.encode() + data[start + len(uid) :]
    if sample.transfer_syntax == DEFLATED:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = packer.compress(data) + packer.flush()
        data += b"\0" * (len(data) % 2)
    return replace(sample, sop_instance=uid, data_set=data)


def variant_uid(uid: str, number: int) -> str:
    """Another valid UID of the same length."""
    digits = str(number)
    for end in range(len(uid), len(digits), -1):
        candidate = uid[: end - len(digits)] + digits + uid[end:]
        if candidate != uid and re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*", candidate):
            return candidate
    raise ValueError(f"{uid} has no room for {digits}")


@lru_cache(maxsize=1)
def samples() -> tuple[Sample, ...]:
    """Everything that is DICOM, in a fixed order, no two with the same SOP Instance UID (but for those without)."""
    taken: set[str] = set()
    result = []
    for path in files():
        sample = read_sample(path)
        if sample is None:
            continue
        number = 100
        original = sample.sop_instance
        while sample.sop_instance and sample.sop_instance in taken:
            number += 1
            uid = variant_uid(original, number)
            if uid not in taken:
                sample = with_instance_uid(sample, uid)
        taken.add(sample.sop_instance)
        result.append(sample)
    return tuple(result)


def whole() -> tuple[Sample, ...]:
    """Those that have all four UIDs."""
    return tuple(sample for sample in samples() if not sample.lacks)
