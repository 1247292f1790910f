"""A thread that looks at something again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Sampling:
    """Calls `look` every `interval` seconds from start() to stop(), the first time after that many. Used once."""

    def __init__(self, look: Callable[[], object], interval: float) -> None:
        self._look = look
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a look under way comes to its end first."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._look()
