"""A small blocking DICOM requestor: stores, finds and gets data sets as bytes, never decoding nor re-encoding them.

It is the harness' own client, because DCMTK's tools and pynetdicom rewrite what they send, and because a client must
cost less than the server it measures. It shares no code with the archive. PS3.8 9.3 (PDUs), PS3.7 9.3 (messages).
"""

from __future__ import annotations

import io
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

from bench.answers import Answers
from bench.messages import (
    ABORT,
    ASSOCIATE_AC,
    C_CANCEL,
    C_ECHO,
    C_FIND,
    C_GET,
    C_MOVE,
    C_STORE,
    DATA,
    NO_DATA_SET,
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    PENDING,
    RELEASE_RQ,
    RESPONSE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    VERIFICATION,
    Context,
    RequestError,
    Response,
    as_response,
    decode_accept,
    decode_command,
    encode_associate,
    encode_command,
    text_of,
)

__all__ = [
    "C_CANCEL",
    "C_ECHO",
    "C_FIND",
    "C_GET",
    "C_MOVE",
    "C_STORE",
    "PATIENT_ROOT_FIND",
    "PATIENT_ROOT_GET",
    "PATIENT_ROOT_MOVE",
    "PENDING",
    "STUDY_ROOT_FIND",
    "STUDY_ROOT_GET",
    "STUDY_ROOT_MOVE",
    "VERIFICATION",
    "Context",
    "Found",
    "RequestError",
    "Requestor",
    "Response",
    "Retrieved",
    "decode_accept",
    "decode_command",
    "encode_associate",
    "encode_command",
]


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a C-FIND: encoded identifiers, and seconds to the first answer and to the last."""

    identifiers: list[bytes]
    response: Response
    first: float
    whole: float


@dataclass(frozen=True, slots=True)
class Retrieved:
    """One data set that arrived by C-GET, as its bytes were sent."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    data_set: bytes


