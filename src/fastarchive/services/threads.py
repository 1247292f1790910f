"""A small pool of worker threads whose results come back to the event loop in batches.

The hash functions, zstd and fdatasync release the interpreter lock, so the services hand their work to threads. What is
left is the price of the hand-over. ``loop.run_in_executor`` wakes the event loop once for each result; here everything
that finishes while the loop is busy is delivered by one wake-up, which is the normal case when a group commit makes
eight instances durable at the same moment.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from fastarchive.services.mailbox import Mailbox

__all__ = ["Threads"]

T = TypeVar("T")
_Outcome = tuple["asyncio.Future[Any]", Any, BaseException | None]


def _settle(outcome: _Outcome) -> None:
    future, result, error = outcome
    if future.done():  # the task that waited was cancelled
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class Threads:
    """`size` worker threads, started when they are first needed. Safe to use from one event loop at a time.

    A waiting task may be cancelled at any moment; the function it handed over then runs to its end all the same, and
    its result is dropped. So a function owns what it works on until it returns.
    """

    def __init__(self, size: int, name: str) -> None:
        if size < 1:
            raise ValueError(f"a pool of {size} threads can do no work")
        self._size = size
        self._name = name
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._deliveries: Mailbox[_Outcome] | None = None
        self._closed = False

    async def run(self, function: Callable[[], T], *, limit: float = 0.0) -> T:
        """Call `function` in a worker thread and return what it returns, or raise what it raises.

        Raises TimeoutError after `limit` seconds, if not 0; the function then runs to its end unattended.
        """
        return await self._within(self.start(function), limit)

    def start(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Call `function` in a worker thread; the future has its result. Cancelling the future drops the result."""
        deliveries, future = self._prepare()

        def job() -> None:
            try:
                deliveries.post((future, function(), None))
            except BaseException as error:  # it is raised again where the result is awaited
                deliveries.post((future, None, error))

        self._submit(job)
        return future

    async def run_then_wait(self, function: Callable[[], concurrent.futures.Future[T]], *, limit: float = 0.0) -> T:
        """Call `function` in a worker thread, then wait for the future it returns without holding the thread.

        Raises TimeoutError when both together take longer than `limit` seconds, if not 0.
        """
        deliveries, future = self._prepare()

        def job() -> None:
            try:
                function().add_done_callback(partial(_post_result, deliveries, future))
            except BaseException as error:  # it is raised again where the result is awaited
                deliveries.post((future, None, error))

        self._submit(job)
        return await self._within(future, limit)

    async def wait(self, inner: concurrent.futures.Future[T], *, limit: float = 0.0) -> T:
        """Wait for a future that some thread is going to settle.

        Raises TimeoutError after `limit` seconds, if not 0.
        """
        if inner.done():
            return inner.result()
        deliveries, future = self._prepare()
        inner.add_done_callback(partial(_post_result, deliveries, future))
        return await self._within(future, limit)

    def submit(self, function: Callable[[], object]) -> None:
        """Call `function` in a worker thread some time soon and don't wait; what it raises is dropped."""

        def job() -> None:
            with suppress(Exception):
                function()

        self._submit(job)

    def close(self) -> None:
        """Let the threads finish what was handed over, and wait for them. Calling it again does nothing."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)
            for thread in self._threads:
                thread.join()

    async def _within(self, future: asyncio.Future[T], limit: float) -> T:
        if not limit:
            return await future
        # A tenth of what a cancel scope costs.
        alarm = future.get_loop().call_later(limit, _give_up, future)
        try:
            return await future
        finally:
            alarm.cancel()

    def _prepare(self) -> tuple[Mailbox[_Outcome], asyncio.Future[Any]]:
        loop = asyncio.get_running_loop()
        if self._deliveries is None or self._deliveries.loop is not loop:
            self._deliveries = Mailbox(loop, _settle)
        return self._deliveries, loop.create_future()

    def _submit(self, job: Callable[[], None]) -> None:
        if self._closed:
            raise RuntimeError("the worker threads are stopped")
        self._jobs.put(job)
        if len(self._threads) < self._size:
            thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # and with it all it worked on, while there is nothing else to do


def _post_result(deliveries: Mailbox[_Outcome], future: asyncio.Future[T], inner: concurrent.futures.Future[T]) -> None:
    if inner.cancelled():
        deliveries.post((future, None, concurrent.futures.CancelledError()))
        return
    error = inner.exception()
    deliveries.post((future, None if error else inner.result(), error))


def _give_up(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
