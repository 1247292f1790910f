"""The few operations on files the store is built from, in one place so that tests can make each of them fail."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fastarchive.store.filters import Buffer

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors that mean there is no room, and may be over when something is deleted."""

_COPY_PIECE = 4 << 20
_NO_COPY_RANGE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM})
_VECTORS = min(os.sysconf("SC_IOV_MAX"), 1024)


class Disk:
    """The operating system's files. Every method raises OSError."""

    def create(self, path: Path) -> int:
        """A new file, open for reading and writing; fails if it exists."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)

    def lock(self, fd: int, *, wait: bool = False) -> None:
        """Take the exclusive lock; BlockingIOError when it is held and `wait` is false."""
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write_some(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        """One `pwritev`; may write less than asked."""
        return os.pwritev(fd, buffers, offset)

    def sync(self, fd: int) -> None:
        """`fdatasync`: the data, and the length if it grew, are on stable storage."""
        os.fdatasync(fd)

    def sync_all(self, fd: int) -> None:
        """`fsync`: the data and everything about the file, reserved space too, are on stable storage."""
        os.fsync(fd)

    def forget(self, fd: int) -> None:
        """Drop what is cached of a file and synced, so that the next read shows what the disk has."""
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync_directory(self, path: Path) -> None:
        """`fsync` of a directory: the names in it are on stable storage."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def truncate(self, fd: int, length: int) -> None:
        """Set a file's length."""
        os.ftruncate(fd, length)

    def reserve(self, fd: int, length: int) -> None:
        """Reserve space for a file's first `length` bytes; it reads as zeroes."""
        os.posix_fallocate(fd, 0, length)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file its final name."""
        source.rename(target)

    def remove(self, path: Path) -> None:
        """Take a name away; fine if it isn't there."""
        path.unlink(missing_ok=True)

    def free(self, fd: int) -> int:
        """Bytes that may still be written on the file system of `fd`."""
        status = os.fstatvfs(fd)
        return status.f_bavail * status.f_frsize

    def copy_some(self, source: int, source_offset: int, target: int, target_offset: int, count: int) -> int:
        """Copy up to `count` bytes inside the kernel; may copy less than asked."""
        return os.copy_file_range(source, target, count, source_offset, target_offset)

    def write(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        """All of `buffers` from `offset` on, whatever it takes; the number of bytes.

        An OSError leaves an unknown part written: see :class:`PartlyWritten` for how much certainly is.
        """
        written = 0
        pending = [buffer for buffer in buffers if len(buffer)]
        start = 0
        try:
            while start < len(pending):
                count = self.write_some(fd, pending[start : start + _VECTORS], offset + written)
                if count <= 0:
                    raise OSError(errno.EIO, "a write wrote nothing")
                written += count
                while start < len(pending) and count >= len(pending[start]):
                    count -= len(pending[start])
                    start += 1
                if count:
                    pending[start] = memoryview(pending[start])[count:]
        except OSError as error:
            raise PartlyWritten(error, written) from error
        return written

    def copy(self, source: int, target: int, target_offset: int, length: int) -> int:
        """The first `length` bytes of `source` to `target_offset` of `target`; the number of bytes."""
        copied = 0
        in_kernel = True
        try:
            while copied < length:
                piece = min(_COPY_PIECE, length - copied)
                count = 0
                if in_kernel:
                    try:
                        count = self.copy_some(source, copied, target, target_offset + copied, piece)
                    except OSError as error:
                        if error.errno not in _NO_COPY_RANGE:
                            raise
                    in_kernel = count > 0
                if not count:
                    data = os.pread(source, piece, copied)
                    if not data:
                        raise OSError(errno.EIO, "a spool file is shorter than was written")
                    count = self.write(target, (data,), target_offset + copied)
                copied += count
        except PartlyWritten as error:
            raise PartlyWritten(error.cause, copied + error.written) from error
        except OSError as error:
            raise PartlyWritten(error, copied) from error
        return copied


class PartlyWritten(OSError):
    """A write failed after `written` bytes. Has the `errno` of its `cause`."""

    def __init__(self, cause: OSError, written: int) -> None:
        super().__init__(cause.errno, cause.strerror)
        self.cause = cause
        self.written = written


DISK: Final = Disk()
"""The real disk."""
