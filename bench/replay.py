"""Replay of a folder of DICOM files with fresh UIDs, as often as wanted; every other byte stays as it was.

Only the UIDs that say *which* instance, series, study, frame of reference or event change (PS3.15 E.1 lists them as
replaced); within one copy the same old UID always becomes the same new one, so that references hold. A new UID is as
as long as the old one, unless that is too short to be told from others: then the lengths around it change, too.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from pathlib import Path

from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.errors import InvalidDicomError

from bench.encoding import data_set_of, data_set_offset
from bench.stock import Prepared

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

REPLACED = frozenset(
    {
        0x00020003,  # Media Storage SOP Instance UID
        0x00080018,  # SOP Instance UID
        0x00080058,  # Failed SOP Instance UID List
        0x00081155,  # Referenced SOP Instance UID
        0x00081195,  # Transaction UID
        0x00083010,  # Irradiation Event UID
        0x0020000D,  # Study Instance UID
        0x0020000E,  # Series Instance UID
        0x00200052,  # Frame of Reference UID
        0x00200200,  # Synchronization Frame of Reference UID
        0x00200242,  # SOP Instance UID of Concatenation Source
        0x00209161,  # Concatenation UID
        0x00209164,  # Dimension Organization UID
        0x0040A124,  # UID
        0x00620021,  # Tracking UID
        0x0070031A,  # Fiducial UID
        0x00701101,  # Presentation Display Collection UID
        0x00880140,  # Storage Media File-set UID
        0x30060024,  # Referenced Frame of Reference UID
        0x300600C2,  # Related Frame of Reference UID
        0x300A0013,  # Dose Reference UID
    }
)

_LONG_FORM = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
_SHORTEST = 30
"""A UID shorter than this has too few digits to be different from all others."""

Mapping = Callable[[str], str]


class UnreadableError(ValueError):
    """A file that is no DICOM data set as far as the bytes go."""


@dataclass(frozen=True, slots=True)
class _Syntax:
    order: str
    """`<` or `>`."""
    explicit: bool


def fresh_uids(seed: int, copy: int) -> Mapping:
    """A mapping of UIDs for copy `copy`: deterministic, so that files can be mapped one by one."""

    def fresh(uid: str) -> str:
        # Well-known UIDs (frames of reference of atlases among them) mean the same everywhere.
        if not uid or uid.startswith("1.2.840.10008."):
            return uid
        digits = (len(uid) if len(uid) >= _SHORTEST else 44) - len("2.25.")
        number = int.from_bytes(blake2b(f"{seed} {copy} {uid}".encode(), digest_size=32).digest(), "big")
        # A UUID has at most 39 digits (PS3.5 B.2), and 38 are always one; what is longer gets a further component.
        own = digits if digits <= 38 else 37
        return f"2.25.{number % (9 * 10 ** (own - 1)) + 10 ** (own - 1)}" + ("." + "1" * (digits - 38)) * (digits > 38)

    return fresh


def with_fresh_uids(data_set: bytes, transfer_syntax: str, mapping: Mapping) -> bytes:
    """A data set with its UIDs mapped. Raises UnreadableError for bytes that are not one.

    A deflated data set is inflated and deflated anew, its inflated bytes are otherwise the same.
    """
    if transfer_syntax == DEFLATED:
        try:
            inflated = zlib.decompress(data_set, wbits=-15)
        except zlib.error as error:
            raise UnreadableError(str(error)) from error
        deflating = zlib.compressobj(wbits=-15)
        return deflating.compress(_rewrite(inflated, _Syntax("<", True), mapping)) + deflating.flush()
    order = ">" if transfer_syntax == EXPLICIT_BIG else "<"
    return _rewrite(data_set, _Syntax(order, transfer_syntax != IMPLICIT_LITTLE), mapping)


def _rewrite(data: bytes, syntax: _Syntax, mapping: Mapping) -> bytes:
    try:
        out, offset = _elements(data, 0, len(data), syntax, mapping, nested=False)
    except (struct.error, IndexError, RecursionError) as error:
        raise UnreadableError(f"not a data set: {error}") from error
    return b"".join(out) + data[offset:]


def _elements(
    data: bytes, offset: int, end: int, syntax: _Syntax, mapping: Mapping, *, nested: bool
) -> tuple[list[bytes], int]:
    """Rewrite elements up to `end` or an item delimiter; the pieces, and where it stopped (behind the delimiter)."""
    out: list[bytes] = []
    copied = offset
    while offset < end:
        group, number = struct.unpack_from(f"{syntax.order}HH", data, offset)
        tag = group << 16 | number
        if tag == _ITEM_END and nested:
            out.append(data[copied : offset + 8])
            return out, offset + 8
        if tag == _PIXEL_DATA and not nested:
            offset = end  # nothing that interests us comes behind the pixels
            break
        vr, length, value = _head(data, offset, tag, syntax)
        if length != _UNDEFINED and value + length > end:
            raise UnreadableError(f"element {tag:08X} is longer than what holds it")
        is_sequence = vr == b"SQ" or (length == _UNDEFINED and vr == b"UN")
        if is_sequence:
            # A sequence under UN is in Implicit VR Little Endian (PS3.5 6.2.2).
            inner = _Syntax("<", False) if vr == b"UN" else syntax
            items, after = _items(data, value, _UNDEFINED if length == _UNDEFINED else value + length, inner, mapping)
            rewritten = b"".join(items)
            out.append(data[copied : value - 4])
            size = _UNDEFINED if length == _UNDEFINED else len(rewritten)
            out += [struct.pack(f"{syntax.order}L", size), rewritten]
            offset = copied = after
        elif length == _UNDEFINED:
            raise UnreadableError(f"element {tag:08X} of undefined length")
        elif tag in REPLACED:
            text = data[value : value + length].decode("ascii", "replace").rstrip("\0 ")
            mapped = "\\".join(mapping(uid) for uid in text.split("\\")).encode("ascii", "replace")
            mapped += b"\0" * (len(mapped) % 2)
            wide = not syntax.explicit or vr in _LONG_FORM
            width, code = (4, "L") if wide else (2, "H")
            out += [data[copied : value - width], struct.pack(f"{syntax.order}{code}", len(mapped)), mapped]
            offset = copied = value + length
        else:
            offset = value + length
    out.append(data[copied:offset])
    return out, offset


def _head(data: bytes, offset: int, tag: int, syntax: _Syntax) -> tuple[bytes, int, int]:
    """VR, length and where the value starts."""
    if syntax.explicit and tag >> 16 != 0xFFFE:
        vr = data[offset + 4 : offset + 6]
        if not vr.isalpha() or not vr.isupper():
            raise UnreadableError(f"element {tag:08X} has VR {vr!r}")
        if vr in _LONG_FORM:
            return vr, struct.unpack_from(f"{syntax.order}L", data, offset + 8)[0], offset + 12
        return vr, struct.unpack_from(f"{syntax.order}H", data, offset + 6)[0], offset + 8
    length = struct.unpack_from(f"{syntax.order}L", data, offset + 4)[0]
    if length == _UNDEFINED:
        return b"SQ", length, offset + 8
    try:
        return dictionary_VR(tag).encode("ascii"), length, offset + 8
    except KeyError:
        return b"UN", length, offset + 8


def _items(data: bytes, offset: int, end: int, syntax: _Syntax, mapping: Mapping) -> tuple[list[bytes], int]:
    """Rewrite the items of a sequence up to `end`, or up to its delimiter when `end` is undefined."""
    out: list[bytes] = []
    limit = len(data) if end == _UNDEFINED else end
    while offset < limit:
        group, number, length = struct.unpack_from(f"{syntax.order}HHL", data, offset)
        tag = group << 16 | number
        if tag == _SEQUENCE_END:
            out.append(data[offset : offset + 8])
            return out, offset + 8
        if tag != _ITEM:
            raise UnreadableError(f"{tag:08X} where an item was due")
        undefined = length == _UNDEFINED
        inner_end = len(data) if undefined else offset + 8 + length
        pieces, after = _elements(data, offset + 8, inner_end, syntax, mapping, nested=True)
        body = b"".join(pieces)
        out += [data[offset : offset + 4], struct.pack(f"{syntax.order}L", length if undefined else len(body)), body]
        offset = after
    return out, offset


def file_with_fresh_uids(file: bytes, transfer_syntax: str, mapping: Mapping) -> bytes:
    """A whole file (PS3.10 7.1) with the UIDs of its File Meta Information and of its data set mapped."""
    start = data_set_offset(file)
    meta = _rewrite(file[132:start], _Syntax("<", True), mapping)
    if meta[:4] == b"\x02\x00\x00\x00":
        meta = meta[:8] + struct.pack("<L", len(meta) - 12) + meta[12:]
    return file[:132] + meta + with_fresh_uids(file[start:], transfer_syntax, mapping)


# ---------------------------------------------------------------- folders


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    sop_class: str
    sop_instance: str
    transfer_syntax: str
    study: str
    series: str
    patient_id: str
    plainly_named: bool
    """Whether its SOP Class and Instance UID have the VR UI, and not UN (PS3.5 6.2.2): DCMTK's senders take these UIDs
    out of the data set and send the text of the bytes' hexadecimal digits instead of one under UN."""


