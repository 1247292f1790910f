"""Records that are made while their data sets arrive: the same ones, and nothing is left of one that doesn't end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fastarchive.store.blobs import Blobs
from fastarchive.store.follow import Follower
from fastarchive.store.line import Line
from tests.store.lines import SENDER, Plain, cut, needs_library, opened_line, plain_slice
from tests.store.making import FaultyDisk, element, header

pytestmark = needs_library


def read(directory: Path) -> dict[str, bytes]:
    """What the packs have, by UID."""
    blobs = Blobs(directory)
    with Follower(directory) as follower:
        return {record.sop_instance: blobs.open(place).read() for place, record in follower.poll(1000)}


def is_idle(line: Line) -> bool:
    """Whether nothing is under way."""
    return not line._under_way


def finish(plain: Plain, uid: str, parts: list[bytes], begun: int) -> bool:
    """Offer a data set of which so many pieces were begun with."""
    return plain.line.offer(uid, uid, SENDER, parts, plain.begin(uid, parts[:begun]))


@pytest.mark.parametrize("pieces", [2, 3, 16])
@pytest.mark.parametrize("first", [1, 2])
def test_the_record_is_the_one_made_at_once(tmp_path: Path, pieces: int, first: int) -> None:
    uid, data = plain_slice(1, rows=200, columns=300)
    slow, fast = tmp_path / "slow", tmp_path / "fast"
    parts = cut(data, pieces)
    with opened_line(slow) as plain:
        beginning = plain.begin(uid, parts[:first])
        for part in parts[first:-1]:
            assert beginning.add([part])
        assert plain.line.offer(uid, uid, SENDER, parts, beginning)
        (stored,) = plain.wait_for([uid])
        assert stored.error is None
        assert stored.location is not None
        assert min(stored.digest, stored.compress) > 0
        assert plain.line.status().records == 1
    with opened_line(fast) as plain:
        other = plain.store((uid, data)).location
        assert other is not None
        assert (other.offset, other.size) == (stored.location.offset, stored.location.size)
    assert read(slow) == read(fast) == {uid: data}


def test_several_one_after_the_other_with_others_between(tmp_path: Path) -> None:
    slices = dict(plain_slice(number, rows=100) for number in range(24))
    uids = list(slices)
    with opened_line(tmp_path, makers=1) as plain:
        for one, other in zip(uids[::2], uids[1::2], strict=True):
            parts = cut(slices[one], 4)
            beginning = plain.begin(one, parts[:1])
            assert plain.line.begin(other, SENDER, parts[:1]) is None  # one at a time
            assert plain.offer(other, slices[other])
            assert beginning.add(parts[1:3])
            assert plain.line.offer(one, one, SENDER, parts, beginning)
        assert all(stored.error is None for stored in plain.wait_for(uids))
    assert read(tmp_path) == slices


def test_whatever_is_dropped_leaves_nothing(tmp_path: Path) -> None:
    slices = dict(plain_slice(number, rows=100) for number in range(8))
    with opened_line(tmp_path) as plain:
        for number, (uid, data) in enumerate(slices.items()):
            parts = cut(data, 4)
            beginning = plain.begin(uid, parts[:1])
            if number % 2:
                assert beginning.add(parts[1:2])
            beginning.drop()
            assert not beginning.add(parts[2:])
            beginning.drop()
            plain.until(lambda: is_idle(plain.line))
        assert plain.landed == {}
        assert plain.line.status().records == 0
        plain.store(plain_slice(99))
    assert read(tmp_path) == dict([plain_slice(99)])


def test_one_that_is_over_takes_no_pieces_of_the_next(tmp_path: Path) -> None:
    (one, first), (other, second) = plain_slice(1, rows=100), plain_slice(2, rows=100)
    with opened_line(tmp_path) as plain:
        plain.begin(one, cut(first, 3)[:1]).drop()
        plain.until(lambda: is_idle(plain.line))
        gone = plain.line._last
        parts = cut(second, 3)
        beginning = plain.begin(other, parts[:1])
        assert not plain.line._native.more(gone, cut(first, 3)[1:2])
        plain.line._native.drop(gone)
        assert beginning.add(parts[1:2])
        assert plain.line.offer(other, other, SENDER, parts, beginning)
        assert plain.wait_for([other])[0].error is None
    assert read(tmp_path) == {other: second}


def test_another_size_than_the_header_tells_is_none(tmp_path: Path) -> None:
    uid, data = plain_slice(1, rows=100)
    with opened_line(tmp_path) as plain:
        beginning = plain.begin(uid, cut(data, 2)[:1])
        assert not beginning.add([data])  # more than there can be
        assert not finish(plain, uid, [*cut(data, 3)[:2]], 1)  # less: not a plain one
        assert not finish(plain, uid, [*cut(data, 3), b"\0\0"], 1)
        plain.until(lambda: is_idle(plain.line))
        assert finish(plain, uid, cut(data, 3), 1)
        assert plain.wait_for([uid])[0].error is None
    assert read(tmp_path) == {uid: data}


def test_a_data_set_whose_beginning_was_dropped_is_offered_as_any_other(tmp_path: Path) -> None:
    uid, data = plain_slice(1, rows=100)
    with opened_line(tmp_path) as plain:
        parts = cut(data, 3)
        beginning = plain.begin(uid, parts[:1])
        beginning.drop()
        assert plain.line.offer(uid, uid, SENDER, parts, beginning)
        assert plain.wait_for([uid])[0].error is None
        plain.until(lambda: is_idle(plain.line))
        assert plain.line.status().records == 1


@pytest.mark.parametrize(
    ("uid", "data"),
    [
        ("1.2.3.1", header("1.2.3.1", rows=10, columns=10)),
        ("1.2.3.1", plain_slice(1)[1][:60]),
        ("1.2.3.2", plain_slice(1)[1][:1000]),
        ("1.2.3.1", header("1.2.3.1", rows=1024, columns=1024) + element(0x7FE00010, "OW", b"", length=2 * 1024**2)),
        ("1.2.3.1", plain_slice(1)[1] + b"\0\0"),
    ],
    ids=["no pixels", "a piece of a header", "another UID", "too large", "more than there should be"],
)
def test_what_is_not_begun(tmp_path: Path, uid: str, data: bytes) -> None:
    with opened_line(tmp_path) as plain:
        plain.begin("1.2.3.5", [plain_slice(5)[1][:1000]]).drop()  # it has time
        plain.until(lambda: is_idle(plain.line))
        for _ in range(20):
            assert plain.line.begin(uid, SENDER, [data]) is None
            plain.line._native.wait(0.001)
        assert is_idle(plain.line)


def test_one_in_more_pieces_than_are_counted_is_offered_as_any_other(tmp_path: Path) -> None:
    uid, data = plain_slice(1, rows=100)
    parts = [data[:1000], *cut(data[1000:], 1000)]
    with opened_line(tmp_path) as plain:
        beginning = plain.begin(uid, parts[:1])
        assert beginning.add(parts[1:500])
        assert not beginning.add(parts[500:-1])
        assert plain.line.offer(uid, uid, SENDER, parts, beginning)
        assert plain.wait_for([uid])[0].error is None
        plain.until(lambda: is_idle(plain.line))
    assert read(tmp_path) == {uid: data}


def test_a_line_is_closed_while_one_arrives(tmp_path: Path) -> None:
    (one, first), (other, second) = plain_slice(1, rows=100), plain_slice(2, rows=100)
    with opened_line(tmp_path) as plain:
        plain.begin(one, cut(first, 2)[:1])
        assert plain.offer(other, second)
    assert list(plain.landed) == [other]
    assert is_idle(plain.line)
    assert read(tmp_path) == {other: second}


def test_a_line_is_closed_when_one_has_come(tmp_path: Path) -> None:
    uid, data = plain_slice(1, rows=400, columns=500)
    with opened_line(tmp_path) as plain:
        assert finish(plain, uid, cut(data, 3), 1)
    assert plain.landed[uid].error is None
    assert read(tmp_path) == {uid: data}


def test_S2_a_disk_that_fails_is_told(tmp_path: Path) -> None:
    disk = FaultyDisk(fail_sync=1)
    (one, first), (other, second) = plain_slice(1, rows=100), plain_slice(2, rows=100)
    with opened_line(tmp_path, disk=disk) as plain:
        assert finish(plain, one, cut(first, 3), 1)
        assert plain.wait_for([one])[0].error is not None
        plain.until(lambda: finish(plain, other, cut(second, 3), 2))
        assert plain.wait_for([other])[0].error is None
    assert read(tmp_path) == {other: second}


def test_pieces_may_come_while_a_thread_is_at_it(tmp_path: Path) -> None:
    """Any order of what the thread and whoever receives do comes to the same."""
    slices = dict(plain_slice(number, rows=500, columns=500) for number in range(12))
    with opened_line(tmp_path, makers=1) as plain:
        for number, (uid, data) in enumerate(slices.items()):
            parts = cut(data, 40)
            beginning = plain.begin(uid, parts[:20])
            for at in range(20, 39):
                if number % 3 == 0:
                    threading.Event().wait(0.0002)
                assert beginning.add(parts[at : at + 1])
            assert plain.line.offer(uid, uid, SENDER, parts, beginning)
        assert all(stored.error is None for stored in plain.wait_for(list(slices)))
    assert read(tmp_path) == slices
