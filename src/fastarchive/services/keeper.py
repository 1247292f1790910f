"""An intake that the event loop and a worker thread have in turn, closed by whichever is the last to let go of it.

A task may stop waiting at any moment, because its association ended or because the disk takes too long; the thread it
handed the intake to can't be stopped and may be anywhere in its work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock
from typing import TypeVar

from fastarchive.archive import Archive, Receipt
from fastarchive.services.threads import Threads
from fastarchive.store.intake import Intake

__all__ = ["Abandoned", "Keeper"]

_Handed = TypeVar("_Handed", Future[Receipt], Future[Receipt] | None)


class Abandoned(Exception):
    """Nobody waits for the work any more."""


class Keeper:
    """Keeps `intake` until the last one lets go of it; `ended` is then called on the event loop it was made on."""

    def __init__(self, intake: Intake, ended: Callable[[], None], threads: Threads) -> None:
        self._intake = intake
        self._ended = ended
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._lock = Lock()
        self._working = False
        self._left = False

    def drain(self) -> None:
        """In a worker thread: what is pending goes to the spool. Raises as Intake.drain(), and Abandoned."""
        self._begin()
        try:
            self._intake.drain()
        finally:
            self._finish()

    def submit(self, archive: Archive) -> Future[Receipt]:
        """In a worker thread: finish the record and hand it to the log. Raises as Archive.submit(), and Abandoned."""
        return self._hand_over(archive.submit)

    def submit_promptly(self, archive: Archive) -> Future[Receipt] | None:
        """On the event loop: the same for a small data set, if it takes but a moment; else None, and submit() is to do
        it. Raises as Archive.submit()."""
        return self._hand_over(archive.submit_promptly)

    def _hand_over(self, submit: Callable[[Intake], _Handed]) -> _Handed:
        """Call `submit`; it is through with the intake when the future it gives is settled, or at once without one."""
        self._begin()
        future = None
        try:
            future = submit(self._intake)
        finally:
            if future is None:
                self._finish()
        if future is not None:
            future.add_done_callback(lambda _: self._finish())
        return future

    def leave(self) -> None:
        """On the event loop, once: it is through with the intake, whatever became of it."""
        with self._lock:
            self._left = True
            working = self._working
        if working:
            return
        if self._intake.spooled:
            self._threads.submit(self._intake.close)  # removing gigabytes takes the disk a while
        else:
            self._intake.close()
        self._ended()

    def _begin(self) -> None:
        with self._lock:
            if self._left:
                raise Abandoned
            self._working = True

    def _finish(self) -> None:
        with self._lock:
            self._working = False
            left = self._left
        if left:
            self._intake.close()
            with suppress(RuntimeError):  # the loop is closed: nobody counts any more
                self._loop.call_soon_threadsafe(self._ended)
