"""How much of the processors this process gets when others want them, too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["Deference"]

NICENESS: Final = 10
"""Of a session that gives way: a tenth of the weight of one that doesn't."""
_SESSION: Final = Path("/proc/self/autogroup")
"""Where Linux groups processes by session, their own niceness counts within the session alone; this is that of the
session. Unlike a process's own, whoever lowered it may raise it again."""


class Deference:
    """Lets this process give way to others, or not.

    It must be the first of its session, as children of the supervisor are, lest it slow down anybody else. Otherwise
    nothing is done, nor where the kernel knows no niceness of sessions.
    """

    def __init__(self, session: Path = _SESSION) -> None:
        self._session = session
        self._now = 0 if os.getsid(0) == os.getpid() and session.exists() else None

    def give_way(self, wanted: bool) -> None:
        """Give way from now on, or don't."""
        niceness = NICENESS if wanted else 0
        if self._now is None or self._now == niceness:
            return
        try:
            self._session.write_text(str(niceness))
        except BlockingIOError:  # the kernel lets this be changed ten times a second on the whole machine
            return
        except OSError:
            self._now = None
            return
        self._now = niceness
