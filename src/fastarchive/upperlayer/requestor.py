"""Requesting an association."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from fastarchive.upperlayer.association import Association
from fastarchive.upperlayer.negotiation import ProposedContext
from fastarchive.upperlayer.options import Limits, Observer, Timeouts
from fastarchive.upperlayer.user_information import UserIdentity


@asynccontextmanager
async def connect(
    host: str,
    port: int,
    *,
    calling_ae: str,
    called_ae: str,
    contexts: Sequence[ProposedContext],
    extended_negotiation: Mapping[str, bytes] | None = None,
    user_identity: UserIdentity | None = None,
    operations_window: tuple[int, int] = (1, 1),
    maximum_length: int = 131072,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    observer: Observer | None = None,
) -> AsyncIterator[Association]:
    """An association with a peer; released on leaving, aborted when leaving by an exception.

    Raises AssociationRejected, AssociationAborted, AssociationTimeout, OSError (no connection), LocalProtocolError
    (more than 128 contexts, an AE title no peer could accept).
    """
    raise NotImplementedError
    yield
