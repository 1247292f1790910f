"""Which instances a log has beyond what was read of it (``scout.c``)."""

from __future__ import annotations

import ctypes
import os
from enum import IntEnum
from pathlib import Path
from typing import Final

from fastarchive.native.loading import library
from fastarchive.native.memory import Pages

__all__ = ["Answer", "Scout", "scout"]

_MOST: Final = 2048
"""Records looked at in one call: some 4 µs each where they are not in the caches of the processor."""


class Answer(IntEnum):
    """What a scout says of an instance."""

    PERHAPS = 0
    """Whoever wants to know has to read on, and to begin anew."""
    LACKS = 1
    """There is none."""
    FULL = 2
    """It has seen too many: begin anew, with nothing read, and ask again."""
    CHANGED = 3
    """The folder has changed: add what is new in it, or begin anew where something has gone, and ask again."""


class Scout:
    """Looks with one library at the packs in a folder and at their records, each once. For one thread at a time."""

    def __init__(self, path: Path, folder: str, noted: str) -> None:
        """folder: of the packs; noted: a SOP class whose records are to be read.

        Raises OSError when the names are too long, or the library has no such function.
        """
        native = ctypes.PyDLL(str(path))
        pointer, text = ctypes.c_void_p, ctypes.c_char_p
        native.fastarchive_scout_room.restype = ctypes.c_size_t
        native.fastarchive_scout_prepare.argtypes = (pointer, text, text)
        self._begin = native.fastarchive_scout_begin
        self._begin.restype, self._begin.argtypes = None, (pointer, ctypes.c_int64)
        self._go_on = native.fastarchive_scout_go_on
        self._go_on.restype, self._go_on.argtypes = None, (pointer, ctypes.c_int64)
        self._add = native.fastarchive_scout_add
        self._add.argtypes = (pointer, ctypes.c_int, ctypes.c_uint64)
        self._records = native.fastarchive_scout_records
        self._records.restype, self._records.argtypes = ctypes.c_uint32, (pointer,)
        self._ask = native.fastarchive_scout
        self._ask.argtypes = (pointer, text, ctypes.c_size_t, ctypes.c_uint32)
        self._pages = Pages(native.fastarchive_scout_room())
        self._address = self._pages.address
        if not native.fastarchive_scout_prepare(self._address, os.fsencode(folder), noted.encode()):
            raise OSError("the name of the folder is too long")

    def begin(self, changed: int) -> None:
        """Forget all packs and instances; the folder had last changed at `changed`, in nanoseconds."""
        self._begin(self._address, changed)

    def go_on(self, changed: int) -> None:
        """All packs are added that the folder had when it had changed last, at `changed`."""
        self._go_on(self._address, changed)

    def add(self, fd: int, position: int) -> bool:
        """A pack of the folder, read up to `position`; False when there are too many of them."""
        return bool(self._add(self._address, fd, position))

    def ask(self, instance: str) -> int:
        """Whether a durable record that was not read is of this instance, or could tell anything else of it: an
        :class:`Answer`."""
        name = instance.encode()
        answer: int = self._ask(self._address, name, len(name), _MOST)
        return answer

    @property
    def records(self) -> int:
        """How many records it has looked at since it began."""
        count: int = self._records(self._address)
        return count


def scout(folder: str, noted: str) -> Scout | None:
    """A scout for the packs in a folder, as :class:`Scout`; None where the packs have to be read."""
    loaded = library()
    if loaded is None:
        return None
    try:
        return Scout(loaded.path, folder, noted)
    except (OSError, ValueError):
        return None
