"""Ports for archives that have to be told one."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys

import pytest

from bench.peers import ports
from bench.peers.ports import HOST, free_port


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks of ten, which nobody has."""
    monkeypatch.setattr(ports, "_BLOCKS", range(19_000, 19_020, 10))
    monkeypatch.setattr(ports, "_ports", ports._claimed())


def test_no_port_is_given_twice_until_there_is_none() -> None:
    given = [free_port() for _ in range(20)]
    assert sorted(given) == list(range(19_000, 19_020))
    with pytest.raises(OSError, match="19000 to 19019") as caught:
        free_port()
    assert caught.value.errno == errno.EADDRINUSE


def test_one_that_is_in_use_is_not_given() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, free_port() + 1))
        assert taken.getsockname()[1] not in [free_port() for _ in range(8)]


def test_what_another_process_may_give_is_not_given_until_it_ends() -> None:
    script = (
        "from bench.peers import ports; ports._BLOCKS = range(19_000, 19_020, 10); "
        "print(ports.free_port(), flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        theirs = int(process.stdout.readline()) // 10
        assert {free_port() // 10 for _ in range(10)} == {1900 + 1901 - theirs}
        with pytest.raises(OSError, match="were given to somebody"):
            free_port()
        process.communicate("\n", timeout=30)
    assert process.returncode == 0
