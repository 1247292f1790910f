"""Reversible filters that make pixels compress: byte planes, and differences between rows.

The definitions are in ``docs/format.md``, "Filters". Both directions work on any bytes of any length, in numpy on whole
arrays, so that the GIL is released for nearly all of the work.
"""

from __future__ import annotations

import threading
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastarchive.native import restore_rows

Buffer = bytes | bytearray | memoryview
Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]

BIAS: Final = {
    1: np.uint64(0x8080808080808080),
    2: np.uint64(0x0080008000800080),
    4: np.uint64(0x0080808000808080),
}
"""What is added to each 8-byte word of differences, by the width of a sample in bytes."""
WIDTHS: Final = frozenset({1, 2, 4, 8})


class Filter(IntEnum):
    """What was done to the bytes of a block before compression."""

    NONE = 0
    PLANES = 1
    ROWS = 2


class _Scratch(threading.local):
    """Arrays used again and again by one thread: fresh ones would cost a page fault every 4 KiB."""

    def __init__(self) -> None:
        self.words: Words = np.empty(0, np.uint64)
        self.planes: Bytes = np.empty(0, np.uint8)

    def words_for(self, count: int) -> Words:
        if len(self.words) < count:
            self.words = np.empty(count, np.uint64)
        return self.words[:count]

    def planes_for(self, count: int) -> Bytes:
        if len(self.planes) < count:
            self.planes = np.empty(count, np.uint8)
        return self.planes[:count]


_scratch = _Scratch()


def apply(data: Buffer, kind: int, width: int, distance: int) -> Buffer:
    """`data` filtered. The result may share memory that the next call in this thread writes over.

    `width` is the bytes of a sample (1, 2, 4; with planes also 8), `distance` the row length in 8-byte words.
    """
    if kind == Filter.NONE:
        return data
    if kind == Filter.PLANES:
        return _split(np.frombuffer(data, np.uint8), width, _scratch.planes_for(len(data))).data
    count = len(data) // 8
    words = np.frombuffer(data, "<u8", count)
    differences = _scratch.words_for(count)
    bias = BIAS[width]
    np.add(words[:distance], bias, out=differences[:distance])
    np.subtract(words[distance:], words[:-distance], out=differences[distance:])
    np.add(differences[distance:], bias, out=differences[distance:])
    out = _scratch.planes_for(len(data))
    _split_words(differences, np.frombuffer(data, np.uint8, offset=count * 8), width, out)
    return out.data


def undo(data: Buffer, kind: int, width: int, distance: int) -> Buffer:
    """What :func:`apply` was given, in memory of its own. Raises ValueError for a filter that isn't known."""
    if kind == Filter.NONE:
        return data
    if width not in WIDTHS or (kind == Filter.ROWS and (width not in BIAS or distance < 1)):
        raise ValueError(f"filter {kind} of width {width} and distance {distance} is not known")
    if kind == Filter.ROWS and width == 2 and restore_rows is not None:
        return restore_rows(data, distance)
    out = np.empty(len(data), np.uint8)
    _merge(np.frombuffer(data, np.uint8), width, out)
    if kind == Filter.ROWS:
        words = out[: len(data) // 8 * 8].view("<u8")
        np.subtract(words, BIAS[width], out=words)
        _accumulate(words, distance)
    elif kind != Filter.PLANES:
        raise ValueError(f"filter {kind} is not known")
    return out.data


def _split(data: Bytes, width: int, out: Bytes) -> Bytes:
    """`data` as byte planes in `out`."""
    count = len(data) // width
    samples = data[: count * width].reshape(count, width)
    for plane in range(width):
        out[plane * count : (plane + 1) * count] = samples[:, plane]
    out[count * width :] = data[count * width :]
    return out


def _split_words(words: Words, rest: Bytes, width: int, out: Bytes) -> None:
    """Words as byte planes in `out`, then `rest`; overwrites `words`. Casting down is the fastest way to split."""
    total = len(words) * 8
    if width == 1:
        out[:total] = words.view(np.uint8)
        out[total:] = rest
        return
    samples = words.view(np.uint16 if width == 2 else np.uint32)
    count = len(samples)
    for plane in range(width):
        if plane:
            np.right_shift(samples, 8, out=samples)
        np.copyto(out[plane * count : (plane + 1) * count], samples, casting="unsafe")
    leftover = (total + len(rest)) // width - count
    if leftover:  # whole samples among the bytes after the last word belong into the planes as well
        _regroup(out, count, leftover, width, rest)
    else:
        out[total:] = rest


def _regroup(out: Bytes, count: int, leftover: int, width: int, rest: Bytes) -> None:
    """Make room in each plane for the `leftover` samples in `rest`, last plane first."""
    total = count + leftover
    for plane in reversed(range(width)):
        out[plane * total : plane * total + count] = out[plane * count : (plane + 1) * count].copy()
    for plane in range(width):
        out[plane * total + count : (plane + 1) * total] = rest[plane : leftover * width : width]
    out[total * width :] = rest[leftover * width :]


def _merge(data: Bytes, width: int, out: Bytes) -> None:
    """Byte planes back to samples."""
    count = len(data) // width
    if width == 2:
        samples = out[: count * 2].view("<u2")
        np.left_shift(data[count : count * 2], 8, out=samples, dtype=np.uint16, casting="unsafe")
        np.bitwise_or(samples, data[:count], out=samples)
    else:
        target = out[: count * width].reshape(count, width)
        for plane in range(width):
            target[:, plane] = data[plane * count : (plane + 1) * count]
    out[count * width :] = data[count * width :]


def _accumulate(words: Words, distance: int) -> None:
    """Running sums down the rows, in place: each word plus the word `distance` before it."""
    rows = len(words) // distance
    if not rows:
        return
    table = words[: rows * distance].reshape(rows, distance)
    np.add.accumulate(table, axis=0, out=table)
    ragged = words[rows * distance :]
    np.add(ragged, table[-1, : len(ragged)], out=ragged)
