"""Giving way to other processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastarchive.server.priority import NICENESS, Deference


@pytest.fixture
def session(tmp_path: Path) -> Path:
    path = tmp_path / "autogroup"
    path.write_text("/autogroup-7 nice 0\n")
    return path


def test_a_session_of_its_own_gives_way_until_told_otherwise(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getsid", lambda _pid: os.getpid())
    deference = Deference(session)
    deference.give_way(True)
    assert session.read_text() == str(NICENESS)
    session.write_text("untouched")
    deference.give_way(True)
    assert session.read_text() == "untouched"
    deference.give_way(False)
    assert session.read_text() == "0"


def test_a_session_of_others_is_left_alone(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getsid", lambda _pid: os.getpid() + 1)
    Deference(session).give_way(True)
    assert session.read_text() == "/autogroup-7 nice 0\n"


def test_a_kernel_without_it_or_that_refuses_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getsid", lambda _pid: os.getpid())
    Deference(tmp_path / "none").give_way(True)
    assert not (tmp_path / "none").exists()
    Deference(tmp_path).give_way(True)  # a folder can't be written


def test_what_the_kernel_puts_off_is_tried_again(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getsid", lambda _pid: os.getpid())
    deference = Deference(session)
    with monkeypatch.context() as busy:

        def put_off(*_: object) -> int:
            raise BlockingIOError

        busy.setattr(Path, "write_text", put_off)
        deference.give_way(True)
    deference.give_way(True)
    assert session.read_text() == str(NICENESS)
