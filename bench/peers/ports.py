"""Ports for archives that have to be told one before they start."""

from __future__ import annotations

import errno
import random
import socket
from itertools import chain

__all__ = ["HOST", "free_port"]

HOST = "127.0.0.1"
# Linux picks those from 32768 on for whoever asks for any, outgoing connections included: one of them might be gone
# before the archive has it. Everybody begins somewhere else, for there may be several of us.
_LOWEST, _HIGHEST = 20_000, 32_000
_next = random.randrange(_LOWEST, _HIGHEST)


def free_port() -> int:
    """A TCP port that nobody listens on at this moment, and this process has not been given for long. Raises OSError
    when there is none."""
    global _next  # noqa: PLW0603 - so that no port is given twice
    for port in chain(range(_next, _HIGHEST), range(_LOWEST, _next)):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
        _next = port + 1
        return port
    raise OSError(errno.EADDRINUSE, f"all ports from {_LOWEST} to {_HIGHEST} are in use")
