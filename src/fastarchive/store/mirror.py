"""The mirror: every pack a second time, on another disk. What is promised: ``docs/format.md``, "Mirror"."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Final

from fastarchive.store.disk import DISK, Disk
from fastarchive.store.pack import (
    PAGE,
    OpenPack,
    PackError,
    Seal,
    create_copy,
    decode_identity,
    encode_page,
    list_packs,
    pack_path,
    publish_durable,
    read_state,
    read_table,
    seal_pack,
)
from fastarchive.store.repair import Busy, HealingFailed, heal
from fastarchive.store.verify import Pace

logger = logging.getLogger(__name__)

_PIECE: Final = 4 << 20


class MirrorWait(StrEnum):
    """When a record is acknowledged."""

    BOTH = "both"
    """When both copies are on stable storage; if one disk fails, nothing is stored."""
    ONE = "one"
    """When the first copy is; the mirror follows as soon as it can, and may fail."""


class Trailing:
    """Copies what this process made durable to the mirror, in a thread, a moment later (:attr:`MirrorWait.ONE`).

    A copy that fails is given up, and made anew by :func:`catch_up` once the pack is sealed.
    """

    def __init__(self, directory: Path, mirror: Path, disk: Disk = DISK) -> None:
        self._directory = directory
        self._mirror = mirror
        self._disk = disk
        self._changed = threading.Condition()
        self._waiting: dict[int, None] = {}
        self._copies: dict[int, OpenPack | None] = {}
        """The copies being made; None for those given up."""
        self._closing = False
        self._thread: threading.Thread | None = None
        self.failed = 0
        """Copies given up."""

    def follow(self, pack: int) -> None:
        """There is more in a pack, or it was sealed. Only takes note."""
        with self._changed:
            self._waiting[pack] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Copy what is left, then end. May be called twice."""
        with self._changed:
            self._closing = True
            thread = self._thread
            self._changed.notify()
        if thread is not None:
            thread.join()
        for copy in self._copies.values():
            if copy is not None:
                os.close(copy.fd)
        self._copies.clear()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                packs, self._waiting = list(self._waiting), {}
            if not packs:
                return
            for pack in packs:
                try:
                    self._copy(pack)
                except (OSError, PackError) as error:
                    logger.error("the mirror can't be written", extra={"pack": pack, "error": str(error)})
                    self.failed += 1
                    copy = self._copies.get(pack)
                    if copy is not None:
                        os.close(copy.fd)
                    self._copies[pack] = None

    def _copy(self, pack: int) -> None:
        """Bring the copy of one pack up to what is durable of it. Raises OSError, PackError."""
        source = os.open(pack_path(self._directory, pack), os.O_RDONLY | os.O_CLOEXEC)
        try:
            state = read_state(source)
            if pack not in self._copies:
                identity = decode_identity(os.pread(source, PAGE, 0))
                reserve = 0 if state.seal else os.fstat(source).st_size
                self._copies[pack] = create_copy(self._mirror, pack, encode_page(identity), reserve, self._disk)
            copy = self._copies[pack]
            if copy is not None:
                copy_records(source, copy, state.end, self._disk)
                if state.seal is not None:
                    self._seal(source, copy, state.seal)
            if state.seal is not None:
                del self._copies[pack]
        finally:
            os.close(source)

    def _seal(self, source: int, copy: OpenPack, seal: Seal) -> None:
        table = read_table(source, seal)
        if len(table) != seal.records:
            raise PackError("the table of records is damaged")
        seal_pack(copy.fd, seal.records_end, table, recovered=seal.recovered, disk=self._disk)
        os.close(copy.fd)


def copy_records(source: int, copy: OpenPack, end: int, disk: Disk = DISK) -> None:
    """Append to `copy` what the pack open as `source` holds up to `end`, and make it durable. Raises OSError."""
    position = copy.end
    while position < end:
        data = os.pread(source, min(_PIECE, end - position), position)
        if not data:
            raise PackError("the pack is shorter than it says")
        position += disk.write(copy.fd, (data,), position)
    if position > copy.end:
        disk.sync(copy.fd)
        copy.end = position
        publish_durable(disk, copy.fd, position)


def catch_up(
    directory: Path,
    mirror: Path,
    *,
    pace: Pace | None = None,
    stopped: Callable[[], bool] = lambda: False,
    alike: set[int] | None = None,
    disk: Disk = DISK,
) -> list[int]:
    """Make the missing and unfinished copies of sealed packs in the mirror; the packs copied.

    Packs in `alike` are not looked at; those found to have their copy are added to it.
    Only headers are read of the packs that have their copy. Never raises for one pack: it is tried again next time.
    Raises OSError when a directory can't be listed.
    """
    if not mirror.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no folder for the mirror")
    copied = []
    for pack in list_packs(directory):
        if stopped():
            break
        if alike is not None and pack in alike:
            continue
        with suppress(OSError, PackError, Busy, HealingFailed):
            seal = seal_of(directory, pack)
            if seal is None:
                continue
            other = seal_of(mirror, pack)
            if other is not None and other[:3] == seal[:3]:  # by whom they were sealed may differ
                if alike is not None:
                    alike.add(pack)
            elif heal(pack, (directory, mirror), pace=pace, disk=disk).written:
                copied.append(pack)
    return copied


def seal_of(directory: Path, pack: int) -> Seal | None:
    """The seal of a pack; None if it has none or isn't there. Raises OSError."""
    try:
        fd = os.open(pack_path(directory, pack), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return read_state(fd).seal
    finally:
        os.close(fd)
