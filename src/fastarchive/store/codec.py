"""Blocks of content: which filter suits which pixels, and bytes to stored frames and back.

What a block is on disk is said in ``docs/format.md``, "Record" and "Filters".
"""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import zstandard
from blake3 import blake3

from fastarchive.dicom.elements import Element, Header, PixelElement
from fastarchive.dicom.transfer_syntaxes import Encoding
from fastarchive.native.pixels import RowFrame, row_frames
from fastarchive.native.unpacking import unpack_rows
from fastarchive.store import filters
from fastarchive.store.filters import Buffer, Filter
from fastarchive.store.record import Block, Codec

BLOCK_SIZE: Final = 1 << 20
"""Bytes of the data set a block normally stands for: the filter's working set stays in the second-level cache."""
MAXIMUM_BLOCK: Final = 16 << 20
"""Bytes of the data set a block may stand for (only block 0 is ever longer than 4 MiB)."""
RAW_FRAME: Final = 0x184D2A52
"""Magic number of the skippable frame that holds a block as it is."""
CHECKSUM_SIZE: Final = 8

_RAW_HEADER = struct.Struct("<II")
_SAMPLE = 64 << 10
# Less than this is not worth the decompression at every read.
_WORTHWHILE = 0.97
# Images with noise shrink to a half or a quarter.
_DRAWING = 8
_RLE_LOSSLESS = "1.2.840.10008.1.2.5"

# What a plan depends on: Bits Allocated, Samples per Pixel, Columns, Rows, Planar Configuration.
_PLANNED_BY: Final = (0x00280100, 0x00280002, 0x00280011, 0x00280010, 0x00280006)

FLOAT_PIXEL_DATA: Final = 0x7FE00008
DOUBLE_FLOAT_PIXEL_DATA: Final = 0x7FE00009


class DamagedBlock(ValueError):
    """The stored bytes of a block are not what was written, or are not a block of this format."""


class Plan(NamedTuple):
    """How a stretch of content is cut and stored."""

    compress: bool
    filter: Filter = Filter.NONE
    width: int = 0
    distance: int = 0
    block_size: int = BLOCK_SIZE


PLAIN: Final = Plan(compress=True)
AS_IT_IS: Final = Plan(compress=False)


