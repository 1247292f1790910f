"""Memory of a tree of processes: cheap looks that miss no peak."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from bench import memory
from bench.memory import Footprint, MemoryWatch, footprint, parse_rollup, parse_statm

MB = 2**20


def test_sizes_are_read_in_bytes() -> None:
    rollup = (
        b"55 ---p 0 00:00 0 [rollup]\nRss: 9 kB\nPss: 700 kB\nPss_Anon: 500 kB\nPss_File: 150 kB\nPss_Shmem: 50 kB\n"
    )
    assert parse_rollup(rollup) == (700 * 1024, 550 * 1024)
    assert parse_rollup(b"") == (0, 0)
    page = memory._PAGE
    assert parse_statm(b"900 100 30 0 0 40 0\n") == (100 * page, 70 * page)


@dataclass
class Server:
    """One whose pages are counted by hand."""

    own: int = 100 * MB
    shared: int = 20 * MB
    now: float = 0.0
    walks: list[float] = field(default_factory=list)

    def sum(self, _pids: object, file: str, _parse: object) -> Footprint:
        if file == "statm":  # the shared pages in each of two processes
            return Footprint(self.own + 2 * self.shared, self.own)
        self.walks.append(self.now)
        return Footprint(self.own + self.shared, self.own)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(memory, "_sum", server.sum)
    monkeypatch.setattr(memory, "tree", lambda _root: [7, 8])
    monkeypatch.setattr(memory, "monotonic", lambda: server.now)
    return server


def test_what_does_not_grow_is_looked_at_with_care_now_and_then(server: Server) -> None:
    watch = MemoryWatch(7)
    for tenth in range(100):
        server.now = tenth / 10
        assert watch.look() == (120 * MB, 100 * MB)
    assert len(server.walks) == 5


def test_a_peak_between_two_careful_looks_is_not_missed(server: Server) -> None:
    watch = MemoryWatch(7)
    watch.look()
    server.now, server.own = 0.1, 150 * MB
    assert watch.look() == (170 * MB, 150 * MB)
    server.now, server.own = 0.2, 100 * MB
    assert watch.look() == (120 * MB, 100 * MB)
    assert watch.peak == 170 * MB
    assert server.walks == [0.0, 0.1]


def test_a_slow_rise_is_counted_before_it_is_looked_at(server: Server) -> None:
    watch = MemoryWatch(7)
    for step in range(200):
        server.now, server.own = step / 1000, server.own + MB // 4
        watch.look()
        assert watch.peak == server.own + server.shared
    assert len(server.walks) < 50


def test_pages_that_become_shared_are_counted_once_again_soon(server: Server) -> None:
    watch = MemoryWatch(7)
    watch.look()
    server.now, server.shared = 0.1, 21 * MB
    watch.look()
    server.now = 3.0
    assert watch.look() == (121 * MB, 100 * MB)
    assert watch.look(exact=True) == (121 * MB, 100 * MB)


def test_a_real_process_that_fills_memory_is_seen() -> None:
    script = (
        "import sys; print(1, flush=True); input(); kept = bytearray(b'x') * (64 << 20); print(2, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        watch = MemoryWatch(process.pid)
        before = watch.look().size
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        grown = watch.look().size - before
        assert 63 * MB < grown < 70 * MB  # of pages it shares with others, a part counts
        assert abs(watch.peak - footprint((process.pid,)).size) < MB
        process.stdin.write(b"\n")
        process.stdin.flush()
    assert watch.look() == (0, 0)
