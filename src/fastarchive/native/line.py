"""Data sets made into durable records by threads that need no interpreter (``line.c``)."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from collections.abc import Collection, Iterator, Sequence
from ctypes import string_at
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from fastarchive.native.loading import library
from fastarchive.native.plain import MOST, Rooms

__all__ = ["MOST", "Files", "Landed", "LeftPack", "NativeLine", "News", "native_line"]

_AT_ONCE: Final = 64
_MOST_TYPES: Final = 64
_pointer, _size, _text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p


class _Part(ctypes.Structure):
    _fields_ = (("base", _pointer), ("length", _size))


_WRITE: Final = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int, ctypes.POINTER(_Part), ctypes.c_int, ctypes.c_uint64)
_SYNC: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
_ROOM: Final = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int)


class _Files(ctypes.Structure):
    _fields_ = (("write", _WRITE), ("sync", _SYNC), ("room", _ROOM))


_LANDED: Final = struct.Struct("=QQQQQIiQQQ")
"""As in C, where no field is out of its place: token, serial, offset, length, address of the record, length of its
metadata, error, and three times."""


class _Progress(ctypes.Structure):
    _fields_ = (
        ("wants_pack", ctypes.c_uint32),
        ("threads", ctypes.c_uint32),
        ("is_news", ctypes.c_uint32),
        ("has_more", ctypes.c_uint32),
        ("records", ctypes.c_uint64),
        ("groups", ctypes.c_uint64),
        ("serial", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("left_serial", ctypes.c_uint64),
        ("left_end", ctypes.c_uint64),
        ("left_error", ctypes.c_int32),
        ("left_is_there", ctypes.c_uint32),
    )


class _Pack(ctypes.Structure):
    _fields_ = (
        ("fd", ctypes.c_int),
        ("serial", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("reserved", ctypes.c_uint64),
        ("zeroed", ctypes.c_uint64),
    )


class Files(Protocol):
    """What stands for the operating system's files, in any thread. All raise OSError."""

    def write_some(self, fd: int, buffers: Sequence[bytes], offset: int, /) -> int:
        """Write the buffers, or some of them; the number of bytes."""

    def sync(self, fd: int, /) -> None:
        """See that they are on stable storage."""

    def free(self, fd: int, /) -> int:
        """Bytes that may still be written."""


Landed = tuple[int, int, int, int, bytes, int, int, int, int]
"""What became of a data set: token, serial of its pack, offset, size, metadata, an errno (0: it is durable), and the
nanoseconds it took to digest it, to compress it, and to sync its group."""


class LeftPack(NamedTuple):
    """A pack nothing is written to any more: all that is in it has landed."""

    serial: int
    end: int
    error: int
    """Why it was left, an errno; 0: there was no more room in it."""


class News(NamedTuple):
    """What is to be done."""

    wants_pack: bool
    """One has to be given, or denied. Told once."""
    left: LeftPack | None
    threads: int
    """That have not ended."""


class Count(NamedTuple):
    """What was done until the last look."""

    records: int
    groups: int
    serial: int
    end: int
    """Of the pack in use; 0: there is none."""


