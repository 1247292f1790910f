"""An acceptor that takes everything and keeps nothing: what is left when it is sent to is what the sender costs.

It accepts every presentation context with the first transfer syntax proposed, reads PDUs no further than their headers
and answers each data set's end with 0000. C-ECHO and C-STORE are all it knows.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import select
import socket
import struct
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from bench.messages import (
    ASSOCIATE_AC,
    ASSOCIATE_RQ,
    C_STORE,
    DATA,
    NO_DATA_SET,
    RELEASE_RP,
    RELEASE_RQ,
    RESPONSE,
    command_pdu,
    decode_command,
    encode_command,
    item,
)

_CHUNK = 1 << 20
_MAXIMUM_LENGTH = 131072


class Sink:
    """The acceptor as a process of its own. A context manager; leaving it ends the process."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._connection: Connection = ours
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True, name="sink")
        self._process.start()
        theirs.close()
        self.port: int = ours.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class Swallowing:
    """One association, bytes in → replies out; data sets are dropped as they come."""

    def __init__(self) -> None:
        self.closed = False
        """After an A-RELEASE-RQ was answered or the peer aborted."""
        self._input = bytearray()
        self._skip = 0
        """Bytes of a data set's fragment still to come."""
        self._command = b""
        self._ends = False
        """Whether the fragment that is skipped is the last one of its data set."""
        self._context = 0

    def receive(self, data: bytes | bytearray | memoryview) -> bytes:
        """What to answer to the bytes that arrived."""
        offset, end = 0, len(data)
        out = b""
        if self._input:
            self._input += data
            data, end = bytes(self._input), len(self._input)
            self._input.clear()
        while offset < end and not self.closed:
            if self._skip:
                size = min(self._skip, end - offset)
                self._skip -= size
                offset += size
                if not self._skip and self._ends:
                    out += self._answer()
                continue
            if end - offset < 10:  # the shortest PDU there is
                break
            kind, length = struct.unpack_from(">BxL", data, offset)
            if kind == DATA:
                if end - offset < 12:
                    break
                value, context, control = struct.unpack_from(">LBB", data, offset + 6)
                if value + 4 != length:
                    raise ValueError("several values in one P-DATA-TF")
                if not control & 1:
                    self._skip, self._ends = value - 2, bool(control & 2)
                    offset += 12
                    continue
            if end - offset < 6 + length:
                break
            body = bytes(data[offset + 6 : offset + 6 + length])
            offset += 6 + length
            if kind == DATA:
                self._context, self._command = context, body[6:]
                if decode_command(self._command).get(0x0800) == struct.pack("<H", NO_DATA_SET):
                    out += self._answer()
            elif kind == ASSOCIATE_RQ:
                out += _accept(body)
            elif kind == RELEASE_RQ:
                out += struct.pack(">BxLL", RELEASE_RP, 4, 0)
                self.closed = True
            else:
                self.closed = True
        self._input += data[offset:end]
        return out

    def _answer(self) -> bytes:
        command = decode_command(self._command)
        answer: dict[int, int | str] = {
            0x0100: int.from_bytes(command[0x0100], "little") | RESPONSE,
            0x0120: int.from_bytes(command[0x0110], "little"),
            0x0800: NO_DATA_SET,
            0x0900: 0,
        }
        if answer[0x0100] == C_STORE | RESPONSE:
            answer[0x1000] = command[0x1000].decode("ascii").rstrip("\0")
        return command_pdu(self._context, encode_command(answer))


def _accept(request: bytes) -> bytes:
    """The A-ASSOCIATE-AC to the body of an A-ASSOCIATE-RQ: yes to everything (PS3.8 9.3.3)."""
    body = request[:68] + item(0x10, b"1.2.840.10008.3.1.1.1")
    offset = 68
    while offset + 4 <= len(request):
        kind, length = struct.unpack_from(">BxH", request, offset)
        if kind == 0x20:
            inner, end = offset + 8, offset + 4 + length
            while inner + 4 <= end:
                part, size = struct.unpack_from(">BxH", request, inner)
                if part == 0x40:
                    syntax = request[inner + 4 : inner + 4 + size]
                    body += item(0x21, struct.pack(">Bxxx", request[offset + 4]) + item(0x40, syntax))
                    break
                inner += 4 + size
        offset += 4 + length
    body += item(0x50, item(0x51, struct.pack(">L", _MAXIMUM_LENGTH)) + item(0x52, b"2.25.1"))
    return struct.pack(">BxL", ASSOCIATE_AC, len(body)) + body


def _serve(parent: Connection) -> None:
    """The process: until the other end of the pipe is closed."""
    poll = select.epoll()
    open_ones: dict[int, tuple[socket.socket, Swallowing]] = {}
    buffer = memoryview(bytearray(_CHUNK))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(256)
        parent.send(listener.getsockname()[1])
        poll.register(listener.fileno(), select.EPOLLIN)
        poll.register(parent.fileno(), select.EPOLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == parent.fileno():
                    return
                if descriptor == listener.fileno():
                    connection, _ = listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    open_ones[connection.fileno()] = connection, Swallowing()
                    poll.register(connection.fileno(), select.EPOLLIN)
                    continue
                connection, association = open_ones[descriptor]
                size = 0
                with contextlib.suppress(OSError):
                    size = connection.recv_into(buffer)
                    if size and (answer := association.receive(buffer[:size])):
                        connection.sendall(answer)
                if not size or association.closed:
                    poll.unregister(descriptor)
                    connection.close()
                    del open_ones[descriptor]
