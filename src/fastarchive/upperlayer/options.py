"""What an association is run with: time limits, size limits, and the callbacks that watch it."""

from __future__ import annotations

from dataclasses import dataclass

PROGRESS = 4096
"""Bytes which, within one `Timeouts.dimse` or `Timeouts.write`, make a peer slow and not stuck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Time limits in seconds. Each has its own clock (A4); bytes that bring nothing forward prolong none of them."""

    artim: float = 10.0
    """Acceptor: from the connection to a whole A-ASSOCIATE-RQ; both: from our last PDU to the peer's close
    (PS3.8 9.1.5)."""
    acse: float = 30.0
    """Requestor: the TCP connection, then the answer to A-ASSOCIATE-RQ; both: the answer to A-RELEASE-RQ."""
    dimse: float = 60.0
    """Within a message: every such span must bring PROGRESS bytes or the end of the message."""
    idle: float = 300.0
    """Acceptor: silence while the service waits for the next message."""
    response: float = 300.0
    """Requestor: silence while it waits for an answer."""
    write: float = 60.0
    """Every such span the peer must take PROGRESS bytes of what waits to be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Size limits in bytes."""

    unconsumed: int = 4 * 1024 * 1024
    """Received and not yet taken by the service; beyond it the socket is not read, and the peer feels it."""
    together: int = 256 * 1024 * 1024
    """The same for all associations of a server together; beyond it each may have received only `least` more."""
    least: int = 256 * 1024
    """What an association may always have received, so that every one of them moves on."""
    command: int = 64 * 1024
    """Longest command set."""
    association_pdu: int = 1024 * 1024
    """Longest A-ASSOCIATE PDU."""


class Observer:
    """Callbacks for metrics and logs; subclass and override. Called on the event loop, so they must be quick, and never
    given data of patients. `title` is the calling AE title as the peer wrote it ("" before it is known): map it to a
    bounded set before it becomes a label."""

    def connected(self) -> None:
        """A TCP connection was accepted."""

    def accepted(self, title: str) -> None:
        """An association was established."""

    def rejected(self, title: str, result: int, source: int, reason: int) -> None:
        """An association was rejected, with these values of A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    def closed(self, title: str, outcome: str, received: int, sent: int) -> None:
        """A connection ended. `outcome`: "released", "rejected", "aborted" (by our service), "peer-aborted", "timeout",
        "lost" (the connection broke) or "protocol-error"; `received`, `sent`: its bytes, PDU headers included."""
