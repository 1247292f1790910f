"""What a Machine tells of what it received, in the terms of the services of PS3.8 chapter 7."""

from __future__ import annotations

from dataclasses import dataclass

from fastarchive.upperlayer.commands import Command
from fastarchive.upperlayer.negotiation import Agreement, PresentationContext
from fastarchive.upperlayer.pdu import AssociateReject, AssociateRequest


@dataclass(frozen=True, slots=True)
class AssociationRequested:
    """A-ASSOCIATE indication: answer with accept() or reject()."""

    request: AssociateRequest


@dataclass(frozen=True, slots=True)
class AssociationEstablished:
    """A-ASSOCIATE confirmation, accepted."""

    agreement: Agreement


@dataclass(frozen=True, slots=True)
class AssociationRefused:
    """A-ASSOCIATE confirmation, rejected."""

    reject: AssociateReject


@dataclass(slots=True)  # these two are made by the thousand: frozen ones take four times as long
class CommandReceived:
    """A whole command set. When it announces a data set, DataReceived events follow, the last of them marked."""

    context: PresentationContext
    command: Command


@dataclass(slots=True)
class DataReceived:
    """Some bytes of the data set of the last command, as much as arrived; may be empty when `last`."""

    data: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """A-RELEASE indication: answer with answer_release(), once what is under way is done. `collision`: while our own
    request was on its way (PS3.8 7.2.2.8)."""

    collision: bool


@dataclass(frozen=True, slots=True)
class Released:
    """A-RELEASE confirmation. In a collision on the acceptor's side answer_release() is still due."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """A-ABORT indication of the peer."""

    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """A-P-ABORT indication: the transport connection closed while an association was on."""


Event = (
    AssociationRequested
    | AssociationEstablished
    | AssociationRefused
    | CommandReceived
    | DataReceived
    | ReleaseRequested
    | Released
    | Aborted
    | ConnectionLost
)
