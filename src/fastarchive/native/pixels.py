"""16-bit pixels through the filter ROWS and into a zstd frame, while they come in (``rows.c``)."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastarchive.native.loading import library

__all__ = ["RowFrame", "RowFrames", "row_frames"]

_QUICK: Final = 160 << 10
"""Bytes done in some 100 µs: to get the interpreter lock back from a busy thread may take longer."""
_MOST_SPARE: Final = 8
"""Memory kept for frames to come, for each size of pixels; of so many sizes."""


class _Memory:
    """Memory of one frame, and its address."""

    __slots__ = ("_array", "address", "need")

    def __init__(self, need: int) -> None:
        self._array: NDArray[np.uint64] = np.empty(need // 8 + 1, np.uint64)
        self.address: int = self._array.__array_interface__["data"][0]
        self.need = need


class _Scratch(threading.local):
    """What one thread works in: as large as its caches, and the same for every frame."""

    def __init__(self, size: int, prepare: Callable[[object], object]) -> None:
        self.memory = ctypes.create_string_buffer(size)
        self.size = ctypes.c_size_t()
        self.size_at = ctypes.addressof(self.size)
        prepare(self.memory)


class RowFrames:
    """Makes frames with one library. Thread-safe."""

    def __init__(self, path: Path) -> None:
        locked, unlocked = ctypes.PyDLL(str(path)), ctypes.CDLL(str(path))
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._need = locked.fastarchive_rows_memory
        self._need.restype, self._need.argtypes = size, (size, size)
        self._begin = locked.fastarchive_rows_begin
        self._begin.restype, self._begin.argtypes = None, (pointer, size, size)
        self.feed_quickly, self.feed = locked.fastarchive_rows_feed, unlocked.fastarchive_rows_feed
        for feed in (self.feed_quickly, self.feed):
            feed.restype, feed.argtypes = None, (pointer, pointer, ctypes.c_char_p, size, size)
        self.end_quickly, self.end = locked.fastarchive_rows_end, unlocked.fastarchive_rows_end
        for end in (self.end_quickly, self.end):
            end.restype, end.argtypes = size, (pointer, pointer, pointer)
        scratch_size, prepare = locked.fastarchive_scratch, locked.fastarchive_scratch_prepare
        scratch_size.restype = size
        prepare.restype, prepare.argtypes = None, (pointer,)
        self.scratch = _Scratch(scratch_size(), prepare)
        self._spare: dict[int, list[_Memory]] = {}

    def begin(self, size: int, distance: int) -> RowFrame:
        """A frame of `size` bytes of pixels, or fewer, in rows of `distance` 8-byte words; both at least 1."""
        need = self._need(size, distance)
        try:
            memory = self._spare[need].pop()
        except LookupError:
            memory = _Memory(need)
        self._begin(memory.address, size, distance)
        return RowFrame(self, memory)

    def give_back(self, memory: _Memory) -> None:
        """Memory that is free again."""
        if len(self._spare) > _MOST_SPARE and memory.need not in self._spare:
            self._spare.clear()
        spare = self._spare.setdefault(memory.need, [])
        if len(spare) < _MOST_SPARE:
            spare.append(memory)


class RowFrame:
    """A frame being made. For one thread at a time."""

    __slots__ = ("_come", "_frames", "_memory")

    def __init__(self, frames: RowFrames, memory: _Memory) -> None:
        self._frames = frames
        self._memory = memory
        self._come = 0

    def feed(self, data: bytes, start: int, count: int) -> None:
        """The next pixels: `count` bytes of `data` from `start` on. What is more than was announced is dropped."""
        if start < 0 or count < 0 or start + count > len(data):
            raise ValueError("there are no such bytes")
        frames = self._frames
        feed = frames.feed_quickly if count <= _QUICK else frames.feed
        feed(self._memory.address, frames.scratch.memory, data, start, count)
        self._come += count

    def finish(self) -> bytes:
        """The frame, after some pixels have come; it may be a little longer than they are. Nothing may follow."""
        frames, memory = self._frames, self._memory
        scratch = frames.scratch
        # Up to a block of each plane is still to be compressed.
        end = frames.end_quickly if self._come <= _QUICK else frames.end
        at = end(memory.address, scratch.memory, scratch.size_at)
        frame = ctypes.string_at(memory.address + at, scratch.size.value)
        frames.give_back(memory)
        return frame


_loaded = library()
row_frames: Final = RowFrames(_loaded.path) if _loaded is not None else None
"""What makes frames here; None where no library was built for the machine."""
