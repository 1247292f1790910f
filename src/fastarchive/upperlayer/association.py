"""An association as a service sees it: receive messages, send messages, release, abort."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence

from fastarchive.upperlayer.commands import Command
from fastarchive.upperlayer.negotiation import PresentationContext
from fastarchive.upperlayer.user_information import UserIdentity


class AssociationError(Exception):
    """The association is over, or never came to be."""


class AssociationAborted(AssociationError):
    """A-ABORT from the peer or from us, or the connection was lost. `source` and `reason` as in PS3.8 9.3.8;
    `by_peer` is True when the peer aborted or went away."""

    source: int
    reason: int
    by_peer: bool


class AssociationTimeout(AssociationAborted):
    """We aborted because the peer was silent or stuck for too long; `timer` names which limit of Timeouts."""

    timer: str


class AssociationRejected(AssociationError):
    """The acceptor answered A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    result: int
    source: int
    reason: int


class DataSetTooLarge(Exception):
    """A data set longer than the limit given to Message.data_set()."""


class Message:
    """A command and the data set that came with it."""

    context: PresentationContext
    command: Command

    def chunks(self) -> AsyncIterator[bytes]:
        """The data set's bytes as they arrive, once. Empty when the command announced none. Raises AssociationAborted
        when the association ends before the data set does."""
        raise NotImplementedError

    async def data_set(self, limit: int) -> bytes:
        """The whole data set. Raises DataSetTooLarge beyond `limit` bytes (the rest is dropped as it arrives)."""
        raise NotImplementedError


class Association:
    calling_ae: str
    called_ae: str
    peer: tuple[str, int]
    contexts: Mapping[int, PresentationContext]
    is_requestor: bool
    extended_negotiation: Mapping[str, bytes]
    user_identity: UserIdentity | None
    peer_maximum_length: int
    operations_window: tuple[int, int]
    release_requested: bool

    def context_for(self, abstract_syntax: str, transfer_syntax: str | None = None) -> PresentationContext | None:
        """An accepted context of that abstract (and transfer) syntax."""
        raise NotImplementedError

    async def receive(self, timeout: float | None = None) -> Message | None:
        """The next request or response; None when the peer has released (already answered). What is left of the data
        set of the message before is dropped. `timeout` in seconds overrides Timeouts.idle / Timeouts.response.
        Raises AssociationAborted, AssociationTimeout."""
        raise NotImplementedError

    def cancelled(self, message_id: int) -> bool:
        """Whether the peer has cancelled (C-CANCEL-RQ) the request of that Message ID, which is under way."""
        raise NotImplementedError

    async def send(
        self,
        context_id: int,
        command: Command,
        data_set: bytes | memoryview | AsyncIterable[bytes] | Iterable[bytes] | None = None,
    ) -> None:
        """Send one message; returns when the transport has room again. A memoryview must stay unchanged until then."""
        raise NotImplementedError

    async def send_many(self, context_id: int, messages: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Send encoded (command set, data set) pairs in one write: for streams of C-FIND answers."""
        raise NotImplementedError

    async def release(self) -> None:
        """Release in order, and close. No-op when the association is over already."""
        raise NotImplementedError

    async def abort(self, source: int = 0, reason: int = 0) -> None:
        """A-ABORT and close; never raises for an association that is over already."""
        raise NotImplementedError
