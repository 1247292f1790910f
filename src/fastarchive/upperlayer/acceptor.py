"""Accepting associations: the accept loop, one task a connection, and an orderly end."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus

from fastarchive.logs import described
from fastarchive.upperlayer.association import Association
from fastarchive.upperlayer.connection import Connection, read_buffer
from fastarchive.upperlayer.errors import AssociationError
from fastarchive.upperlayer.gathering import Gathering
from fastarchive.upperlayer.machine import Machine
from fastarchive.upperlayer.messages import Crowd
from fastarchive.upperlayer.negotiation import LOCAL_LIMIT_EXCEEDED, REJECTIONS, AcceptorPolicy, Agreement, negotiate
from fastarchive.upperlayer.neighbours import Neighbours
from fastarchive.upperlayer.options import Limits, Observer, Timeouts
from fastarchive.upperlayer.pdu import AssociateReject, AssociateRequest

logger = logging.getLogger(__name__)

Handler = Callable[[Association], Awaitable[None]]
_Take = Callable[[Connection, socket.socket, tuple[str, int]], Coroutine[Any, Any, None]]

_SPARE_CONNECTIONS = 64
"""Connections beyond the maximum of associations: being rejected, closing, or silent until ARTIM. More have to wait."""
_COURTESY = 0.005
"""Seconds that a connection is left to another process with fewer; one that is stuck may hold nobody up."""
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_GONE = {errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.EINTR}


class Drain:
    """Asks a running serve() to end in order.

    After start() nothing more is accepted; an association that is silent for `quiet` seconds while its service waits
    for a message is aborted, the others go on; what is left after `grace` seconds is aborted, and serve() returns.
    start() is to be called on the event loop.
    """

    def __init__(self, grace: float = 30.0, *, quiet: float = 1.0) -> None:
        self.grace = grace
        self.quiet = quiet
        self._event = anyio.Event()

    def start(self) -> None:
        self._event.set()

    @property
    def started(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        """Until start() is called."""
        await self._event.wait()


async def serve(
    listener: socket.socket,
    *,
    policy: AcceptorPolicy,
    handler: Handler,
    maximum_associations: int = 100,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    observer: Observer | None = None,
    drain: Drain | None = None,
    neighbours: Neighbours | None = None,
    gathering: Gathering | None = None,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Accept associations on a bound, listening TCP socket until drained or cancelled.

    `listener` may be shared with other processes and is not closed. `task_status.started()` is called when accepting.
    `handler` runs once an association is established; it should return when receive() gives None. When it returns
    earlier the association is aborted. Its exceptions abort the association and are logged without their text, which
    might show data of patients; AssociationError from it is a matter of course and not logged. More than
    `maximum_associations` at once are rejected as temporary (2/3/2). `neighbours`: the processes it is shared with, for
    an even spread. `gathering`: which of them some associations are for.
    """
    acceptor = _Acceptor(
        listener=listener,
        policy=policy,
        handler=handler,
        maximum_associations=maximum_associations,
        timeouts=timeouts or Timeouts(),
        limits=limits or Limits(),
        observer=observer or Observer(),
        neighbours=neighbours or Neighbours.alone(),
        gathering=gathering,
    )
    drain = drain or Drain()
    async with anyio.create_task_group() as connections:
        async with anyio.create_task_group() as accepting:
            accepting.start_soon(acceptor.accept, connections)
            if gathering is not None and gathering.inbox is not None:
                accepting.start_soon(acceptor.take_over, gathering, connections)
            task_status.started()
            await drain.wait()
            accepting.cancel_scope.cancel()
        acceptor.neighbours.leave()
        if gathering is not None:
            gathering.close()
        acceptor.end_when_quiet(drain.quiet)
        with anyio.move_on_after(drain.grace):
            await acceptor.wait_until_empty()
        connections.cancel_scope.cancel()


