"""RLE Lossless pixel data as native pixel data (PS3.5 Annex G): the one compression that is undone for a peer.

It is lossless, needs no library, and costs some tens of milliseconds an image. Every frame is one fragment, with a
segment for each byte of each sample, most significant byte first, each packed as runs and literals.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np

from fastarchive.dicom.elements import Header
from fastarchive.dicom.layout import Buffer

__all__ = ["WANTED", "RleError", "native"]

SAMPLES, FRAMES, ROWS, COLUMNS, PLANAR, BITS = 0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280006, 0x00280100
WANTED: Final = frozenset({SAMPLES, FRAMES, ROWS, COLUMNS, PLANAR, BITS})
"""The elements that describe the pixels."""
LARGEST_FRAME: Final = 128 << 20
"""Bytes of a frame: what is said in a few bytes must not cost any amount of memory."""
_LONGEST_VALUE: Final = 0xFFFFFFFE
_ITEM: Final = struct.Struct("<HHL")
_ITEM_TAG, _DELIMITER_TAG = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_HEADER: Final = struct.Struct("<16L")


class RleError(ValueError):
    """The pixel data is not what PS3.5 Annex G says, or not what the header says. The message names no content."""


def native(start: bytearray, header: Header, chunks: Iterator[Buffer]) -> Iterator[bytes]:
    """A data set in RLE Lossless as Explicit VR Little Endian, frame by frame.

    `start` is its first part, at least up to its pixel data, scanned as `header` with the elements WANTED; `chunks` is
    what follows. Raises RleError, at the latest at the last frame.
    """
    pixel = header.pixel
    assert pixel is not None
    rows, columns, bits = (_number(header, tag) for tag in (ROWS, COLUMNS, BITS))
    samples = _number(header, SAMPLES) or 1
    width, odd = divmod(bits, 8)
    frame_size = rows * columns * samples * width
    frames = _frames(header)
    length = frame_size * frames
    padding = length % 2
    if odd or width not in (1, 2, 4) or samples > 4 or not 0 < frame_size <= LARGEST_FRAME:
        raise RleError("pixels of this kind are not RLE compressed")
    if length + padding > _LONGEST_VALUE:
        raise RleError("uncompressed pixel data would be too long")
    tag = struct.pack("<HH", pixel.tag >> 16, pixel.tag & 0xFFFF)
    yield (
        bytes(start[: pixel.header_offset])
        + tag
        + struct.pack("<2sxxL", b"OB" if width == 1 else b"OW", length + padding)
    )
    items = _Items(start[pixel.value_offset :], chunks)
    items.next(LARGEST_FRAME)  # the Basic Offset Table
    for _ in range(frames):
        fragment = items.next(2 * frame_size + _HEADER.size + 64 * samples * width)
        if fragment is None:
            raise RleError("there are fewer frames than the header says")
        yield _frame(fragment, rows * columns, samples, width, planar=_number(header, PLANAR) == 1)
    if items.next(LARGEST_FRAME) is not None:
        raise RleError("there are more frames than the header says")
    if padding:
        yield b"\0"
    yield items.rest()
    for chunk in chunks:
        yield bytes(chunk)


def _frame(fragment: bytes, pixels: int, samples: int, width: int, *, planar: bool) -> bytes:
    if len(fragment) < _HEADER.size:
        raise RleError("a frame has no header")
    count, *offsets = _HEADER.unpack_from(fragment)
    if count != samples * width:
        raise RleError("a frame has another number of segments than its samples have bytes")
    offsets = [*offsets[:count], len(fragment)]
    if offsets[0] < _HEADER.size or any(one > other for one, other in pairwise(offsets)):
        raise RleError("the segments of a frame are not in order")
    shape = (samples, pixels, width) if planar else (pixels, samples, width)
    frame = np.empty(shape, np.uint8)
    for number in range(count):
        sample, byte = divmod(number, width)
        plane = np.frombuffer(_unpacked(fragment[offsets[number] : offsets[number + 1]], pixels), np.uint8)
        target = frame[sample] if planar else frame[:, sample]
        target[:, width - 1 - byte] = plane
    return frame.tobytes()


def _unpacked(segment: bytes, size: int) -> bytes:
    """`size` bytes out of a segment of runs and literals (PS3.5 G.3.2); what follows them is padding."""
    out = bytearray()
    position, end = 0, len(segment)
    while position < end and len(out) < size:
        control = segment[position]
        if control < 128:
            out += segment[position + 1 : position + control + 2]
            position += control + 2
        elif control > 128:
            out += segment[position + 1 : position + 2] * (257 - control)
            position += 2
        else:
            position += 1
    if len(out) < size:
        raise RleError("a segment ends early")
    return bytes(out[:size])


class _Items:
    """The items of encapsulated pixel data (PS3.5 A.4), one after another."""

    def __init__(self, start: Buffer, chunks: Iterator[Buffer]) -> None:
        self._data = bytearray(start)
        self._chunks = chunks

    def next(self, most: int) -> bytes | None:
        """The next item's value, None at the end of the sequence. Raises RleError, also for more than `most` bytes."""
        group, element, length = _ITEM.unpack(self._take(_ITEM.size))
        if (group, element) == _DELIMITER_TAG:
            return None
        if (group, element) != _ITEM_TAG or length > most:
            raise RleError("the pixel data is not a sequence of fragments")
        return self._take(length)

    def rest(self) -> bytes:
        """What was read beyond the items."""
        return bytes(self._data)

    def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            try:
                self._data += next(self._chunks)
            except StopIteration:
                raise RleError("pixel data ends early") from None
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken


def _number(header: Header, tag: int) -> int:
    element = header.elements.get(tag)
    return int.from_bytes(element.value[:2], "little") if element is not None and len(element.value) >= 2 else 0


def _frames(header: Header) -> int:
    element = header.elements.get(FRAMES)
    try:
        return int(element.value.decode("ascii").strip(" \0") or 1) if element is not None else 1
    except (UnicodeDecodeError, ValueError):
        raise RleError("the number of frames is no number") from None
