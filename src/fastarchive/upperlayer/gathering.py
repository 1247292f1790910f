"""Associations of one kind gathered in some of the processes that accept from one socket: what they need is then in few
places, and what others wait for is not where most of the work is.

What an association is for is told by its request, which is looked at while it still waits to be read. So the connection
is handed over as if the other process had accepted it.
"""

from __future__ import annotations

import array
import fcntl
import socket
import termios
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import anyio

from fastarchive.upperlayer.errors import RemoteProtocolError
from fastarchive.upperlayer.neighbours import Neighbours
from fastarchive.upperlayer.pdu import A_ASSOCIATE_RQ, PDU_HEADER, AssociateRequest, decode_pdu

__all__ = ["Gathering", "passage"]

_LONGEST_REQUEST: Final = 64 * 1024
"""Bytes of an A-ASSOCIATE-RQ that is looked at: 128 presentation contexts take some twenty thousand."""
_PATIENCE: Final = 0.1
"""Seconds a request may take to arrive; after that the connection stays where it is."""
_TRIES: Final = 5
_PAUSE: Final = 0.004
"""How often, and after how many seconds, it is tried to hand a connection over to a process that has not taken the last
one yet; one that is stuck may hold nobody up."""
_ASSOCIATION: Final = b"a"


def passage() -> tuple[socket.socket, socket.socket]:
    """Where connections of other processes come out for one of them, and where they go in. Raises OSError."""
    out, into = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in (out, into):
        end.setblocking(False)
    return out, into


class Gathering:
    """What a process does with the connections it accepts, or is handed. Everything runs on the event loop."""

    def __init__(
        self,
        wanted: Callable[[AssociateRequest], bool],
        neighbours: Neighbours,
        *,
        passages: Mapping[int, socket.socket],
        inbox: socket.socket | None = None,
        most: int,
    ) -> None:
        """wanted: whether a request is of the kind that is gathered. passages: to the processes that take those, by
        their place among the `neighbours`, unless this is one of them. inbox: where they come out here, if it is. most:
        connections of a process that is handed another one."""
        self.inbox = inbox
        self._wanted = wanted
        self._neighbours = neighbours
        self._passages = {} if inbox is not None else dict(passages)
        self._most = most

    @property
    def hands_over(self) -> bool:
        """Whether some of what is accepted here is for others."""
        return bool(self._passages)

    async def hand_over(self, sock: socket.socket) -> bool:
        """Whether a connection was handed over. Then it is closed here; else nothing was read of it."""
        with anyio.move_on_after(_PATIENCE):
            request = await _request(sock)
            if request is not None and self._wanted(request) and await self._send(sock):
                sock.close()
                return True
        return False

    async def next(self) -> socket.socket:
        """The next connection that was handed over to this process."""
        assert self.inbox is not None
        while True:
            await anyio.wait_readable(self.inbox)
            handed = self._taken()
            if handed:
                return handed[0]

    def close(self) -> None:
        """Turn away what is handed over to this process from now on."""
        while self.inbox is not None and (handed := self._taken()) is not None:
            for sock in handed:
                sock.close()

    def _taken(self) -> list[socket.socket] | None:
        """A connection out of the inbox, none if it couldn't be opened here; None if there is nothing in it."""
        assert self.inbox is not None
        try:
            _, descriptors, _, _ = socket.recv_fds(self.inbox, 1, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return None
        return [socket.socket(fileno=descriptor) for descriptor in descriptors]

    async def _send(self, sock: socket.socket) -> bool:
        """Put a connection into a passage, if it is going to be taken out soon."""
        for _ in range(_TRIES):
            place = min(self._passages, key=self._neighbours.number_of)
            passage = self._passages[place]
            if self._neighbours.number_of(place) >= self._most:
                break
            if not _is_waiting_in(passage):
                try:
                    socket.send_fds(passage, [_ASSOCIATION], [sock.fileno()])
                except OSError:
                    break
                return True
            await anyio.sleep(_PAUSE)
        return False


async def _request(sock: socket.socket) -> AssociateRequest | None:
    """The A-ASSOCIATE-RQ that a connection begins with, left in it; None for anything else."""
    try:
        await anyio.wait_readable(sock)
        header = sock.recv(PDU_HEADER.size, socket.MSG_PEEK)
        if len(header) < PDU_HEADER.size:
            return None
        kind, length = PDU_HEADER.unpack(header)
        size = PDU_HEADER.size + length
        if kind != A_ASSOCIATE_RQ or size > _LONGEST_REQUEST:
            return None
        request = sock.recv(size, socket.MSG_PEEK)
        if len(request) < size:
            # What was seen is still there to be read: only all of it is to wake us again.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
            try:
                await anyio.wait_readable(sock)
            finally:
                with suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            request = sock.recv(size, socket.MSG_PEEK)
        decoded = decode_pdu(A_ASSOCIATE_RQ, request[PDU_HEADER.size :]) if len(request) == size else None
    except (OSError, RemoteProtocolError):
        return None
    return decoded if isinstance(decoded, AssociateRequest) else None


def _is_waiting_in(passage: socket.socket) -> bool:
    """Whether there is something that was not taken out yet."""
    size = array.array("i", [0])
    fcntl.ioctl(passage, termios.TIOCOUTQ, size)
    return size[0] > 0