class Requestor:
    """One association, used by one thread. A context manager: releases at the end, aborts after an exception."""

    def __init__(
        self,
        host: str,
        port: int,
        contexts: Sequence[Context],
        *,
        calling: str = "BENCH",
        called: str = "ANY-SCP",
        timeout: float = 30.0,
    ) -> None:
        """Connects and associates. Raises RequestError when the peer rejects or aborts, OSError without a peer."""
        self._socket = socket.create_connection((host, port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = cast(io.BufferedReader, self._socket.makefile("rb", 1 << 20))
        self._message_id = 0
        self._fragments: deque[tuple[int, int, bytes]] = deque()
        self.proposed = tuple(contexts)
        try:
            self._socket.sendall(encode_associate(contexts, calling=calling, called=called))
            kind, body = self._read_pdu()
            if kind != ASSOCIATE_AC:
                raise RequestError(f"association not accepted: PDU {kind:#04x}, {body.hex(' ')}")
        except BaseException:
            self.close()
            raise
        self._results, maximum = decode_accept(body)
        self._fragment = (maximum or 1 << 20) - 6
        self._syntaxes = {number: syntax for number, (result, syntax) in self._results.items() if result == 0}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    # ---------------------------------------------------------------- association

    def result(self, context: Context) -> int:
        """How the acceptor answered a context: 0 accepted, 1 to 4 rejected (PS3.8 9.3.3.2)."""
        return self._results[2 * self.proposed.index(context) + 1][0]

    def context_of(self, abstract_syntax: str, transfer_syntax: str | None = None) -> int:
        """The id of an accepted context. Raises RequestError when there is none."""
        for number, syntax in self._syntaxes.items():
            context = self.proposed[number // 2]
            if context.abstract_syntax == abstract_syntax and transfer_syntax in (None, syntax):
                return number
        raise RequestError(f"no context accepted for {abstract_syntax} with {transfer_syntax or 'any transfer syntax'}")

    def release(self) -> None:
        """A-RELEASE, and the connection closed whatever the answer."""
        try:
            self._socket.sendall(struct.pack(">BxLL", RELEASE_RQ, 4, 0))
            self._read_pdu()
        except OSError:
            pass  # the peer is gone: released enough
        finally:
            self.close()

    def abort(self) -> None:
        """A-ABORT by the service user, and the connection closed."""
        try:
            self._socket.sendall(struct.pack(">BxLxxBB", ABORT, 4, 0, 0))
        except OSError:
            pass  # the peer is gone: aborted enough
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection without a word."""
        self._reader.close()
        self._socket.close()

    # ---------------------------------------------------------------- services

    def echo(self) -> Response:
        """C-ECHO."""
        self._request(self.context_of(VERIFICATION), {0x0002: VERIFICATION, 0x0100: C_ECHO})
        return self._response()[0]

    def store(self, sop_class: str, sop_instance: str, transfer_syntax: str, data_set: bytes) -> Response:
        """C-STORE of the bytes as they are. Raises RequestError when the context was not accepted."""
        context = self.context_of(sop_class, transfer_syntax)
        command: dict[int, int | str] = {0x0002: sop_class, 0x0100: C_STORE, 0x0700: 0, 0x1000: sop_instance}
        self._request(context, command, data_set)
        return self._response()[0]

    def find(
        self,
        model: str,
        identifier: bytes,
        *,
        cancel_after: int = 0,
        receive: Callable[[bytes], object] | None = None,
    ) -> Found:
        """C-FIND with an identifier encoded as the context was negotiated; C-CANCEL after so many answers, if any.

        With `receive` each answer is handed to it and none is kept.
        """
        context = self.context_of(model)
        start = time.perf_counter()
        self._request(context, {0x0002: model, 0x0100: C_FIND, 0x0700: 0}, identifier)
        answers = Answers()
        identifiers: list[bytes] = []
        first = arrived = 0.0
        while answers.final is None:
            chunk = self._reader.read1(1 << 20)
            if not chunk:
                raise RequestError("the peer closed the connection")
            arrived = time.perf_counter() - start  # before it is taken apart, which is the client's own time
            answers.feed(chunk)
            if not first and (answers.identifiers or answers.final):
                first = arrived
            if receive is not None:
                for identifier_found in answers.identifiers:
                    receive(identifier_found)
            elif cancel_after and len(identifiers) < cancel_after <= len(identifiers) + len(answers.identifiers):
                self._send(context, encode_command({0x0100: C_CANCEL, 0x0120: self._message_id, 0x0800: NO_DATA_SET}))
            if receive is None:
                identifiers += answers.identifiers
            answers.identifiers.clear()
        return Found(identifiers, answers.final, first, arrived)

    def move(self, model: str, identifier: bytes, destination: str) -> tuple[Response, list[Response]]:
        """C-MOVE; the final response and the pending ones."""
        command: dict[int, int | str] = {0x0002: model, 0x0100: C_MOVE, 0x0600: destination, 0x0700: 0}
        self._request(self.context_of(model), command, identifier)
        pending: list[Response] = []
        while True:
            response, _ = self._response()
            if response.status not in PENDING:
                return response, pending
            pending.append(response)

    def get(
        self, model: str, identifier: bytes, receive: Callable[[Retrieved], int] | None = None
    ) -> tuple[Response, list[Retrieved]]:
        """C-GET; `receive` answers each sub-operation's status, without it all are kept and answered 0000."""
        self._request(self.context_of(model), {0x0002: model, 0x0100: C_GET, 0x0700: 0}, identifier)
        kept: list[Retrieved] = []
        while True:
            context, command, data_set = self._message()
            kind = struct.unpack("<H", command[0x0100])[0]
            if kind == C_STORE:
                retrieved = Retrieved(
                    text_of(command, 0x0002), text_of(command, 0x1000), self._syntaxes[context], data_set
                )
                status = 0
                if receive:
                    status = receive(retrieved)
                else:
                    kept.append(retrieved)
                answer: dict[int, int | str] = {
                    0x0002: retrieved.sop_class,
                    0x0100: C_STORE | RESPONSE,
                    0x0120: struct.unpack("<H", command[0x0110])[0],
                    0x0800: NO_DATA_SET,
                    0x0900: status,
                    0x1000: retrieved.sop_instance,
                }
                self._send(context, encode_command(answer))
            elif (response := as_response(command)).status not in PENDING:
                return response, kept

    # ---------------------------------------------------------------- messages

    def _request(self, context: int, command: dict[int, int | str], data_set: bytes | None = None) -> None:
        self._message_id = self._message_id % 0xFFFF + 1
        command = {0x0110: self._message_id, 0x0800: NO_DATA_SET if data_set is None else 1, **command}
        self._send(context, encode_command(command), data_set)

    def _send(self, context: int, command: bytes, data_set: bytes | None = None) -> None:
        size = len(command)
        parts: list[bytes | memoryview] = [struct.pack(">BxLLBB", DATA, size + 6, size + 2, context, 3), command]
        view = memoryview(data_set or b"")
        for offset in range(0, len(view), self._fragment):
            piece = view[offset : offset + self._fragment]
            last = 2 if offset + len(piece) == len(view) else 0
            parts += [struct.pack(">BxLLBB", DATA, len(piece) + 6, len(piece) + 2, context, last), piece]
        if data_set is not None and not data_set:
            parts.append(struct.pack(">BxLLBB", DATA, 6, 2, context, 2))
        self._socket.sendall(b"".join(parts))

    def _response(self) -> tuple[Response, bytes]:
        _, command, data_set = self._message()
        return as_response(command), data_set

    def _message(self) -> tuple[int, dict[int, bytes], bytes]:
        """The next whole message: context, command set, data set (empty without one)."""
        pieces: dict[bool, list[bytes]] = {True: [], False: []}
        command: dict[int, bytes] | None = None
        while True:
            context, control, fragment = self._fragment_received()
            is_command = bool(control & 1)
            pieces[is_command].append(fragment)
            if not control & 2:
                continue
            if is_command:
                command = decode_command(b"".join(pieces[True]))
                if command[0x0800] == struct.pack("<H", NO_DATA_SET):
                    return context, command, b""
            elif command is not None:
                return context, command, b"".join(pieces[False])

    def _fragment_received(self) -> tuple[int, int, bytes]:
        """The next presentation data value: context, message control header, fragment (PS3.8 E.2)."""
        while not self._fragments:
            kind, body = self._read_pdu()
            if kind != DATA:
                raise RequestError(f"PDU {kind:#04x} instead of data: {body.hex(' ')}")
            offset = 0
            while offset < len(body):
                length, context, control = struct.unpack_from(">LBB", body, offset)
                self._fragments.append((context, control, body[offset + 6 : offset + 4 + length]))
                offset += 4 + length
        return self._fragments.popleft()

    def _read_pdu(self) -> tuple[int, bytes]:
        header = self._read(6)
        kind, length = struct.unpack(">BxL", header)
        return kind, self._read(length)

    def _read(self, size: int) -> bytes:
        data: bytes = self._reader.read(size)
        if len(data) != size:
            raise RequestError("the peer closed the connection")
        return data
