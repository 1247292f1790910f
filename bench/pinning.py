"""A server on fewer cores than the machine has: how what it does grows with cores."""

from __future__ import annotations

import os

from bench.senders import tool


def pinned(count: int) -> list[str]:
    """The command prefix that keeps a process and its children on the first `count` cores this process may use.

    The senders stay free: on a machine with few cores they share them with the server. Raises RuntimeError when there
    are not so many.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(allowed):
        raise RuntimeError(f"can't pin to {count} cores: this process may use {len(allowed)}")
    return [tool("taskset", "util-linux"), "--cpu-list", ",".join(map(str, allowed[:count]))]
