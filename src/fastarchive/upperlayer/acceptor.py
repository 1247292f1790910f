"""Accepting associations: the accept loop, one task a connection, and an orderly end."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskStatus

from fastarchive.upperlayer.association import Association
from fastarchive.upperlayer.negotiation import AcceptorPolicy
from fastarchive.upperlayer.options import Limits, Observer, Timeouts


class Drain:
    """Asks a running serve() to end: `start()` stops accepting; associations that wait for their next message are
    ended, those within an operation finish it; after `grace` seconds what is left is aborted, and serve() returns."""

    def __init__(self, grace: float = 30.0) -> None:
        self.grace = grace

    def start(self) -> None:
        raise NotImplementedError


async def serve(
    listener: socket.socket,
    *,
    policy: AcceptorPolicy,
    handler: Callable[[Association], Awaitable[None]],
    maximum_associations: int = 100,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    observer: Observer | None = None,
    drain: Drain | None = None,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Accept associations on a bound, listening TCP socket until drained or cancelled; `task_status.started()` when ready.

    `handler` runs once an association is established; when it returns the association is released or, if the peer
    is still in the middle of something, aborted. An exception from it aborts the association and is logged.
    """
    raise NotImplementedError
