"""A stream of content cut into blocks, each filtered and compressed as its part of the data set deserves."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fastarchive.store.codec import EncodedBlock, GrowingBlock, Plan, decode_block, encode_block, growing_block
from fastarchive.store.disk import DISK, Disk
from fastarchive.store.filters import Buffer
from fastarchive.store.record import Block, Record, encode_record


class Spool:
    """Blocks of a large object kept in a nameless file until they are copied into a pack.

    Leaves `reserve` bytes of the disk free, and room for that copy. Raises OSError where the disk does, ENOSPC before
    it does; :meth:`close` gives the space back and may be called twice.
    """

    def __init__(self, directory: Path, disk: Disk = DISK, *, reserve: int = 0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.fd, name = tempfile.mkstemp(suffix=".spool", dir=directory)
        Path(name).unlink()
        self.length = 0
        self._disk = disk
        self._reserve = reserve

    def append(self, pieces: tuple[Buffer, ...]) -> None:
        """Add a block's stored bytes."""
        if self._reserve:
            size = sum(map(len, pieces))
            if self._disk.free(self.fd) - self._reserve < self.length + 2 * size:
                raise OSError(errno.ENOSPC, "only the reserve would be left on the disk")
        self.length += self._disk.write(self.fd, pieces, self.length)

    def close(self) -> None:
        """Give the space back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@dataclass(slots=True)
class EncodedRecord:
    """A record ready for the pack: its metadata frame, then its blocks, from memory or from a spool."""

    record: Record
    metadata: bytes
    buffers: list[Buffer]
    spool: Spool | None
    size: int
    """Bytes of the whole record."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds by stage: digest, scan, compress; the log adds write and sync."""

    @classmethod
    def of(cls, record: Record, buffers: list[Buffer] | None = None, spool: Spool | None = None) -> EncodedRecord:
        """`record` with its blocks. Raises ValueError where :func:`encode_record` does."""
        metadata = encode_record(record)
        size = len(metadata) + sum(block.stored for block in record.blocks)
        return cls(record, metadata, buffers or [], spool, size)

    def content(self) -> Iterator[Buffer]:
        """The data set again, block by block. Raises OSError from the spool."""
        pieces = iter(self.buffers)
        position = 0
        for block in self.record.blocks:
            if self.spool is not None:
                stored: Buffer = os.pread(self.spool.fd, block.stored, position)
                position += block.stored
            else:
                stored = next(pieces)
                if len(stored) < block.stored:  # a frame's head comes as a piece of its own
                    stored = b"".join((stored, next(pieces)))
            yield decode_block(block, stored)


class Region(NamedTuple):
    """A stretch of the data set with one plan; `length` None is the rest, `whole` puts it in one block."""

    length: int | None
    plan: Plan
    whole: bool = False


class BlockEncoder:
    """Takes content in pieces of any size and cuts it into blocks by regions. Not thread-safe.

    Holds at most one block and one piece; of pixels that are compressed as they come less.
    """

    def __init__(self, regions: list[Region], spool: Spool | None = None) -> None:
        self.blocks: list[Block] = []
        self.buffers: list[Buffer] = []
        self.spool = spool
        self._regions = iter(regions)
        self._region = next(self._regions)
        self._left = self._region.length
        self._parts: list[bytes | memoryview] = []
        self._growing: GrowingBlock | None = None
        self._come = 0
        """Bytes of content that are not in a block yet."""
        self._wanted = 0
        """Bytes the next block stands for if enough come."""
        self._next_region()

    @property
    def waiting(self) -> int:
        """Bytes of content that are not in a block yet."""
        return self._come

    def feed(self, data: bytes) -> None:
        """More content; `data` must not change until :meth:`finish`. Raises OSError from the spool."""
        position, end = 0, len(data)
        while position < end:
            if not self._come:
                self._growing = growing_block(self._wanted, self._region.plan)
            some = min(end - position, self._wanted - self._come)
            if self._growing is not None:
                self._growing.feed(data, position, some)
            elif some == end:
                self._parts.append(data)
            else:
                piece = memoryview(data)[position : position + some]
                # What has to wait is copied, so that it doesn't keep a much larger piece alive.
                self._parts.append(piece if self._come + some == self._wanted else bytes(piece))
            self._come += some
            position += some
            if self._come == self._wanted:
                self._close_block()

    def finish(self) -> None:
        """The content is complete: whatever waits becomes the last block. Raises OSError from the spool."""
        if self._come:
            self._close_block()

    def _close_block(self) -> None:
        """All that has come is a block."""
        if self._growing is not None:
            encoded = self._growing.finish()
            self._growing = None
        else:
            parts = self._parts
            encoded = encode_block(parts[0] if len(parts) == 1 else b"".join(parts), self._region.plan)
            self._parts = []
        if self._left is not None:
            self._left -= self._come
        self._come = 0
        self._emit(encoded)
        self._next_region()

    def _next_region(self) -> None:
        while self._left == 0:
            self._region = next(self._regions)
            self._left = self._region.length
        if self._left is None:
            self._wanted = self._region.plan.block_size
        else:
            self._wanted = self._left if self._region.whole else min(self._left, self._region.plan.block_size)

    def _emit(self, encoded: EncodedBlock) -> None:
        self.blocks.append(encoded.block)
        if self.spool is not None:
            self.spool.append(encoded.stored)
        else:
            self.buffers.extend(encoded.stored)
