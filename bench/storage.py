"""How many bytes an instance takes in a pack, beside zstd level 3 alone, what both cost, and that every byte returns.

Measured are the files of pydicom's wheel and of pydicom-data, any folders named, and generated scans, in groups by what
their pixels are. Unlike the other scenarios this one uses the archive's own code: it measures its store, not a server.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pydicom
import zstandard
from pydicom.errors import InvalidDicomError

from bench.anatomy import Noise, grey_image
from bench.encoding import EXPLICIT_LITTLE, data_set_offset, element
from bench.modality import Modality, Scanner
from bench.report import progress, table, write_json
from fastarchive.store.blobs import Blobs
from fastarchive.store.intake import Intake, IntakeError
from fastarchive.store.log import Log

DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
SHORTEST_MEASUREMENT = 0.02
"""Seconds of processor time an instance is encoded again and again for, so that small ones can be timed at all."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One instance."""

    group: str
    transfer_syntax: str
    data_set: bytes


@dataclass(slots=True)
class Total:
    """The sums over a group of samples. Sizes in bytes, times in seconds of processor time."""

    group: str
    instances: int = 0
    data_sets: int = 0
    zstd: int = 0
    content: int = 0
    """The blocks of content."""
    records: int = 0
    """Whole records: the content, its checksums and the attributes that answer queries."""
    zstd_time: float = 0.0
    intake_time: float = 0.0
    """All the store does before it writes: digest, header, filter, compression."""
    identify_time: float = 0.0
    """The part of it before filter and compression."""
    decode_time: float = 0.0
    """Reading back, verified."""
    wrong: int = 0


def describe(data: pydicom.Dataset, transfer_syntax: str) -> str:
    """What the pixels of an instance are: the group it counts for."""
    modality = str(data.get("Modality", "") or "?")
    if pydicom.uid.UID(transfer_syntax).is_compressed:
        return "deflated" if transfer_syntax == DEFLATED else "encapsulated"
    bits = data.get("BitsAllocated", 0)
    if not bits or not any(name in data for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        return "without pixels"
    if transfer_syntax == BIG_ENDIAN:
        return f"{bits} bits big endian"
    words = [f"{bits} bits"]
    if bits > 8 and data.get("PixelRepresentation", 0):
        words.append("signed")
    if int(data.get("SamplesPerPixel", 1) or 1) > 1:
        words.append("colour")
    if int(data.get("NumberOfFrames", 1) or 1) > 1:
        words.append("multi-frame")
    return f"{modality} {' '.join(words)}"


def files_in(folder: Path, label: str) -> Iterator[Sample]:
    """The instances among the files of a folder."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data = pydicom.dcmread(path, defer_size=1 << 16)
                transfer_syntax = str(data.file_meta.TransferSyntaxUID)
                group = describe(data, transfer_syntax)
        except (InvalidDicomError, AttributeError, KeyError, ValueError, EOFError, OSError):
            continue  # not an instance, or damaged on purpose
        file = path.read_bytes()
        yield Sample(f"{label}: {group}", transfer_syntax, file[data_set_offset(file) :])


def real_files() -> Iterator[Sample]:
    """What pydicom and pydicom-data bring along."""
    folders = [Path(pydicom.__file__).parent / "data"]
    try:
        import data_store

        folders.append(Path(str(data_store.__file__)).parent)
    except ImportError:
        progress("pydicom-data is not installed: fewer real files")
    for folder in folders:
        yield from files_in(folder, "real")


def generated(seed: int, count: int) -> Iterator[Sample]:
    """Scans of every modality, and variants of a CT slice in other sample sizes and byte orders."""
    scanner = Scanner(seed)
    for number, modality in enumerate(Modality):
        study = scanner.study(scanner.patient(number), 0, modality)
        some = count if modality in (Modality.CT, Modality.MR) else max(2, count // 10)
        for one in scanner.series(study, 1, some):
            with pydicom.config.disable_value_validation():
                data = pydicom.dcmread(_as_file(one.data_set), force=True, stop_before_pixels=True)
            bits, frames = data.get("BitsAllocated", 0), int(data.get("NumberOfFrames", 1) or 1)
            group = f"generated: {modality} {bits} bits{' multi-frame' if frames > 1 else ''}"
            yield Sample(group, one.transfer_syntax, one.data_set)
    yield from _variants(seed)


def _as_file(data_set: bytes) -> pydicom.filebase.DicomBytesIO:
    buffer = pydicom.filebase.DicomBytesIO(data_set)
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    return buffer


def _variants(seed: int) -> Iterator[Sample]:
    noise = Noise.seeded(seed)
    frames = [grey_image(noise, 512, 512, position=number, number=number * 977) for number in range(8)]
    signed = [frame.astype("<i2") - 1024 for frame in frames]
    yield _variant("16 bits signed multi-frame", 16, 1, b"".join(frame.tobytes() for frame in signed), 8)
    wide = [frame.astype("<u4") * 1000 for frame in frames]
    yield _variant("32 bits multi-frame", 32, 0, b"".join(frame.tobytes() for frame in wide), 8)
    narrow = [(frame >> 4).astype(np.uint8) for frame in frames]
    yield _variant("8 bits multi-frame", 8, 0, b"".join(frame.tobytes() for frame in narrow), 8)


def _variant(name: str, bits: int, representation: int, pixels: bytes, frames: int) -> Sample:
    uid = f"2.25.4711{bits}{representation}"
    elements = [
        element(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.7"),
        element(0x00080018, "UI", f"{uid}.1"),
        element(0x0020000D, "UI", f"{uid}.2"),
        element(0x0020000E, "UI", f"{uid}.3"),
        element(0x00280002, "US", 1),
        element(0x00280008, "IS", frames),
        element(0x00280010, "US", 512),
        element(0x00280011, "US", 512),
        element(0x00280100, "US", bits),
        element(0x00280103, "US", representation),
        element(0x7FE00010, "OB" if bits == 8 else "OW", pixels),
    ]
    return Sample(f"generated: {name}", EXPLICIT_LITTLE, b"".join(elements))


def timed(work: Callable[[], object]) -> float:
    """Seconds of processor time one call takes, the least of several."""
    least = float("inf")
    spent = 0.0
    while spent < SHORTEST_MEASUREMENT or least == float("inf"):
        started = time.process_time()
        work()
        took = time.process_time() - started
        least = min(least, took)
        spent += max(took, 1e-5)
    return least


def measure(sample: Sample, total: Total, place: Path) -> None:
    """Add one instance to the sums of its group; nothing for one that an archive would refuse."""
    compressor = zstandard.ZstdCompressor(level=3)

    def take() -> Intake:
        intake = Intake(transfer_syntax=sample.transfer_syntax, spool_directory=place / "spool")
        intake.write(sample.data_set)
        return intake

    def encode() -> None:
        intake = take()
        intake.finish()
        intake.close()

    intake = take()
    try:
        encoded = intake.finish()
    except IntakeError:
        return
    folder = place / "archive"
    with Log(folder, sync=False) as log:
        location = log.append(encoded).result()
    intake.close()
    blobs = Blobs(folder)
    total.instances += 1
    total.data_sets += len(sample.data_set)
    total.zstd += len(compressor.compress(sample.data_set))
    total.records += encoded.size
    total.content += sum(block.stored for block in encoded.record.blocks)
    total.wrong += b"".join(blobs.open(location).chunks()) != sample.data_set
    total.zstd_time += timed(lambda: compressor.compress(sample.data_set))
    total.intake_time += timed(encode)
    total.identify_time += timed(lambda: take().identify())
    total.decode_time += timed(lambda: blobs.open(location).pieces())
    blobs.close()
    shutil.rmtree(folder)


def summary_table(totals: list[Total]) -> str:
    """One row for each group."""
    rows: list[list[object]] = []
    for one in totals:
        size = one.data_sets / 1e6
        rows.append(
            [
                one.group,
                one.instances,
                size,
                one.data_sets / one.zstd,
                one.data_sets / one.content,
                one.content / one.zstd,
                one.records / one.zstd,
                one.zstd_time * 1000 / size,
                (one.intake_time - one.identify_time) * 1000 / size,
                one.intake_time * 1000 / size,
                one.decode_time * 1000 / size,
                one.wrong,
            ]
        )
    header = ["instances of", "n", "MB", "zstd 3 ×", "stored ×", "content : zstd 3", "record : zstd 3"]
    costs = ["zstd 3 ms/MB", "filter+zstd ms/MB", "whole intake ms/MB", "read ms/MB", "wrong"]
    return table([*header, *costs], rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench storage`."""
    parser.add_argument("folders", nargs="*", type=Path, help="folders of DICOM files to measure besides")
    parser.add_argument("--slices", type=int, default=40, help="generated CT and MR slices each")
    parser.add_argument("--real", action=argparse.BooleanOptionalAction, default=True, help="measure pydicom's files")


def run(options: argparse.Namespace) -> int:
    """Measure and print; 1 when an instance came back different."""
    totals: dict[str, Total] = {}

    def samples() -> Iterator[Sample]:
        yield from generated(options.seed, options.slices)
        if options.real:
            yield from real_files()
        for folder in options.folders:
            yield from files_in(folder, folder.name)

    with tempfile.TemporaryDirectory(prefix="bench-storage-", dir=options.directory) as place:
        for number, sample in enumerate(samples(), start=1):
            measure(sample, totals.setdefault(sample.group, Total(sample.group)), Path(place))
            if number % 100 == 0:
                progress(f"{number} instances")
    measured = sorted((one for one in totals.values() if one.instances), key=lambda one: one.group)
    print(summary_table(measured))
    if options.json:
        plain = {name: value for name, value in vars(options).items() if not callable(value)}
        write_json(options.json, "storage", plain, [asdict(one) for one in measured])
    return 1 if any(one.wrong for one in measured) else 0
