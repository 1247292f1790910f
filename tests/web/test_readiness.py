"""Readiness: each check on its own, and the pages that show them."""

from __future__ import annotations

import pytest

from fastarchive.store.writers import LogStatus
from fastarchive.web.page import flatten, start_page
from fastarchive.web.readiness import (
    CAUGHT_UP,
    STALLED_AFTER,
    Tail,
    TailWatch,
    disk,
    index_writer,
    is_degraded,
    is_ready,
    serving,
    writing,
)


def test_an_index_that_is_rebuilt_has_to_catch_up_once() -> None:
    watch = TailWatch()
    behind = watch.check(Tail(CAUGHT_UP + 1, 1), now=0.0)
    assert not behind.ready
    assert behind.detail.endswith("to take in, catching up")
    assert watch.check(Tail(CAUGHT_UP, 2), now=1.0).ready
    assert watch.check(Tail(10 * CAUGHT_UP, 3), now=2.0).ready


def test_a_tail_that_moves_is_fine_however_long() -> None:
    watch = TailWatch()
    watch.check(Tail(0, 0), now=0.0)
    for generation in range(100):
        assert watch.check(Tail(100_000, generation), now=generation * STALLED_AFTER).ready


def test_a_tail_that_stands_still_is_stalled_after_a_while() -> None:
    watch = TailWatch()
    assert watch.check(Tail(5, 1), now=100.0).ready
    assert watch.check(Tail(9, 1), now=100.0 + STALLED_AFTER).ready
    late = watch.check(Tail(9, 1), now=101.0 + STALLED_AFTER)
    assert not late.ready
    assert "no commit for 31 s" in late.detail
    assert watch.check(Tail(9, 2), now=200.0).ready


def test_an_empty_tail_never_stalls() -> None:
    watch = TailWatch()
    assert watch.check(Tail(0, 1), now=0.0).ready
    assert watch.check(Tail(0, 1), now=1e6).ready
    assert watch.check(Tail(1, 1), now=1e6 + 1).ready


@pytest.mark.parametrize(("state", "ready"), [("running", True), ("starting", False), ("waiting", False)])
def test_index_writer_must_run(state: str, ready: bool) -> None:
    processes = [{"role": "worker", "state": "running"}, {"role": "indexer", "state": state}]
    assert index_writer(processes).ready is ready


def test_no_index_writer_at_all_is_not_ready() -> None:
    assert not index_writer([]).ready


def test_disk_below_its_reserve_is_degraded() -> None:
    enough, check = disk(free=2**30 + 1, reserve=2**30), disk(free=2**30, reserve=2**30)
    assert enough.ready
    assert not is_degraded([enough])
    assert not check.ready
    assert check.detail == "1.0 GiB free, 1GiB kept in reserve; nothing is stored, all else goes on"
    assert is_ready([check])
    assert is_degraded([check])
    assert not is_degraded([check, serving(draining=True)])


def test_draining_is_not_ready() -> None:
    assert serving(draining=False).ready
    assert not serving(draining=True).ready


def test_flatten() -> None:
    assert flatten({"a": 1, "b_c": {"d": 2, "e": {"f": 3}}}) == [("a", 1), ("b c d", 2), ("b c e f", 3)]


def test_start_page_escapes_what_it_shows() -> None:
    page = start_page(
        {
            "version": "1",
            "ae_title": "<script>",
            "ready": False,
            "degraded": False,
            "checks": {"disk": {"ready": False, "detail": "<full>"}},
            "processes": [{"name": "worker-1", "state": "running", "pid": 7, "restarts": 0}],
            "archive": {"instances": 1234567, "directory": "/a&b"},
        }
    )
    assert "<script>" not in page
    assert "&lt;full&gt;" in page
    assert "1 234 567" in page
    assert "/a&amp;b" in page
    assert "not ready" in page


IDLE = LogStatus(None, 0, 0, 0, 0, 0)


def test_a_disk_that_answers_is_fine() -> None:
    assert writing(IDLE, read_only=False).ready
    assert writing(IDLE._replace(stalled=0.2), read_only=False).ready


@pytest.mark.parametrize(
    ("log", "read_only", "why"),
    [
        (IDLE._replace(stalled=12.4), False, "hasn't answered for 12 s"),
        (IDLE._replace(failure="Input/output error"), False, "Input/output error"),
        (IDLE, True, "reading only"),
    ],
)
def test_a_disk_that_can_not_be_written_is_degraded_and_says_why(log: LogStatus, read_only: bool, why: str) -> None:
    checks = [serving(draining=False), writing(log, read_only)]
    assert is_ready(checks)
    assert is_degraded(checks)
    assert why in checks[1].detail
