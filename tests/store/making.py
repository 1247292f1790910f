"""Things the store's tests are made of: data sets, records, and a disk that fails when told to."""

from __future__ import annotations

import errno
import os
import struct
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from blake3 import blake3

from fastarchive.store.codec import PLAIN, encode_block
from fastarchive.store.disk import Disk
from fastarchive.store.encoding import EncodedRecord
from fastarchive.store.filters import Buffer
from fastarchive.store.intake import Intake
from fastarchive.store.record import Record, RecordKind

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
_LONG = {"OB", "OW", "OF", "OD", "SQ", "UN", "UT"}


def element(tag: int, vr: str, value: bytes, order: str = "<", length: int | None = None) -> bytes:
    """One explicit VR element; odd values are padded."""
    value += b"" if len(value) % 2 == 0 else (b"\0" if vr in ("UI", "OB", "UN") else b" ")
    length = len(value) if length is None else length
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr in _LONG:
        return head + struct.pack(f"{order}HL", 0, length) + value
    return head + struct.pack(f"{order}H", length) + value


def header(
    sop_instance: str = "1.2.3.4",
    study: str = "1.2.3",
    series: str = "1.2.3.1",
    sop_class: str = CT_IMAGE_STORAGE,
    *,
    rows: int = 0,
    columns: int = 0,
    bits: int = 16,
    samples: int = 1,
    order: str = "<",
    patient_name: bytes = b"Doe^Jane",
    extra: Sequence[bytes] = (),
) -> bytes:
    """The elements before the pixel data of an explicit VR data set; empty UIDs are left out."""
    parts = []
    for tag, uid in ((0x00080016, sop_class), (0x00080018, sop_instance)):
        if uid:
            parts.append(element(tag, "UI", uid.encode(), order))
    parts += [
        element(0x00080060, "CS", b"CT", order),
        element(0x00100010, "PN", patient_name, order),
        element(0x00100020, "LO", b"4711", order),
        *extra,
    ]
    for tag, uid in ((0x0020000D, study), (0x0020000E, series)):
        if uid:
            parts.append(element(tag, "UI", uid.encode(), order))
    if rows:
        for tag, number in (
            (0x00280002, samples),
            (0x00280010, rows),
            (0x00280011, columns),
            (0x00280100, bits),
        ):
            parts.append(element(tag, "US", struct.pack(f"{order}H", number), order))
    return b"".join(parts)


def ct_pixels(rows: int = 512, columns: int = 512, seed: int = 1) -> bytes:
    """A body with lungs, bone and the smooth noise of a reconstruction, in Hounsfield units, 16 bits signed."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:rows, 0:columns] * (512 / max(rows, columns))
    image = np.full((rows, columns), -1000.0)
    body = np.hypot((x - 256) / 200, (y - 256) / 160) < 1
    image[body] = 40
    for center_x, center_y, width, height, value in (
        (180, 240, 60, 90, -800),
        (330, 240, 60, 90, -820),
        (256, 330, 30, 30, 700),
        (256, 200, 40, 35, 60),
    ):
        image[np.hypot((x - center_x) / width, (y - center_y) / height) < 1] = value
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None])
    noise = np.fft.irfft2(
        np.fft.rfft2(random.normal(size=(rows, columns))) * np.exp(-((frequency / 0.22) ** 2)) * (frequency + 0.02),
        s=(rows, columns),
    )
    image += noise * (18 / noise.std()) * (0.4 + 0.6 * body)
    image[np.hypot((x - 256) / 255, (y - 256) / 255) > 1] = -2000
    pixels: bytes = np.rint(image).clip(-2000, 3000).astype("<i2").tobytes()
    return pixels


def ct_slice(sop_instance: str = "1.2.3.4", rows: int = 512, columns: int = 512) -> bytes:
    """An explicit VR little endian data set with such an image."""
    pixels = element(0x7FE00010, "OW", ct_pixels(rows, columns))
    return header(sop_instance, rows=rows, columns=columns) + pixels


def intake(data: bytes, directory: Path, transfer_syntax: str = EXPLICIT_LITTLE, chunk: int = 65536) -> Intake:
    """An intake that was written all of `data`, drained as it asks for."""
    from fastarchive.store.intake import SPILL

    result = Intake(
        transfer_syntax=transfer_syntax, spool_directory=directory / "spool", calling_ae="MODALITY", called_ae="ARCHIVE"
    )
    for position in range(0, len(data), chunk):
        result.write(data[position : position + chunk])
        if result.pending >= SPILL:
            result.drain()
    return result


def encoded(number: int = 0, content: bytes = b"content") -> EncodedRecord:
    """A small record, told apart by `number`, with `content` in one block."""
    block = encode_block(content, PLAIN)
    record = Record(
        kind=RecordKind.INSTANCE,
        received=1_700_000_000_000_000_000 + number,
        digest=blake3(content).digest(),
        length=len(content),
        sop_class=CT_IMAGE_STORAGE,
        sop_instance=f"1.2.3.{number}",
        study="1.2",
        series="1.2.3",
        transfer_syntax=EXPLICIT_LITTLE,
        calling_ae="MODALITY",
        called_ae="ARCHIVE",
        attributes=element(0x00100020, "LO", b"4711"),
        blocks=(block.block,),
    )
    return EncodedRecord.of(record, list(block.stored))


@dataclass
class FaultyDisk(Disk):
    """A disk with a limited number of bytes, short writes, and errors on demand."""

    room: int | None = None
    """Bytes that may still be written before ENOSPC."""
    shortest: bool = False
    """Every write is cut to about half."""
    fail_sync: int = 0
    """So many syncs to come fail with EIO."""
    fail_write: int = 0
    """So many writes of records to come fail with EIO."""
    fail_copy_range: bool = False
    fail_truncate: bool = False
    free_bytes: int | None = None
    syncs: list[int] = field(default_factory=list)

    def write_some(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        if offset >= 4096:
            if self.fail_write:
                self.fail_write -= 1
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            total = sum(len(buffer) for buffer in buffers)
            if self.shortest and total > 1:
                return super().write_some(fd, [b"".join(buffers)[: (total + 1) // 2]], offset)
            if self.room is not None:
                if self.room == 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                count = super().write_some(fd, [b"".join(buffers)[: self.room]], offset)
                self.room -= count
                return count
        return super().write_some(fd, buffers, offset)

    def sync(self, fd: int) -> None:
        if self.fail_sync:
            self.fail_sync -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.syncs.append(fd)
        super().sync(fd)

    def truncate(self, fd: int, length: int) -> None:
        if self.fail_truncate:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().truncate(fd, length)

    def copy_some(self, source: int, source_offset: int, target: int, target_offset: int, count: int) -> int:
        if self.fail_copy_range:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return super().copy_some(source, source_offset, target, target_offset, count)

    def free(self, fd: int) -> int:
        return super().free(fd) if self.free_bytes is None else self.free_bytes


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process and return its id: what a new interpreter would do, without its start-up.

    The child ends with status 0, or 1 if `work` raised.
    """
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