class _Acceptor:
    def __init__(
        self,
        *,
        listener: socket.socket,
        policy: AcceptorPolicy,
        handler: Handler,
        maximum_associations: int,
        timeouts: Timeouts,
        limits: Limits,
        observer: Observer,
        neighbours: Neighbours,
        gathering: Gathering | None,
    ) -> None:
        self.neighbours = neighbours
        self._gathering = gathering if gathering is not None and gathering.hands_over else None
        self._listener = listener
        self._policy = policy
        self._handler = handler
        self._maximum_associations = maximum_associations
        self._timeouts = timeouts
        self._limits = limits
        self._observer = observer
        self._buffer = read_buffer()
        self._crowd = Crowd(limits.together)
        self._connections: set[Connection] = set()
        self._associations = 0
        self._changed = anyio.Event()  # replaced each time a connection is gone
        neighbours.note(0)
        listener.setblocking(False)

    async def accept(self, connections: TaskGroup) -> None:
        """Take connections off the listening socket, for this process or another."""
        take = self._run if self._gathering is None else self._hand_over_or_run
        while True:
            await self._wait_for_room()
            await anyio.wait_readable(self._listener)
            if self.neighbours.one_has_fewer:
                await anyio.sleep(_COURTESY)
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                continue  # another process was quicker
            except OSError as error:
                if error.errno in _GONE:
                    continue
                if error.errno not in _EXHAUSTED:
                    raise
                logger.error("cannot accept connections: %s", error.strerror)
                await anyio.sleep(0.1)
                continue
            self._begin(sock, address, take, connections)

    async def take_over(self, gathering: Gathering, connections: TaskGroup) -> None:
        """Take connections that other processes hand over."""
        while True:
            await self._wait_for_room()
            sock = await gathering.next()
            try:
                address = sock.getpeername()
            except OSError:  # it is gone
                sock.close()
                continue
            self._begin(sock, address, self._run, connections)

    async def _wait_for_room(self) -> None:
        while len(self._connections) >= self._maximum_associations + _SPARE_CONNECTIONS:
            await self._changed.wait()

    def _begin(self, sock: socket.socket, address: Sequence[Any], take: _Take, connections: TaskGroup) -> None:
        peer = (str(address[0]), int(address[1]))
        try:
            connection = self._connection(sock, peer)
        except BaseException:
            sock.close()
            raise
        self._connections.add(connection)
        self.neighbours.note(len(self._connections))
        connections.start_soon(take, connection, sock, peer)

    def end_when_quiet(self, seconds: float) -> None:
        for connection in self._connections:
            connection.end_when_quiet(seconds)

    async def wait_until_empty(self) -> None:
        while self._connections:
            await self._changed.wait()

    def _connection(self, sock: socket.socket, peer: tuple[str, int]) -> Connection:
        sock.setblocking(False)
        machine = Machine(
            is_requestor=False,
            maximum_length=self._policy.maximum_length,
            command_limit=self._limits.command,
            association_limit=self._limits.association_pdu,
        )

        def decide(request: AssociateRequest) -> Agreement | AssociateReject:
            answer = negotiate(request, self._policy, peer[0])
            if isinstance(answer, Agreement) and self._associations >= self._maximum_associations:
                answer = LOCAL_LIMIT_EXCEEDED
            if isinstance(answer, Agreement):
                self._associations += 1
                # What was proposed may be a hundred times as much as what was agreed, and nobody asks for it again.
                answer = replace(answer, request=replace(request, contexts=()))
            else:
                self._observer.rejected(request.calling_ae, answer.result, answer.source, answer.reason)
                logger.warning(
                    "association rejected: %s",
                    REJECTIONS.get(answer, "by policy"),
                    extra={"calling": request.calling_ae, "called": request.called_ae, "host": peer[0]},
                )
            return answer

        return Connection(
            sock,
            machine,
            buffer=self._buffer,
            timeouts=self._timeouts,
            limits=self._limits,
            decide=decide,
            crowd=self._crowd,
        )

    async def _hand_over_or_run(self, connection: Connection, sock: socket.socket, peer: tuple[str, int]) -> None:
        """A connection that may be for another process."""
        assert self._gathering is not None
        try:
            is_elsewhere = await self._gathering.hand_over(sock)
        except BaseException:
            sock.close()
            self._leave(connection)
            raise
        if is_elsewhere:
            self._leave(connection)
        else:
            await self._run(connection, sock, peer)

    async def _run(self, connection: Connection, sock: socket.socket, peer: tuple[str, int]) -> None:
        """A connection from accept to close, whatever happens."""
        self._observer.connected()
        patience = 0.0  # when cancelled, the peer gets its A-ABORT and no time
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, sock)
            agreed = await connection.established
            if agreed is not None:
                await self._handle(Association(connection, agreed, peer))
            patience = self._timeouts.artim
        except OSError:
            pass  # the peer was gone before the transport was made
        finally:
            try:
                await connection.finish(patience)
            finally:
                self._forget(connection, peer)

    def _forget(self, connection: Connection, peer: tuple[str, int]) -> None:
        agreed = connection.agreement
        self._associations -= agreed is not None
        self._leave(connection)
        title = agreed.request.calling_ae if agreed is not None else ""
        self._observer.closed(title, connection.outcome, connection.received, connection.out.sent)
        if agreed is None and connection.rejection is None and connection.received:
            reason = connection.inbox.error or connection.outcome
            logger.warning("no association with %s: %s", peer[0], reason)

    def _leave(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self.neighbours.note(len(self._connections))
        self._changed.set()
        self._changed = anyio.Event()

    async def _handle(self, association: Association) -> None:
        self._observer.accepted(association.calling_ae)
        try:
            await self._handler(association)
        except AssociationError:
            pass
        except Exception as error:
            await association.abort()
            logger.error("handler of an association failed with %s", described(error))
