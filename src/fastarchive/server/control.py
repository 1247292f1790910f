"""The socket pair between the supervisor and a child: orders down, readiness up, and an end that can't be missed.

Parent to child: one JSON line, the :class:`Orders`; afterwards a line for each request. Child to parent: the line
``ready``. When the
parent's end closes, for whatever reason, the child ends at once: what it acknowledged is on the disk, and what it did
not acknowledge it must not go on with, because a new supervisor may already recover its pack.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from fastarchive import logs, settings
from fastarchive.settings import Settings

ORPHANED = 71
"""Exit code of a child whose supervisor went away."""

RECOVER = b"recover\n"
"""Asks the index writer's process to recover the packs nobody holds."""

_CHUNK = 65_536
_READY = b"ready\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a child is told at its start: its name, the settings, the descriptors of the listening sockets and of the
    memory that the workers share, its place there, and the passages to the workers that take associations that only
    store: descriptors of where connections go in, and of where those for this one come out."""

    name: str
    settings: Settings
    dicom_descriptor: int = -1
    http_descriptor: int = -1
    shared_descriptor: int = -1
    place: int = 0
    passages: tuple[int, ...] = ()
    inbox: int = -1

    @property
    def descriptors(self) -> list[int]:
        """All of them, which the child has to be given."""
        single = (self.dicom_descriptor, self.http_descriptor, self.shared_descriptor, self.inbox)
        return [descriptor for descriptor in (*single, *self.passages) if descriptor >= 0]

    def encode(self) -> bytes:
        """One line of JSON."""
        names = (
            "name", "dicom_descriptor", "http_descriptor", "shared_descriptor", "place", "passages", "inbox",
        )  # fmt: skip
        plain = {name: getattr(self, name) for name in names}
        return json.dumps(plain | {"settings": settings.to_json(self.settings)}).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Orders:
        """The orders of :meth:`encode`."""
        plain = json.loads(line)
        plain |= {"settings": settings.from_json(plain["settings"]), "passages": tuple(plain["passages"])}
        return cls(**plain)


class Control:
    """The child's end, which is its standard input."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._end.setblocking(True)
        self._said_ready = False
        self._requests: Mapping[bytes, Callable[[], None]] = {}

    @classmethod
    def join(cls, role: str) -> tuple[Control, Orders]:
        """Called first in a child: read the orders, set up logs and signals, and from now on end with the parent."""
        # The terminal's Ctrl-C is the supervisor's business; it asks us to end with SIGTERM.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        control = cls(socket.socket(fileno=0))
        orders = control._receive()
        logs.configure(level=orders.settings.log_level, style=orders.settings.log_format, role=orders.name or role)
        threading.Thread(target=control._end_with_parent, name="control", daemon=True).start()
        return control, orders

    def _receive(self) -> Orders:
        received = b""
        while not received.endswith(b"\n"):
            chunk = self._end.recv(_CHUNK)
            if not chunk:
                os._exit(ORPHANED)
            received += chunk
        return Orders.decode(received)

    def _end_with_parent(self) -> None:
        pending = b""
        with suppress(OSError):
            while chunk := self._end.recv(_CHUNK):
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    answer = self._requests.get(line + b"\n")
                    if answer is not None:
                        answer()
        os._exit(ORPHANED)

    def on(self, request: bytes, answer: Callable[[], None]) -> None:
        """Call ``answer`` for each such request, in the control thread: it must be quick."""
        self._requests = {**self._requests, request: answer}

    def ready(self) -> None:
        """Tell the supervisor that this process does its work now; once is enough, more does no harm."""
        if not self._said_ready:
            self._said_ready = True
            self._end.sendall(_READY)


def is_ready(received: bytes) -> bool:
    """Whether what a child sent so far says that it is ready."""
    return received == _READY
