"""Pending C-FIND responses from stored rows: answers.c by ctypes. Its Python twin is ``query/respond.py``."""

from __future__ import annotations

import ctypes
import struct
import threading
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fastarchive.native.loading import library

__all__ = [
    "ABOVE",
    "ELEMENT",
    "INSTANCES",
    "MODALITIES",
    "MOST_STEPS",
    "NONE",
    "SERIES",
    "SOP_CLASSES",
    "STUDIES",
    "Encoder",
    "Step",
    "Template",
    "encode_answers",
]

NONE, ELEMENT, ABOVE, STUDIES, SERIES, INSTANCES, MODALITIES, SOP_CLASSES = range(8)
"""Where a value comes from: nowhere, an element of the row, a value from above, or what a row counts and lists."""
MOST_STEPS: Final = 128

_STEP: Final = struct.Struct("<IIIHBBB3x")
_TEMPLATE: Final = struct.Struct("<QIIQII")


class Step(NamedTuple):
    """One element of an identifier."""

    source: int
    argument: int
    """The tag of an ELEMENT; which of the values from ABOVE."""
    header: bytes
    """What comes before the length: the elements that are the same in every answer, then tag and VR."""
    length_size: int
    """Bytes of the length: 2 or 4."""
    is_text: bool
    """Whether the value may hold more than ASCII."""
    padding: int
    """The byte that makes a length even."""


class Template:
    """The identifiers of one query, for :data:`encode_answers`; immutable.

    trailer: what comes after the last step. character_set: the element that names UTF-8 and comes first when a text is
    not ASCII; empty if such answers are not encoded here.
    """

    def __init__(self, steps: Sequence[Step], trailer: bytes, character_set: bytes) -> None:
        if len(steps) > MOST_STEPS:
            raise ValueError(f"{len(steps)} steps")
        literals = bytearray(character_set)
        packed = bytearray()
        for step in steps:
            packed += _STEP.pack(
                step.source,
                step.argument,
                len(literals),
                len(step.header),
                step.length_size,
                step.is_text,
                step.padding,
            )
            literals += step.header
        self._steps = bytes(packed)
        self._literals = bytes(literals) + trailer
        self.address = _TEMPLATE.pack(
            _address(self._steps),
            len(steps),
            len(character_set),
            _address(self._literals),
            len(literals),
            len(trailer),
        )
        """As the C function takes it; good as long as the template lives."""
        self.most = len(self._literals) + len(steps) * (4 + 1 + 10)
        """Bytes an identifier has at most besides the values of its row and those from above."""


class Framing(NamedTuple):
    """What an answer has besides its identifier."""

    command: bytes
    """The command set in its PDU."""
    context_id: int
    longest: int
    """Most bytes of an identifier in its PDU."""


Encoder = Callable[[Sequence[bytes], Template, Sequence[bytes], Framing], tuple[bytes, list[int]]]


class _Memory(threading.local):
    """What one thread writes answers to, again and again."""

    def __init__(self) -> None:
        self.out = ctypes.create_string_buffer(0)


_memory: Final = _Memory()


def _address(data: bytes) -> int:
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


def encoder(path: Path) -> Encoder:
    """:data:`encode_answers` of one library."""
    write = ctypes.PyDLL(str(path)).fastarchive_answers
    write.restype = ctypes.c_size_t
    write.argtypes = (
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_uint32,
        ctypes.c_uint32,
        ctypes.c_uint32,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_void_p,
    )

    def encode_answers(
        rows: Sequence[bytes], template: Template, above: Sequence[bytes], framing: Framing
    ) -> tuple[bytes, list[int]]:
        count = len(rows)
        sizes = array("I", map(len, rows))
        command, context_id, longest = framing
        each = template.most + sum(map(len, above)) + len(command) + 12
        capacity = sum(sizes) + count * each
        if len(_memory.out) < capacity:
            _memory.out = ctypes.create_string_buffer(capacity)
        out = _memory.out
        ends = (ctypes.c_uint32 * count)()
        written = write(
            b"".join(rows),  # an array of pointers to them would take longer than all else here
            sizes.buffer_info()[0],
            count,
            template.address,
            (ctypes.c_char_p * len(above))(*above),
            (ctypes.c_uint32 * len(above))(*map(len, above)),
            command,
            len(command),
            context_id,
            min(longest, 0xFFFFFFFF),
            out,
            capacity,
            ends,
        )
        return ctypes.string_at(out, written), ends[:]

    return encode_answers


_library = library()
encode_answers: Final = encoder(_library.path) if _library is not None else None
"""``encode_answers(rows, template, above, framing)``: for each row a command set and an identifier, both in PDUs, and
where each of these answers ends; one that ends where the one before does is not there: the row has to be answered
otherwise. None without a library."""