@dataclass(frozen=True, slots=True)
class PixelDescription:
    """What the header says about native pixel data (PS3.3 C.7.6.3); absent values are 0."""

    bits_allocated: int
    samples: int
    """Samples per pixel."""
    columns: int
    rows: int
    frames: int
    planar: bool
    """Colour by plane instead of by pixel."""
    big_endian: bool
    floating: bool
    """Float or Double Float Pixel Data."""

    @classmethod
    def from_header(cls, header: Header, encoding: Encoding) -> PixelDescription:
        """The description in a scanned header; values that make no sense count as absent. Never raises."""
        floating = header.pixel is not None and header.pixel.tag in (FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA)
        default_bits = 64 if header.pixel is not None and header.pixel.tag == DOUBLE_FLOAT_PIXEL_DATA else 32
        return cls(
            bits_allocated=default_bits if floating else _short(header, 0x00280100),
            samples=_short(header, 0x00280002) or 1,
            columns=_short(header, 0x00280011),
            rows=_short(header, 0x00280010),
            frames=_integer_string(header, 0x00280008),
            planar=_short(header, 0x00280006) == 1,
            big_endian=not encoding.little,
            floating=floating,
        )

    @property
    def row_bytes(self) -> int:
        """Bytes from one row to the next, 0 if unknown."""
        return self.columns * (1 if self.planar else self.samples) * self.bits_allocated // 8

    def plan(self) -> Plan:
        """How pixel data so described is best stored."""
        width, remainder = divmod(self.bits_allocated, 8)
        if remainder or width not in filters.WIDTHS:
            return PLAIN
        row = self.row_bytes
        size = BLOCK_SIZE // row * row if 0 < row <= BLOCK_SIZE else BLOCK_SIZE
        if self.floating or width == 8 or (self.big_endian and width > 1) or not row:
            return PLAIN if width == 1 else Plan(True, Filter.PLANES, width, 0, size)
        return Plan(True, Filter.ROWS, width, max(row // 8, 1), size)


def plan_native(header: Header) -> Plan:
    """How the native pixel data behind a header is stored."""
    assert header.pixel is not None
    said = tuple([(header.value(tag) or b"")[:2] for tag in _PLANNED_BY])
    return _planned(said, header.pixel.tag, header.encoding)


@lru_cache(maxsize=256)
def _planned(said: tuple[bytes, ...], tag: int, encoding: Encoding) -> Plan:
    """:func:`plan_native`: images of a series describe themselves in the same words."""
    elements = {tag: Element(tag, "US", value) for tag, value in zip(_PLANNED_BY, said, strict=True)}
    header = Header(elements, 0, PixelElement(tag, "OW", 0, 0, 0), True, None, encoding)
    return PixelDescription.from_header(header, encoding).plan()


def plan_encapsulated(transfer_syntax: str) -> Plan:
    """How encapsulated pixel data is stored: as it is, unless its compression leaves something to gain."""
    return PLAIN if transfer_syntax == _RLE_LOSSLESS else AS_IT_IS


class EncodedBlock(NamedTuple):
    """A block and the bytes that belong in the pack, in one or two pieces."""

    block: Block
    stored: tuple[Buffer, ...]


class _Compressors(threading.local):
    """zstd contexts of one thread: making one costs more than compressing a header."""

    def __init__(self) -> None:
        # Filtered pixels are noise with runs of nothing: longer matches and a small table find the runs and waste no
        # time on chance matches (an eighth faster than plain level 1 at the same size).
        self.pixels = zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters.from_level(
                1, source_size=BLOCK_SIZE, min_match=6, hash_log=12
            )
        )
        self.plain = zstandard.ZstdCompressor(level=1)
        self.decompressor = zstandard.ZstdDecompressor()


_compressors = _Compressors()


def encode_block(data: Buffer, plan: Plan) -> EncodedBlock:
    """`data` as one block. Whatever doesn't shrink is stored as it is."""
    if not plan.compress or not len(data):
        return _raw(data)
    kind = plan.filter
    if kind == Filter.ROWS and plan.width == 1 and not _rows_help(data, plan):
        kind = Filter.NONE
    growing = growing_block(len(data), plan)
    if growing is not None:
        growing.feed(data if isinstance(data, bytes) else bytes(data), 0, len(data))
        return growing.finish(data)
    compressor = _compressors.plain if kind == Filter.NONE else _compressors.pixels
    return _chosen(compressor.compress(filters.apply(data, kind, plan.width, plan.distance)), kind, plan, data)


class GrowingBlock:
    """A block whose pixels are filtered and compressed as they come. For one thread at a time."""

    __slots__ = ("_frame", "_length", "_plan")

    def __init__(self, frame: RowFrame, plan: Plan) -> None:
        self._frame = frame
        self._plan = plan
        self._length = 0

    def feed(self, data: bytes, start: int, count: int) -> None:
        """`count` bytes more, those of `data` from `start` on."""
        self._frame.feed(data, start, count)
        self._length += count

    def finish(self, data: Buffer | None = None) -> EncodedBlock:
        """All of it has come, and some has; `data` is what that was, if it is still there."""
        return _chosen(self._frame.finish(), Filter.ROWS, self._plan, data, self._length)


def growing_block(size: int, plan: Plan) -> GrowingBlock | None:
    """A block of at most `size` bytes that can grow, if the plan is one for which there is a way to do that."""
    if row_frames is None or plan.filter != Filter.ROWS or plan.width != 2:
        return None
    return GrowingBlock(row_frames.begin(size, plan.distance), plan)


def _chosen(frame: bytes, kind: Filter, plan: Plan, data: Buffer | None, length: int = 0) -> EncodedBlock:
    """`data` as `frame`, which holds it filtered and compressed, or in another way if that is better.

    None: it has `length` bytes, and is taken out of the frame again where that is not good enough.
    """
    if data is not None:
        length = len(data)
    if kind == Filter.ROWS and plan.width > 1 and len(frame) * _DRAWING < length:
        # No noise: a drawing or an overlay, whose repetitions are worth more than its differences.
        data = _content(frame, kind, plan) if data is None else data
        plain = _compressors.plain.compress(data)
        if len(plain) < len(frame):
            kind, frame = Filter.NONE, plain
    if len(frame) < length * _WORTHWHILE:
        width, distance = (plan.width, plan.distance) if kind else (0, 0)
        checksum = blake3(frame).digest(CHECKSUM_SIZE)
        return EncodedBlock(Block(len(frame), length, Codec.ZSTD, kind, width, distance, checksum), (frame,))
    return _raw(_content(frame, kind, plan) if data is None else data)


def _raw(data: Buffer) -> EncodedBlock:
    """`data` as it is."""
    head = _RAW_HEADER.pack(RAW_FRAME, len(data))
    hasher = blake3(head)
    hasher.update(data)
    block = Block(len(head) + len(data), len(data), Codec.RAW, Filter.NONE, 0, 0, hasher.digest(CHECKSUM_SIZE))
    return EncodedBlock(block, (head, data))


def _content(frame: bytes, kind: Filter, plan: Plan) -> Buffer:
    return filters.undo(_compressors.decompressor.decompress(frame), kind, plan.width, plan.distance)


def verify_block(block: Block, stored: Buffer) -> None:
    """Check the stored bytes against the block's checksum. Raises DamagedBlock."""
    if len(stored) != block.stored or blake3(stored).digest(CHECKSUM_SIZE) != block.checksum:
        raise DamagedBlock("the stored bytes of a block are damaged")


def decode_block(block: Block, stored: Buffer) -> Buffer:
    """The content of a block, after :func:`verify_block`. Raises DamagedBlock."""
    if block.codec == Codec.RAW:
        content: Buffer = memoryview(stored)[_RAW_HEADER.size :]
    elif block.codec == Codec.ZSTD:
        try:
            if zstandard.get_frame_parameters(stored).content_size != block.raw or block.raw > MAXIMUM_BLOCK:
                raise DamagedBlock("a block's frame is longer than the block")
            content = _unframe(block, stored)
        except (zstandard.ZstdError, ValueError) as error:
            raise DamagedBlock(f"a block can't be decoded: {error}") from error
    else:
        raise DamagedBlock(f"codec {block.codec} is not known")
    if len(content) != block.raw:
        raise DamagedBlock("a block has another length than was written")
    return content


def decode_into(block: Block, stored: Buffer, out: memoryview) -> None:
    """As :func:`decode_block`, into `out`, which has the block's length in bytes."""
    if not _unpack(block, stored, out):
        out[:] = decode_block(block, stored)


def _unframe(block: Block, stored: Buffer) -> Buffer:
    """Decompressed and with the filter undone. Raises ZstdError and ValueError."""
    if block.filter == Filter.ROWS:
        content = np.empty(block.raw, np.uint8).data
        if _unpack(block, stored, content):
            return content
    frame = _compressors.decompressor.decompress(stored, max_output_size=block.raw)
    return filters.undo(frame, block.filter, block.width, block.distance)


def _unpack(block: Block, stored: Buffer, out: memoryview) -> bool:
    """Whether the block is one that C reads alone, which is then in `out`."""
    is_ours = block.filter == Filter.ROWS and block.width == 2 and block.codec == Codec.ZSTD
    return is_ours and unpack_rows is not None and unpack_rows(stored, block.distance, out)


def _rows_help(data: Buffer, plan: Plan) -> bool:
    """Whether 8-bit samples compress better as differences: photographs do, drawings and overlays don't."""
    start = max(len(data) - _SAMPLE, 0) // 2
    sample = memoryview(data)[start : start + _SAMPLE]
    plain = len(_compressors.plain.compress(sample))
    return len(_compressors.pixels.compress(filters.apply(sample, plan.filter, plan.width, plan.distance))) < plain


def _short(header: Header, tag: int) -> int:
    element = header.elements.get(tag)
    return int.from_bytes(element.value[:2], "little") if element is not None and len(element.value) >= 2 else 0


def _integer_string(header: Header, tag: int) -> int:
    element = header.elements.get(tag)
    try:
        return int(element.value.decode("ascii").strip(" \0")) if element is not None else 0
    except (UnicodeDecodeError, ValueError):
        return 0
