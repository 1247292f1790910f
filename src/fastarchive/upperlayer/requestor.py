"""Requesting an association."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio

from fastarchive.upperlayer.association import Association
from fastarchive.upperlayer.connection import Connection, read_buffer
from fastarchive.upperlayer.errors import AssociationError, AssociationRejected
from fastarchive.upperlayer.machine import Machine
from fastarchive.upperlayer.negotiation import ProposedContext, build_request
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
    """An association with a peer; released on leaving, aborted on leaving by an exception.

    The acceptor may have accepted no context at all: see `Association.contexts`. Raises AssociationRejected,
    AssociationAborted, AssociationTimeout, OSError (TimeoutError included: no connection), LocalProtocolError (no
    contexts or more than 128, an AE title that no peer could accept).
    """
    timeouts, limits, observer = timeouts or Timeouts(), limits or Limits(), observer or Observer()
    request = build_request(
        calling_ae=calling_ae,
        called_ae=called_ae,
        contexts=contexts,
        extended=extended_negotiation,
        user_identity=user_identity,
        operations_window=operations_window,
        maximum_length=maximum_length,
    )
    with anyio.fail_after(timeouts.acse):
        sock = await _connect_socket(host, port)
    try:
        machine = Machine(
            is_requestor=True,
            maximum_length=maximum_length,
            command_limit=limits.command,
            association_limit=limits.association_pdu,
        )
        connection = Connection(sock, machine, buffer=read_buffer(), timeouts=timeouts, limits=limits)
    except BaseException:
        sock.close()
        raise
    patience = 0.0
    try:
        await asyncio.get_running_loop().create_connection(lambda: connection, sock=sock)
        try:
            agreed = await connection.request(request)
        except AssociationRejected as error:
            observer.rejected(calling_ae, error.result, error.source, error.reason)
            raise
        observer.accepted(calling_ae)
        yield Association(connection, agreed, (host, port))
        await connection.release()
        patience = timeouts.artim
    except AssociationError:
        patience = timeouts.artim
        raise
    finally:
        try:
            await connection.finish(patience)
        finally:
            observer.closed(calling_ae, connection.outcome, connection.received, connection.out.sent)


async def _connect_socket(host: str, port: int) -> socket.socket:
    """A connected, non-blocking socket to the first address of the host that answers. Raises OSError."""
    loop = asyncio.get_running_loop()
    failure = OSError(f"no address for {host}")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure
