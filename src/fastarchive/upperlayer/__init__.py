"""The DICOM Upper Layer Protocol (PS3.8) and DIMSE messages (PS3.7).

`pdu`, `user_information`, `negotiation`, `machine` and `commands` do no input or output: bytes in, events out, and
intent in, bytes out. `connection`, `messages`, `association`, `acceptor` and
`requestor` are the thin side that owns sockets.
"""

from fastarchive.upperlayer.acceptor import Drain, serve
from fastarchive.upperlayer.association import Association
from fastarchive.upperlayer.commands import (
    Command,
    CommandError,
    CommandField,
    StoreRequests,
    decode_command,
    encode_command,
)
from fastarchive.upperlayer.errors import (
    AssociationAborted,
    AssociationError,
    AssociationRejected,
    AssociationTimeout,
    DataSetTooLarge,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
)
from fastarchive.upperlayer.gathering import Gathering
from fastarchive.upperlayer.messages import Message
from fastarchive.upperlayer.negotiation import AcceptorPolicy, PresentationContext, ProposedContext
from fastarchive.upperlayer.neighbours import Neighbours
from fastarchive.upperlayer.options import Limits, Observer, Timeouts
from fastarchive.upperlayer.pdu import frame_command, frame_data_set, frame_message
from fastarchive.upperlayer.requestor import connect
from fastarchive.upperlayer.templates import StoreTemplates
from fastarchive.upperlayer.user_information import UserIdentity

__all__ = [
    "AcceptorPolicy",
    "Association",
    "AssociationAborted",
    "AssociationError",
    "AssociationRejected",
    "AssociationTimeout",
    "Command",
    "CommandError",
    "CommandField",
    "DataSetTooLarge",
    "Drain",
    "Gathering",
    "Limits",
    "LocalProtocolError",
    "Message",
    "Neighbours",
    "Observer",
    "PresentationContext",
    "ProposedContext",
    "ProtocolError",
    "RemoteProtocolError",
    "StoreRequests",
    "StoreTemplates",
    "Timeouts",
    "UserIdentity",
    "connect",
    "decode_command",
    "encode_command",
    "frame_command",
    "frame_data_set",
    "frame_message",
    "serve",
]
