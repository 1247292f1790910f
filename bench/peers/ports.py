"""Ports for archives that have to be told one before they start."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

__all__ = ["HOST", "free_port"]

HOST = "127.0.0.1"
# Linux picks those from 32768 on for whoever asks for any, outgoing connections included: one of them might be gone
# before the archive has it.
_BLOCKS = range(20_000, 32_000, 100)


def free_port() -> int:
    """A TCP port that nobody listens on at this moment, and that was given to nobody before: not by this process, nor
    by another one that runs. Raises OSError when there is none."""
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
        return port
    raise OSError(errno.EADDRINUSE, f"all ports from {_BLOCKS.start} to {_BLOCKS.stop - 1} were given to somebody")


def _claimed() -> Iterator[int]:
    """Ports of blocks that no other process has, as long as this one runs."""
    claims = []
    for number in range(len(_BLOCKS)):
        block = _BLOCKS[(os.getpid() + number) % len(_BLOCKS)]
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0fastarchive-bench-ports-{block}")  # a name without a file, gone with whoever has it
        except OSError:
            claim.close()
            continue
        claims.append(claim)
        yield from range(block, block + _BLOCKS.step)


_ports = _claimed()
