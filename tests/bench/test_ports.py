"""Ports for archives that have to be told one."""

from __future__ import annotations

import errno
import socket

import pytest

from bench.peers import ports
from bench.peers.ports import HOST, free_port


def test_no_port_is_given_twice_and_none_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_next", free_port())
    with socket.socket() as taken:
        taken.bind((HOST, ports._next))
        given = {free_port() for _ in range(10)}
        assert len(given) == 10
        assert taken.getsockname()[1] not in given


def test_they_begin_anew_and_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_port()
    monkeypatch.setattr(ports, "_LOWEST", first)
    monkeypatch.setattr(ports, "_HIGHEST", first + 1)
    monkeypatch.setattr(ports, "_next", first + 1)
    assert free_port() == first
    with socket.socket() as taken:
        taken.bind((HOST, first))
        with pytest.raises(OSError, match="in use") as caught:
            free_port()
        assert caught.value.errno == errno.EADDRINUSE
