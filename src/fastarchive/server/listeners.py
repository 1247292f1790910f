"""The listening sockets: bound once by the supervisor and shared by all workers.

Workers accept from one queue. Unlike SO_REUSEPORT, which deals connections out by a hash, a worker that is busy takes
fewer, and a connection that waits in the queue while a worker dies is taken by another. How many each has stands in
memory they share, so that one lets another with fewer go first. The first half of them take the associations that only
store, those that others accepted included.
"""

from __future__ import annotations

import mmap
import os
import socket

from fastarchive.upperlayer import Neighbours
from fastarchive.upperlayer.neighbours import SLOT

BACKLOG = 1024


class ListenError(Exception):
    """A port can't be listened on; the message names the setting."""


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A non-blocking TCP socket that listens on host and port; port 0 picks a free one. Raises ListenError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ListenError(f'host = "{host}" can\'t be resolved: {error}') from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ListenError(f"{setting} = {port}: can't listen on {host}:{port}: {reason}") from None
    return listener


def port_of(listener: socket.socket) -> int:
    """The port a listening socket is bound to."""
    port: int = listener.getsockname()[1]
    return port


def takers(workers: int) -> int:
    """How many of the workers take the associations that only store: the first ones. None of one: it has no choice."""
    return workers // 2


def share_numbers(workers: int) -> int:
    """The descriptor of memory for :func:`neighbours`, to be closed by the caller. Raises OSError."""
    descriptor = os.memfd_create("neighbours")
    os.ftruncate(descriptor, workers * SLOT)
    return descriptor


def neighbours(descriptor: int, own: int) -> Neighbours:
    """The workers that share the memory of a descriptor, as worker number `own` of them sees them. Raises OSError."""
    return Neighbours(memoryview(mmap.mmap(descriptor, 0)), own)
