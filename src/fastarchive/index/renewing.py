"""A thread that opens the commits of an index, so that nobody who asks or stores has to wait for it."""

from __future__ import annotations

import logging
import threading
from typing import Final

from fastarchive.index.current import Index

__all__ = ["Renewing"]

RENEW_SECONDS: Final = 0.1
"""How often it looks for a commit."""
_log = logging.getLogger(__name__)


class Renewing:
    """Keeps an index that is renewed apart at its newest commit, until it is stopped."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="index-renewer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more; returns when the thread has ended."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self._index.renew()
            except BaseException as error:  # a panic of Tantivy is one; the log tells everything until the next look
                _log.warning("the index can't be renewed: %s", type(error).__name__)
            if self._stop.wait(RENEW_SECONDS):
                return
