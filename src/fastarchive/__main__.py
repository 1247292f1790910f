"""``python -m fastarchive`` and ``fastarchive``: the command line."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(0)


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["serve"]:
        # Loading the code takes a moment. Who ends the archive before it has begun finds it drained; the supervisor has
        # its own ways once there is something to drain.
        signal.signal(signal.SIGTERM, _leave)
    from fastarchive.cli import main as run

    run()


if __name__ == "__main__":
    main()
