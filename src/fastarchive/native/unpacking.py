"""Frames of 16-bit pixels read back and their filter undone in one call (``unpack.c``)."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path
from typing import Final

import numpy as np

from fastarchive.native.loading import library

__all__ = ["Unpacking", "unpack_rows"]

Buffer = bytes | bytearray | memoryview


class _Scratch(threading.local):
    """What one thread works in."""

    def __init__(self) -> None:
        self.memory = ctypes.create_string_buffer(0)
        self.size = -1


class Unpacking:
    """Reads frames with one library. Thread-safe."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._need = library.fastarchive_unpack_work
        self._need.restype, self._need.argtypes = size, (size,)
        self._unpack = library.fastarchive_unpack
        self._unpack.restype = ctypes.c_int
        self._unpack.argtypes = (pointer, size, size, size, ctypes.c_char_p, pointer)
        self._scratch = _Scratch()

    def __call__(self, frame: Buffer, distance: int, out: Buffer) -> bool:
        """What a frame of :data:`fastarchive.native.pixels.row_frames` was made of into `out`, which has its length.

        False when the frame is damaged or another's, which zstd then has to tell.
        """
        scratch, size = self._scratch, len(out)
        if scratch.size < size:
            scratch.memory = ctypes.create_string_buffer(self._need(size))
            scratch.size = size
        source, target = np.frombuffer(frame, np.uint8), np.frombuffer(out, np.uint8)
        from_address: int = source.__array_interface__["data"][0]
        to_address: int = target.__array_interface__["data"][0]
        return bool(self._unpack(from_address, len(frame), size, distance, scratch.memory, to_address))


_loaded = library()
unpack_rows: Final = Unpacking(_loaded.path) if _loaded is not None else None
"""What reads frames here; None where no library was built for the machine."""