class NativeLine:
    """The functions of one library. :meth:`landed` and :meth:`offer` are for one thread; the rest is for any."""

    def __init__(
        self,
        path: Path,
        stored: Collection[int],
        *,
        makers: int,
        seal_size: int,
        reserve_bytes: int,
        files: Files | None = None,
    ) -> None:
        """stored: tags of the attributes a record has. makers: how many records are made at a time. seal_size: bytes of
        a pack. reserve_bytes: what stays free on the disk. files: for tests; without them there is no Python between.

        Raises OSError or AttributeError where that can't be.
        """
        self._rooms = Rooms(path, stored, MOST, makers + 2)  # to look in, and for the one that is arriving
        briefly, waiting = ctypes.PyDLL(str(path)), ctypes.CDLL(str(path))
        begin = waiting.fastarchive_line
        begin.restype = _pointer
        begin.argtypes = (
            _pointer,
            ctypes.c_uint64,
            ctypes.c_uint64,
            ctypes.c_int,
            ctypes.c_uint32,
            _pointer,
            ctypes.c_uint32,
        )
        self._start = waiting.fastarchive_line_start
        self._start.argtypes = (_pointer, ctypes.c_uint32)
        self._offer = briefly.fastarchive_line_offer
        self._offer.argtypes = (
            _pointer, _pointer, ctypes.c_uint64, _pointer, _pointer, _size, _text, _text, ctypes.c_int64,
        )  # fmt: skip
        self._begin = briefly.fastarchive_line_begin
        self._begin.restype = _size
        self._begin.argtypes = (_pointer, _pointer, ctypes.c_uint64, _pointer, _pointer, _size, _text, _text)
        self._more = briefly.fastarchive_line_more
        self._more.argtypes = (_pointer, ctypes.c_uint64, _pointer, _pointer, _size, ctypes.c_int64)
        self._drop = briefly.fastarchive_line_drop
        self._drop.restype, self._drop.argtypes = None, (_pointer, ctypes.c_uint64)
        self._give = waiting.fastarchive_line_give
        self._give.argtypes = (_pointer, ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)
        self._deny = waiting.fastarchive_line_deny
        self._deny.argtypes = (_pointer, ctypes.c_int)
        self._landed = briefly.fastarchive_line_landed
        self._landed.argtypes = (_pointer, _pointer, ctypes.c_uint32, _pointer)
        self._stop = waiting.fastarchive_line_stop
        self._stop.argtypes = (_pointer,)
        self._free = waiting.fastarchive_line_free
        self._free.restype, self._free.argtypes = None, (_pointer, _pointer)
        self._files = None if files is None else _Files(*_callbacks(files))
        rooms = (_pointer * (makers + 1))(*self._rooms.addresses[1:])
        self.bell: Final = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """A file descriptor that can be read when :meth:`landed` is to be called."""
        self._address = begin(
            None if self._files is None else ctypes.addressof(self._files),
            seal_size, reserve_bytes, self.bell, MOST, rooms, makers + 1,
        )  # fmt: skip
        if not self._address or self._start(self._address, makers + 1) <= makers:
            raise OSError("threads can't be started")
        self._busy_since = ctypes.c_uint64.from_address(self._address)
        self.is_closed = False
        self._out = (ctypes.c_char * (_AT_ONCE * _LANDED.size))()
        self._out_view = memoryview(self._out).cast("B")
        self._arrays: dict[int, tuple[Any, Any]] = {}
        self._progress = _Progress()
        self._progress_at = ctypes.addressof(self._progress)

    @property
    def busy_since(self) -> float:
        """Since when a group is being written, on the clock of perf_counter(); 0 when none is."""
        return self._busy_since.value / 1e9

    def offer(self, token: int, pieces: Sequence[bytes], strings: bytes, lengths: bytes, received: int) -> bool:
        """Take a data set on: `pieces` must stay until it has landed. False when it isn't plain, or not wanted.

        strings: the affected SOP class and instance, the transfer syntax, the calling and the called AE title, as bytes
        and together; lengths: the five. received: nanoseconds since the epoch.
        """
        where, sizes, count = self._arranged(pieces)
        looker = self._rooms.addresses[0]
        return bool(self._offer(self._address, looker, token, where, sizes, count, strings, lengths, received))

    def begin(self, token: int, pieces: Sequence[bytes], strings: bytes, lengths: bytes) -> int:
        """As :meth:`offer`, for a data set of which these pieces have arrived so far; its size. 0 when it isn't plain,
        or the line has other things to do. One at a time: it lands in any case, with ECANCELED if it was dropped."""
        where, sizes, count = self._arranged(pieces)
        looker = self._rooms.addresses[0]
        return int(self._begin(self._address, looker, token, where, sizes, count, strings, lengths))

    def more(self, token: int, pieces: Sequence[bytes], received: int = 0) -> bool:
        """More pieces of such a data set. received: when the last one had come, with that. False when it has not
        the size it should have: it is dropped."""
        where, sizes, count = self._arranged(pieces)
        return bool(self._more(self._address, token, where, sizes, count, received))

    def drop(self, token: int) -> None:
        """Nothing more comes of such a data set."""
        self._drop(self._address, token)

    def _arranged(self, pieces: Sequence[bytes]) -> tuple[Any, Any, int]:
        count = len(pieces)
        wheres, lists = self._arrays.get(count) or self._array_types(count)
        return wheres(*pieces), lists(*map(len, pieces)), count

    def _array_types(self, count: int) -> tuple[Any, Any]:
        """For so many pieces. To make the types takes longer than all the rest, and ctypes forgets them."""
        types = _text * count, ctypes.c_uint32 * count
        if len(self._arrays) < _MOST_TYPES:
            self._arrays[count] = types
        return types

    def give(self, fd: int, serial: int, end: int, reserved: int) -> None:
        """A pack to go on with: open, with `end` bytes in it and space set aside up to `reserved`."""
        self._give(self._address, fd, serial, end, reserved)

    def deny(self, error: int) -> None:
        """No pack is to be had, because of this errno, until one is given: what waits for one fails."""
        self._deny(self._address, error)

    def landed(self) -> tuple[list[Landed], News | None, bool]:
        """What has landed since the last time; what is to be done, if anything; and whether there is more of either."""
        count = self._landed(self._address, self._out, _AT_ONCE, self._progress_at)
        landed = [
            (
                token,
                serial,
                offset,
                size,
                string_at(record, metadata) if metadata else b"",
                error,
                digest,
                compress,
                sync,
            )
            for token, serial, offset, size, record, metadata, error, digest, compress, sync in _LANDED.iter_unpack(
                self._out_view[: count * _LANDED.size]
            )
        ]
        progress = self._progress
        if not progress.is_news:
            return landed, None, bool(progress.has_more)
        left = None
        if progress.left_is_there:
            left = LeftPack(progress.left_serial, progress.left_end, progress.left_error)
        return landed, News(bool(progress.wants_pack), left, progress.threads), bool(progress.has_more)

    @property
    def count(self) -> Count:
        """What was done until the last look."""
        progress = self._progress
        return Count(progress.records, progress.groups, progress.serial, progress.end)

    def stop(self) -> None:
        """Take nothing on any more; the threads end when all has landed."""
        self._stop(self._address)

    def wait(self, seconds: float) -> None:
        """Until the bell rings, so long at most."""
        poll = select.poll()
        poll.register(self.bell, select.POLLIN)
        poll.poll(seconds * 1000)

    def close(self) -> list[LeftPack]:
        """After the threads have ended: the packs it still has."""
        packs = (_Pack * 2)()
        self._busy_since = ctypes.c_uint64(0)
        self.is_closed = True
        self._free(self._address, packs)
        os.close(self.bell)
        return [LeftPack(pack.serial, pack.end, 0) for pack in packs if pack.fd >= 0]


def _callbacks(files: Files) -> Iterator[Any]:
    def write(fd: int, parts: Any, count: int, offset: int) -> int:
        try:
            return files.write_some(fd, [ctypes.string_at(part.base, part.length) for part in parts[:count]], offset)
        except OSError as error:
            return -(error.errno or 5)

    def sync(fd: int) -> int:
        try:
            files.sync(fd)
        except OSError as error:
            return -(error.errno or 5)
        return 0

    def room(fd: int) -> int:
        try:
            return files.free(fd)
        except OSError as error:
            return -(error.errno or 5)

    yield from (_WRITE(write), _SYNC(sync), _ROOM(room))


def native_line(
    stored: Collection[int], *, makers: int, seal_size: int, reserve_bytes: int, files: Files | None = None
) -> NativeLine | None:
    """A line with the library of this machine; None where there is none."""
    loaded = library()
    if loaded is None:
        return None
    try:
        return NativeLine(
            loaded.path, stored, makers=makers, seal_size=seal_size, reserve_bytes=reserve_bytes, files=files
        )
    except (OSError, AttributeError):
        return None
