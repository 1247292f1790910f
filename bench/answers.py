"""Answers to a C-FIND taken off the wire for less than they cost the server: bytes in, identifiers out.

A client that takes an answer apart as it comes would measure itself. Here all that is looked at meanwhile are the
headers of PDUs and fragments, and whether a command set is the one of the pending response before it.
"""

from __future__ import annotations

import struct

from bench.messages import DATA, NO_DATA_SET, PENDING, RequestError, Response, as_response, decode_command

_HEADERS = struct.Struct(">BxLLBB")  # of a PDU and of its first fragment


class Answers:
    """The responses to one request, from bytes in whatever pieces they arrive."""

    def __init__(self) -> None:
        self.identifiers: list[bytes] = []
        """Of pending responses, as they were sent; whoever takes them away may clear the list."""
        self.final: Response | None = None
        self._data = b""
        self._command = b""
        self._pending = b""
        self._identifier: list[bytes] = []

    def feed(self, chunk: bytes) -> None:
        """Take in what was received. Raises RequestError for what is neither a response nor part of one."""
        data = self._data + chunk if self._data else chunk
        at, size = 0, len(data)
        identifiers = self.identifiers
        while size - at >= 12 and self.final is None:
            kind, length, fragment, _, control = _HEADERS.unpack_from(data, at)
            end = at + 6 + length
            if kind != DATA:
                raise RequestError(f"PDU {kind:#04x} instead of data")
            if end > size:
                break
            if fragment != length - 4:
                self._fragments(data[at + 6 : end])
            elif control == 2 and not self._identifier:
                identifiers.append(data[at + 12 : end])
            elif control != 3 or data[at + 12 : end] != self._pending:
                self._fragment(control, data[at + 12 : end])
            at = end
        self._data = data[at:]

    def _fragments(self, body: bytes) -> None:
        at = 0
        while at < len(body):
            length, _, control = struct.unpack_from(">LBB", body, at)
            self._fragment(control, body[at + 6 : at + 4 + length])
            at += 4 + length

    def _fragment(self, control: int, piece: bytes) -> None:
        if not control & 1:
            self._identifier.append(piece)
            if control & 2:
                self.identifiers.append(b"".join(self._identifier))
                self._identifier.clear()
            return
        self._command += piece
        if not control & 2:
            return
        command, self._command = self._command, b""
        elements = decode_command(command)
        response = as_response(elements)
        if response.status not in PENDING:
            if elements[0x0800] != struct.pack("<H", NO_DATA_SET):
                raise RequestError("a final response with an identifier")
            self.final = response
        else:
            self._pending = command
