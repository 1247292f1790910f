"""How a server makes durable what it acknowledges: its sync calls, counted with strace in a run of their own.

Under strace every sync call stops the process, so nothing else is measured in such a run. Seccomp filters
(`--seccomp-bpf`, strace 5.3) let all other calls pass at full speed. What isn't seen: syncs by io_uring, `RWF_DSYNC`
writes, and whether the disk keeps its word.
"""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.peers import Peer
from bench.process import tree
from bench.senders import tool

SYNCS = ("fsync", "fdatasync", "msync", "sync_file_range", "syncfs", "sync")

_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")
_SYNCHRONOUS = re.compile(r"O_D?SYNC")


@dataclass(frozen=True, slots=True)
class Syncs:
    """What was counted while so many instances were stored."""

    instances: int
    calls: dict[str, int]
    synchronous_files: int
    """Files opened with O_SYNC or O_DSYNC, each write of which is synced."""

    @property
    def per_instance(self) -> float:
        """Sync calls for each instance."""
        return sum(self.calls.values()) / self.instances if self.instances else 0.0

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {name}" for name, count in self.calls.items()) or "no sync call"
        opened = f", {self.synchronous_files} files opened for synchronous writing" if self.synchronous_files else ""
        return f"{counted}{opened} for {self.instances} instances"


def traced(output: Path) -> list[str]:
    """The command prefix that writes every sync call of a process and its children to `output`."""
    calls = ",".join((*SYNCS, "open", "openat"))
    strace = tool("strace", "strace")
    return [strace, "--follow-forks", "--seccomp-bpf", "--quiet=all", "-e", f"trace={calls}", "-e", "signal=none",
            "-o", str(output)]  # fmt: skip


def syncs_in(trace: str) -> tuple[dict[str, int], int]:
    """Sync calls by name, and files opened for synchronous writing, out of the output of strace."""
    calls: Counter[str] = Counter()
    synchronous = 0
    for line in trace.splitlines():
        match = _CALL.match(line)
        if not match:
            continue
        if match[1] in SYNCS:
            calls[match[1]] += 1
        elif _SYNCHRONOUS.search(line):
            synchronous += 1
    return dict(calls), synchronous


def end_traced(peer: Peer) -> None:
    """Ask the server under strace to end: strace itself lets nobody interrupt it."""
    if peer.pid is not None:
        for pid in tree(peer.pid)[1:2]:
            os.kill(pid, signal.SIGTERM)
