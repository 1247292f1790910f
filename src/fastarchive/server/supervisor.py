"""The supervisor: binds the ports, keeps the processes running, ends them in order.

A start: lock the folder, bind the ports, start all processes. The index writer recovers the packs of an earlier life
and opens the index; the workers load their code meanwhile and get their orders when that is done. Once all say they
are ready, the ports are written to DATA/run and the ready line is printed.

An end (SIGTERM or SIGINT): the workers accept no more and finish what runs, within ``drain_seconds``; then the index
writer takes in what is left and ends; exit code 0. A second signal ends everything at once, exit code 1. That loses
nothing that was acknowledged, it only leaves recovery to the next start.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import anyio

from fastarchive import logs
from fastarchive.server.child import Child, StartFailed
from fastarchive.server.control import RECOVER, Orders
from fastarchive.server.listeners import listen, neighbours, port_of, share_numbers, takers
from fastarchive.server.notify import notify
from fastarchive.server.run_directory import RunDirectory
from fastarchive.settings import Settings
from fastarchive.upperlayer.gathering import passage

logger = logging.getLogger(__name__)

DRAINED = 0
FORCED = 1
WORKER_GRACE = 10.0
"""Seconds a worker gets beyond ``drain_seconds``, to abort what is left and to close its pack."""
INDEXER_GRACE = 60.0
"""Seconds the index writer gets for its last commit."""
TURN_AWAY_PAUSE = 0.1
OPEN_FILES = 65_536


def run(settings: Settings) -> int:
    """Run an archive until it is told to end; the exit code.

    Raises AlreadyRunning, ListenError, StartFailed, OSError.
    """
    logs.configure(level=settings.log_level, style=settings.log_format, role="supervisor")
    if settings.mirror is not None and not settings.mirror.is_dir():
        raise StartFailed(f'mirror = "{settings.mirror}" is wrong; allowed: a folder that exists')
    _allow_many_files()
    directory = RunDirectory(settings.data)
    with ExitStack() as stack:
        stack.enter_context(directory.locked())
        dicom = stack.enter_context(listen(settings.host, settings.dicom_port, "dicom_port"))
        http = stack.enter_context(listen(settings.host, settings.http_port, "http_port"))
        shared = share_numbers(settings.workers)
        stack.callback(os.close, shared)
        try:
            return anyio.run(_supervise, settings, directory, dicom, http, shared)
        except BaseExceptionGroup as group:
            # What a task group wraps: the first failure of a start is the one to tell.
            failed, rest = group.split(StartFailed)
            if failed is not None and rest is None:
                raise StartFailed(str(_first(failed))) from None
            raise


def _allow_many_files() -> None:
    """Raise the limit of open files to what is permitted: every association and every pack being read is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _supervise(
    settings: Settings, directory: RunDirectory, dicom: socket.socket, http: socket.socket, shared: int
) -> int:
    return await Supervisor(settings, directory, dicom, http, shared).run()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


class Supervisor:
    """One run of the archive on bound sockets, with memory for the workers to share (:func:`share_numbers`)."""

    def __init__(
        self, settings: Settings, directory: RunDirectory, dicom: socket.socket, http: socket.socket, shared: int
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._dicom = dicom
        self._http = http
        self._shared = shared
        self._passages = [passage() for _ in range(takers(settings.workers))]
        """They outlive the workers: what is handed over to one that ends is for the one that follows it."""
        # Before prometheus_client is imported, here or in a child: it looks at this once.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory.metrics.resolve())
        from fastarchive.metrics import Metrics

        self._metrics = Metrics()
        self._serving = anyio.CancelScope()
        self._forced = False
        environment = dict(os.environ)
        self._workers: list[Child] = []
        self._indexer = self._child("indexer", "indexer", environment)
        self._workers = [
            self._child("worker", f"worker-{place + 1}", environment, place) for place in range(settings.workers)
        ]

    def _child(self, role: str, name: str, environment: Mapping[str, str], place: int = 0) -> Child:
        orders = Orders(name=name, settings=self._settings, place=place)
        if role == "worker":
            orders = replace(
                orders,
                dicom_descriptor=self._dicom.fileno(),
                http_descriptor=self._http.fileno(),
                shared_descriptor=self._shared,
                passages=tuple(into.fileno() for _, into in self._passages),
                inbox=self._passages[place][0].fileno() if place < len(self._passages) else -1,
            )
        return Child(
            role=role,
            module=f"fastarchive.server.{role}",
            after=self._indexer.ready if role == "worker" else None,
            orders=orders,
            environment=environment,
            descriptors=orders.descriptors,
            changed=self._record,
            ended=partial(self._child_ended, place),
        )

    def _children(self) -> list[Child]:
        return [self._indexer, *self._workers]

    def _record(self) -> None:
        self._directory.write_processes([child.describe() for child in self._children()])

    async def run(self) -> int:
        """Start, serve until a signal, drain; the exit code."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._listen_for_signals)
            with self._serving:
                for child in self._children():
                    group.start_soon(child.keep)
                for child in self._children():
                    await child.ready.wait()
                self._announce()
                await anyio.sleep_forever()
            group.start_soon(self._turn_away)
            await self._drain()
            group.cancel_scope.cancel()
        return FORCED if self._forced else DRAINED

    async def _listen_for_signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                if not self._serving.cancel_called:
                    logger.info("draining", extra={"signal": signal.Signals(number).name})
                    notify("STOPPING=1")
                    self._serving.cancel()
                else:
                    logger.warning("ending at once", extra={"signal": signal.Signals(number).name})
                    self._forced = True
                    for child in self._children():
                        child.kill()

    def _announce(self) -> None:
        host = self._settings.host
        dicom, http = port_of(self._dicom), port_of(self._http)
        self._directory.write("dicom-port", f"{dicom}\n")
        self._directory.write("http-port", f"{http}\n")
        shown = f"[{host}]" if ":" in host else host
        try:
            print(
                f"fastarchive ready: DICOM {self._settings.ae_title}@{shown}:{dicom}, HTTP http://{shown}:{http}, "
                f"data {self._settings.data}",
                flush=True,
            )
        except OSError:
            # Nobody reads our output; the ports are in the run folder.
            sys.stdout = None  # Python then prints nothing
        notify(f"READY=1\nSTATUS=DICOM on {shown}:{dicom}, HTTP on {shown}:{http}")

    async def _drain(self) -> None:
        """End the workers, then the index writer; whoever is late is killed."""
        for role, grace in (("worker", self._settings.drain_seconds + WORKER_GRACE), ("indexer", INDEXER_GRACE)):
            children = [child for child in self._children() if child.role == role]
            for child in children:
                child.stop()
            with anyio.move_on_after(grace):
                for child in children:
                    await child.gone.wait()
            for child in children:
                if not child.gone.is_set():
                    logger.error("process ended late", extra={"child": child.name, "seconds": grace})
                    self._forced = True
                    child.kill()
                    await child.gone.wait()

    async def _turn_away(self) -> None:
        """Close what comes in while draining: otherwise it would wait in the queue of a socket nobody accepts from."""
        while True:
            await anyio.wait_readable(self._dicom)
            try:
                self._dicom.accept()[0].close()
            except BlockingIOError:
                continue  # a worker was quicker
            except OSError:
                await anyio.sleep(TURN_AWAY_PAUSE)

    def _child_ended(self, place: int, role: str, pid: int) -> None:
        from fastarchive.metrics import forget_process

        forget_process(pid)
        self._metrics.process_restarts.labels(kind=role).inc()
        if role == "worker":
            neighbours(self._shared, place).leave()  # until another one is at its place
            self._indexer.ask(RECOVER)
