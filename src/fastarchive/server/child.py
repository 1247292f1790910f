"""One child process under the supervisor: started, watched, started again, ended."""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import anyio
from anyio.abc import Process

from fastarchive.server.backoff import Backoff
from fastarchive.server.control import Orders, is_ready

logger = logging.getLogger(__name__)

START_ATTEMPTS = 3
"""How many times a process may end before it was ever ready, until the start of the archive is given up."""


class StartFailed(Exception):
    """A process can't be started: it ended several times before it was ever ready."""


class Child:
    """A process of one role that is kept running until :meth:`stop`.

    module: what ``python -m`` runs. orders: what it is told. environment: its environment.
    changed: called when pid, state or restarts change. ended: called after each unwanted end with role and pid. after:
    the process is started at once but gets its orders only when this is set.
    """

    def __init__(
        self,
        *,
        role: str,
        module: str,
        orders: Orders,
        environment: Mapping[str, str],
        descriptors: Sequence[int] = (),
        changed: Callable[[], None],
        ended: Callable[[str, int], None],
        after: anyio.Event | None = None,
    ) -> None:
        self.role = role
        self.name = orders.name
        self.ready = anyio.Event()
        self.gone = anyio.Event()
        self.restarts = 0
        self._module = module
        self._orders = orders
        self._environment = dict(environment)
        self._descriptors = tuple(descriptors)
        self._changed = changed
        self._ended = ended
        self._after = after
        self._end: socket.socket | None = None
        self._process: Process | None = None
        self._state = "starting"
        self._stopping = anyio.Event()

    def describe(self) -> dict[str, object]:
        """What ``processes.json`` and ``/status`` show of it."""
        pid = self._process.pid if self._process is not None else None
        return {"role": self.role, "name": self.name, "pid": pid, "state": self._state, "restarts": self.restarts}

    async def keep(self) -> None:
        """Run the process, again and again with growing pauses, until it is to stop. Raises StartFailed."""
        backoff = Backoff()
        try:
            while not self._stopping.is_set():
                started = time.monotonic()
                pid, code = await self._live()
                if self._stopping.is_set():
                    return
                backoff = backoff.ended(time.monotonic() - started)
                logger.error(
                    "process ended",
                    extra={"child": self.name, "ended_pid": pid, "code": code, "pause": backoff.delay},
                )
                if not self.ready.is_set() and backoff.failures >= START_ATTEMPTS:
                    raise StartFailed(
                        f"{self.name} ended {backoff.failures} times with code {code} before it was ready"
                    )
                self._change("waiting")
                self._ended(self.role, pid)
                with anyio.move_on_after(backoff.delay):
                    await self._stopping.wait()
                self.restarts += 1
        finally:
            self._change("stopped")
            self.gone.set()

    async def _live(self) -> tuple[int, int]:
        """One life of the process: (pid, exit code)."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = await self._open(theirs)
            self._process = process
            try:
                self._change("starting")
                if self._stopping.is_set():
                    process.terminate()
                async with anyio.create_task_group() as group:
                    group.start_soon(self._lead, ours)
                    code = await process.wait()
                    group.cancel_scope.cancel()
                return process.pid, code
            finally:
                if process.returncode is None:
                    process.kill()
                    with anyio.CancelScope(shield=True):
                        await process.wait()
                self._process = None
                self._end = None

    async def _open(self, end: socket.socket) -> Process:
        try:
            # The same interpreter and nothing of the current folder on its path.
            return await anyio.open_process(
                [sys.executable, "-P", "-m", self._module],
                stdin=end.fileno(),
                stdout=None,
                stderr=None,
                env=self._environment,
                pass_fds=self._descriptors,
                start_new_session=True,
            )
        except OSError as error:
            raise StartFailed(f"{self.name} can't be started: {sys.executable}: {error.strerror}") from None

    async def _lead(self, end: socket.socket) -> None:
        """Give the process its orders and wait until it is ready."""
        if self._after is not None:
            await self._after.wait()
        try:
            # Does not block: the orders fit the socket's buffer, and a child that has ended breaks the pipe.
            end.sendall(self._orders.encode())
        except OSError:
            return
        end.setblocking(False)
        self._end = end
        received = b""
        while not is_ready(received):
            await anyio.wait_readable(end)
            try:
                chunk = end.recv(64)
            except OSError:
                return
            if not chunk:
                return
            received += chunk
        self.ready.set()
        if not self._stopping.is_set():
            self._change("running")

    def _change(self, state: str) -> None:
        self._state = state
        self._changed()

    def ask(self, request: bytes) -> None:
        """Send a request to the process if it runs; it is lost if it doesn't."""
        if self._end is not None:
            with suppress(OSError):
                self._end.send(request)

    def stop(self) -> None:
        """Ask the process to finish what it does and to end; it is not started again."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            self._change("draining")
            self._process.terminate()

    def kill(self) -> None:
        """End the process at once; it is not started again."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
