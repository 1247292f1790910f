"""HTTP in the worker's event loop: uvicorn without its own signals, logs and processes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.types import ASGIApp

KEEP_ALIVE_SECONDS = 75
STOP_SECONDS = 5.0


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answering = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and tell that it is done."""
        await super().startup(sockets)
        self.answering.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The worker's task group decides when to end, not uvicorn."""
        yield


class HttpServer:
    """Serves one application on one listening socket, as a task of the worker."""

    def __init__(self, app: ASGIApp) -> None:
        self._server = _Server(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=int(STOP_SECONDS),
            )
        )
        self._ended = anyio.Event()

    async def serve(
        self, listener: socket.socket, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until :meth:`stop`; started once requests are answered."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._serve, listener)
            await self._server.answering.wait()
            task_status.started()

    async def _serve(self, listener: socket.socket) -> None:
        try:
            await self._server.serve(sockets=[listener])
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Finish the requests that run, and end."""
        self._server.should_exit = True
        await self._ended.wait()
