"""What the harness says of memory that the host of a virtual machine hands out page by page."""

from __future__ import annotations

import mmap

import pytest

from bench import pages
from bench.pages import costs, remark

MB = 2**20


def test_every_page_is_touched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_MOST_SECONDS", 60.0)
    found = costs(10 * MB)
    assert len(found) == 3  # the last part is smaller
    assert all(0 < cost < 1 for cost in found)


def test_it_ends_when_it_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_MOST_SECONDS", 0.0)
    assert len(costs(12 * MB)) == 1


def test_without_such_memory_there_is_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    assert costs() == []
    assert remark([]) == ""


def test_cheap_pages_need_no_words() -> None:
    assert remark([0.2e-6] * 64) == ""


def test_a_quarter_of_costly_pages_is_told_with_what_it_means() -> None:
    text = remark([0.2e-6] * 48 + [10e-6] * 16)
    assert "9.42 µs a page" in text  # a quarter and one
    assert "every megabyte written to a file may cost an archive 2.41 ms more" in text
