"""Whose mistake it was: ours (LocalProtocolError) or the peer's (RemoteProtocolError)."""

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
