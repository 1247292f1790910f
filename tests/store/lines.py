"""A line, and somebody who waits for what he gave to it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastarchive.dicom.attributes import STORED_TAGS
from fastarchive.native.loading import OFF, library
from fastarchive.store.appends import OwnPacks
from fastarchive.store.disk import Disk
from fastarchive.store.line import Beginning, Line, Sender, Stored, open_line
from fastarchive.store.log import SEAL_SIZE
from tests.store.making import CT_IMAGE_STORAGE, EXPLICIT_LITTLE, ct_pixels, element, header

needs_library = pytest.mark.skipif(
    library() is None and (os.environ.get(OFF) == "0" or not any(map(shutil.which, ("cc", "gcc", "clang")))),
    reason="there is no library, and so no line",
)
"""A machine that could have a library and has none fails."""

SENDER = Sender(CT_IMAGE_STORAGE, EXPLICIT_LITTLE, "CT1", "FASTARCHIVE")


def uid_of(number: int) -> str:
    """The SOP Instance UID of a slice."""
    return f"1.2.3.{number}"


def plain_slice(number: int, rows: int = 20, columns: int = 30) -> tuple[str, bytes]:
    """A SOP Instance UID and a plain data set of it, each another."""
    uid = uid_of(number)
    pixels = ct_pixels(rows, columns, seed=number)
    return uid, header(uid, rows=rows, columns=columns) + element(0x7FE00010, "OW", pixels)


def cut(data: bytes, pieces: int) -> list[bytes]:
    """A data set in so many pieces."""
    size = -(-len(data) // pieces)
    return [data[at : at + size] for at in range(0, len(data), size)]


class Plain:
    """Gives data sets to a line and waits until they have landed."""

    def __init__(self, line: Line, own: OwnPacks) -> None:
        self.line = line
        self.own = own
        self.landed: dict[str, Stored] = {}

    def offer(self, uid: str, data: bytes, *, pieces: int = 1) -> bool:
        """Give it one data set, in so many pieces; whether it takes it."""
        return self.line.offer(uid, uid, SENDER, cut(data, pieces))

    def begin(self, uid: str, pieces: Sequence[bytes], seconds: float = 20.0) -> Beginning:
        """Let it begin with these pieces of a data set, and ask again while it has other things to do."""
        begun: list[Beginning] = []

        def ask() -> bool:
            beginning = self.line.begin(uid, SENDER, pieces)
            if beginning is not None:
                begun.append(beginning)
            return beginning is not None

        self.until(ask, seconds)
        return begun[0]

    def until(self, probe: Callable[[], bool], seconds: float = 20.0) -> None:
        """Note what lands until `probe` says yes."""
        deadline = time.monotonic() + seconds
        while not probe():
            assert time.monotonic() < deadline
            self.line._native.wait(0.01)
            self.take()

    def offered(self, uid: str, data: bytes, seconds: float = 20.0) -> None:
        """Give it one, and again while it takes none."""
        deadline = time.monotonic() + seconds
        while not self.offer(uid, data):
            assert time.monotonic() < deadline, f"{uid} is not taken"
            self.line._native.wait(0.05)  # until something has landed, or a while
            self.take()

    def take(self) -> None:
        """Note what has landed."""
        for stored in self.line.landed():
            assert stored.token == stored.sop_instance
            self.landed[stored.sop_instance] = stored

    def wait_for(self, uids: Sequence[str], seconds: float = 20.0) -> list[Stored]:
        """What became of these."""
        deadline = time.monotonic() + seconds
        while not all(uid in self.landed for uid in uids):
            assert time.monotonic() < deadline, f"not landed: {set(uids) - self.landed.keys()}"
            self.line._native.wait(0.5)
            self.take()
        return [self.landed.pop(uid) for uid in uids]

    def store(self, of: tuple[str, bytes], *, pieces: int = 1) -> Stored:
        """What became of a UID and its data set."""
        assert self.offer(*of, pieces=pieces)
        return self.wait_for([of[0]])[0]


@contextmanager
def opened_line(
    directory: Path,
    *,
    seal_size: int = SEAL_SIZE,
    reserve_bytes: int = 0,
    makers: int = 2,
    disk: Disk | None = None,
) -> Iterator[Plain]:
    """A line into a data directory, closed afterwards."""
    directory.mkdir(exist_ok=True)
    own = OwnPacks()
    line = open_line(
        directory, STORED_TAGS, seal_size=seal_size, reserve_bytes=reserve_bytes, own=own, makers=makers, disk=disk
    )
    assert line is not None
    plain = Plain(line, own)
    try:
        yield plain
    finally:
        for stored in line.close():
            plain.landed[stored.sop_instance] = stored
