"""What can go wrong: whose mistake it was, and how an association ended."""

from __future__ import annotations


class ProtocolError(Exception):
    """The DICOM Upper Layer Protocol or DIMSE was not kept."""


class LocalProtocolError(ProtocolError):
    """The caller asked for something the protocol does not allow in this state; nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol.

    `reply` is the A-ABORT PDU that PS3.8 Table 9-10 wants sent (empty when nothing may be sent any more);
    `source` and `reason` are the values it carries (PS3.8 9.3.8). The message never holds data of the peer's data sets.
    """

    def __init__(self, message: str, *, source: int = 2, reason: int = 0, reply: bytes = b"") -> None:
        super().__init__(message)
        self.source = source
        self.reason = reason
        self.reply = reply


class AssociationError(Exception):
    """The association is over, or never came to be."""


class AssociationAborted(AssociationError):
    """The association ended without a release: A-ABORT by the peer or by us, or the connection was lost.

    `source` and `reason` as in PS3.8 9.3.8; `by_peer`: the peer aborted, or went away.
    """

    def __init__(self, message: str, *, source: int = 0, reason: int = 0, by_peer: bool = False) -> None:
        super().__init__(message)
        self.source = source
        self.reason = reason
        self.by_peer = by_peer


class AssociationTimeout(AssociationAborted):
    """We gave up because the peer was silent or stuck for too long; `timer` names the limit of Timeouts."""

    def __init__(self, timer: str) -> None:
        super().__init__(f"{timer} time limit exceeded", source=2)
        self.timer = timer


class AssociationRejected(AssociationError):
    """The acceptor answered A-ASSOCIATE-RJ with these values (PS3.8 9.3.4)."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        super().__init__(f"association rejected: result {result}, source {source}, reason {reason}")
        self.result = result
        self.source = source
        self.reason = reason


class DataSetTooLarge(Exception):
    """A data set is longer than the receiver is willing to hold in memory."""
