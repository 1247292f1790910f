"""Memory for C functions to work in."""

from __future__ import annotations

import ctypes
from mmap import mmap
from typing import Final

__all__ = ["Pages"]


class Pages:
    """`size` zeroes in whole pages, each of which takes memory only once it is used. They last as long as this does."""

    __slots__ = ("address", "view")

    def __init__(self, size: int) -> None:
        memory = mmap(-1, size)
        self.view: Final = memoryview(memory)
        self.address: Final = ctypes.addressof(ctypes.c_char.from_buffer(memory))
