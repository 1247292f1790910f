"""Events that are set by a signal."""

from __future__ import annotations

import signal
import threading
from queue import SimpleQueue
from typing import Any

__all__ = ["set_on"]


def set_on(number: signal.Signals, event: threading.Event) -> Any:
    """Set an event each time a signal arrives; what was done then before. For the main thread.

    A handler runs between two steps of whatever the main thread is doing. That may be to wait for this very event, with
    its lock taken for a moment; to set it in the handler would wait for that lock forever. So another thread does.
    """
    arrived: SimpleQueue[None] = SimpleQueue()  # its put() may interrupt itself

    def pass_on() -> None:
        while True:
            arrived.get()
            event.set()

    threading.Thread(target=pass_on, name="signals", daemon=True).start()
    return signal.signal(number, lambda *_: arrived.put(None))