class Replay:
    """The files of a folder, series by series, over and over; each time round is another copy with fresh UIDs."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        """Reads the header of every file. Raises RuntimeError when none of them can be sent."""
        self._seed = seed
        self.skipped: list[Path] = []
        """What is no DICOM file, or has no SOP class, study or series."""
        self.unnamed: list[Path] = []
        """What `write` leaves out, because DCMTK's programs can't send it."""
        self._series: dict[tuple[str, str], list[_File]] = {}
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            file = _look(path)
            if file is None:
                self.skipped.append(path)
            else:
                self._series.setdefault((file.study, file.series), []).append(file)
                if not file.plainly_named:
                    self.unnamed.append(path)
        if not self._series:
            raise RuntimeError(f"{folder} holds no DICOM files that can be sent")

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """SOP classes and transfer syntaxes that have to be negotiated."""
        files = (file for series in self._series.values() for file in series)
        return list(dict.fromkeys((file.sop_class, file.transfer_syntax) for file in files))

    def stream(self, lane: int = 0, lanes: int = 1) -> Iterator[Prepared]:
        """Every `lanes`-th series, without end; in a copy of its own each time round."""
        series = list(self._series.values())
        for turn in count(lane, lanes):
            mapping = fresh_uids(self._seed, turn // len(series))
            files = series[turn % len(series)]
            for number, file in enumerate(files, 1):
                yield Prepared(
                    study=mapping(file.study),
                    patient_id=file.patient_id,
                    series=mapping(file.series),
                    sop_class=file.sop_class,
                    sop_instance=mapping(file.sop_instance),
                    transfer_syntax=file.transfer_syntax,
                    pieces=(with_fresh_uids(data_set_of(file.path), file.transfer_syntax, mapping),),
                    last=number == len(files),
                )

    def write(self, output: Path, copies: int) -> dict[Path, tuple[str, str, str]]:
        """Write so many copies of all files that DCMTK's programs can send, a folder for each series; UIDs of study,
        series and instance by path."""
        written = {}
        for copy in range(copies):
            mapping = fresh_uids(self._seed, copy)
            for place, series in enumerate(self._series.values()):
                folder = output / f"{copy:04d}-{place:05d}"
                folder.mkdir(parents=True, exist_ok=True)
                for number, file in enumerate(file for file in series if file.plainly_named):
                    path = folder / f"{number:05d}.dcm"
                    path.write_bytes(file_with_fresh_uids(file.path.read_bytes(), file.transfer_syntax, mapping))
                    written[path] = (mapping(file.study), mapping(file.series), mapping(file.sop_instance))
        return written


_HEADER = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID"]


def _look(path: Path) -> _File | None:
    """What a file is; None for what cannot be sent."""
    try:
        read = dcmread(path, stop_before_pixels=True, specific_tags=_HEADER)
        # Before they are decoded, for pydicom then takes the VR of its dictionary instead of UN.
        under = {getattr(read.get_item(name), "VR", None) for name in ("SOPClassUID", "SOPInstanceUID")}
        file = _File(
            path=path,
            sop_class=str(read.SOPClassUID),
            sop_instance=str(read.SOPInstanceUID),
            transfer_syntax=str(read.file_meta.TransferSyntaxUID),
            study=str(read.StudyInstanceUID),
            series=str(read.SeriesInstanceUID),
            patient_id=str(read.get("PatientID") or ""),
            plainly_named="UN" not in under,
        )
        with_fresh_uids(data_set_of(path), file.transfer_syntax, lambda uid: uid)
    except (InvalidDicomError, AttributeError, OSError, ValueError, zlib.error):
        return None
    return file
