"""Tell systemd what the archive does (sd_notify), if systemd wants to know."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send e.g. ``READY=1`` or ``STOPPING=1`` to the socket NOTIFY_SOCKET names; does nothing without one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
            end.sendto(state.encode(), address)
    except OSError:
        # Nobody listens: the archive runs all the same.
        return
