"""Following: every durable record of every process once, cheaply, from wherever one left off."""

import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastarchive.dicom.rejection import KEY_OBJECT_SELECTION
from fastarchive.native.loading import libraries
from fastarchive.native.scout import Scout
from fastarchive.store.appends import OwnPacks
from fastarchive.store.encoding import EncodedRecord
from fastarchive.store.follow import Follower, Positions
from fastarchive.store.log import Log
from fastarchive.store.pack import list_packs, pack_path
from fastarchive.store.record import Location, deletion
from tests.store.making import encoded, in_child

_POSITIONS = st.builds(
    Positions, st.dictionaries(st.integers(0, 2**63), st.integers(0, 2**63), max_size=8), st.integers(0, 2**63)
)


@given(_POSITIONS)
def test_positions_come_back_as_they_were(positions: Positions) -> None:
    decoded = Positions.decode(positions.encode())
    assert decoded == positions
    assert hash(decoded) == hash(positions)
    assert decoded.covers_all(positions)


@pytest.mark.parametrize("data", [b"", b"\2" + bytes(12), Positions({5: 6}).encode()[:-1], Positions().encode() + b"x"])
def test_bytes_that_are_no_positions_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="positions"):
        Positions.decode(data)


def test_positions_cover_what_was_read() -> None:
    positions = Positions({5: 100, 9: 50}, horizon=5)
    assert dict(positions) == {9: 50}
    assert positions.covers(Location(3, 4096, 1000))
    assert positions.covers(Location(5, 4096, 1000))
    assert positions.covers(Location(9, 40, 10))
    assert not positions.covers(Location(9, 40, 11))
    assert not positions.covers(Location(7, 1, 1))
    assert positions.covers_all(Positions({4: 9, 9: 50}))
    assert not positions.covers_all(Positions({9: 51}))
    assert not positions.covers_all(Positions(horizon=6))


def _until_settled(follower: Follower) -> Positions:
    """Poll until the directory's time stamp is old enough for the horizon to rise."""
    deadline = time.monotonic() + 10
    while len(follower.positions) and time.monotonic() < deadline:
        assert follower.poll(10) == []
        time.sleep(0.005)
    return follower.positions


def test_nothing_to_follow(tmp_path: Path) -> None:
    with Follower(tmp_path / "absent") as follower:
        assert follower.poll(10) == []
        assert follower.positions == Positions()


def test_each_record_comes_once_and_in_order(tmp_path: Path) -> None:
    with Log(tmp_path) as log, Follower(tmp_path) as follower:
        locations = [future.result(10) for future in log.append_batch([encoded(number) for number in range(10)])]
        assert [found for found, _ in follower.poll(4)] == locations[:4]
        assert follower.positions == Positions({locations[0].pack: locations[3].end})
        assert [found for found, _ in follower.poll(100)] == locations[4:]
        assert follower.poll(100) == []
        one = log.append(encoded(10)).result(10)
        assert [(found, record.sop_instance) for found, record in follower.poll(100)] == [(one, "1.2.3.10")]


def test_following_goes_on_from_positions(tmp_path: Path) -> None:
    with Log(tmp_path, seal_size=8000) as log:
        locations = [log.append(encoded(number, os.urandom(1500))).result(10) for number in range(12)]
        assert len(list_packs(tmp_path)) > 3
        for step in (1, 5):
            positions = Positions()
            found: list[Location] = []
            while True:
                with Follower(tmp_path, Positions.decode(positions.encode())) as follower:
                    some = follower.poll(step)
                    positions = follower.positions
                if not some:
                    break
                found += [location for location, _ in some]
                assert all(positions.covers(location) for location in found)
            assert found == locations


def test_packs_read_to_their_end_fall_together(tmp_path: Path) -> None:
    with Follower(tmp_path) as follower:
        with Log(tmp_path, seal_size=6000) as log:
            for number in range(8):
                log.append(encoded(number, os.urandom(1500))).result(10)
            assert len(follower.poll(100)) == 8
        assert follower.poll(100) == []
        positions = _until_settled(follower)
        assert positions == Positions(horizon=list_packs(tmp_path)[-1])
        with Log(tmp_path) as log:
            location = log.append(encoded(9)).result(10)
            assert [found for found, _ in follower.poll(100)] == [location]
        with Follower(tmp_path, positions) as other:
            assert [found for found, _ in other.poll(100)] == [location]


def test_damaged_metadata_is_passed_over_and_named(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        locations = [future.result(10) for future in log.append_batch([encoded(number) for number in range(4)])]
        path = pack_path(tmp_path, locations[0].pack)
        with path.open("r+b") as file:
            for location in locations[1:3]:
                file.seek(location.offset + 60)
                file.write(b"\xff\xff")
        for _ in ("open", "sealed"):
            with Follower(tmp_path) as follower:
                assert [found for found, _ in follower.poll(10)] == [locations[0], locations[3]]
                named = {offset for damage in follower.damaged for offset in (damage.start, damage.end)}
                assert {locations[1].offset, locations[3].offset} <= named
            log.close()


def test_a_pack_that_vanishes_counts_as_read(tmp_path: Path) -> None:
    with Log(tmp_path) as log, Follower(tmp_path) as follower:
        location = log.append(encoded()).result(10)
        assert len(follower.poll(10)) == 1
        pack_path(tmp_path, location.pack).unlink()
        assert follower.poll(10) == []
        assert follower.positions == Positions({location.pack: location.end})


def test_what_vanishes_between_look_and_read_is_found_where_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Log(tmp_path) as log:
        old = log.append(encoded()).result(10)

    def look(directory: Path, after: int = -1) -> list[int]:
        packs = list_packs(directory, after)
        if packs == [old.pack]:  # the moment after the look
            with Log(tmp_path) as log:
                log.append(encoded(1)).result(10)
            pack_path(tmp_path, old.pack).unlink()
        return packs

    monkeypatch.setattr("fastarchive.store.follow.list_packs", look)
    with Follower(tmp_path) as follower:
        (found,) = follower.poll(10)
        assert found[1].sop_instance == encoded(1).record.sop_instance


def test_metadata_that_is_damaged_is_read_from_the_mirror(tmp_path: Path) -> None:
    main, mirror = tmp_path / "main", tmp_path / "mirror"
    mirror.mkdir()
    with Log(main, mirror=mirror) as log:
        locations = [future.result(10) for future in log.append_batch([encoded(number) for number in range(4)])]
    with pack_path(main, locations[0].pack).open("r+b") as file:
        for location in locations[1:3]:
            file.seek(location.offset + 60)
            file.write(b"\xff\xff")
    with Follower(main, mirror=mirror) as follower:
        assert [found for found, _ in follower.poll(10)] == locations
        assert not follower.damaged
    with pack_path(main, locations[0].pack).open("r+b") as file:
        file.write(b"\xff\xff")
    with Follower(main, mirror=mirror) as follower:
        assert [found for found, _ in follower.poll(10)] == locations
        assert not follower.unreadable


@pytest.mark.parametrize("variant", libraries())
def test_what_was_not_read_yet_is_known_by_its_uid(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastarchive.store.follow.scout", partial(Scout, libraries()[variant]))
    own = OwnPacks()
    with (
        Log(tmp_path) as other,
        Log(tmp_path, own=own) as log,
        Follower(tmp_path, own=own, noted=KEY_OBJECT_SELECTION) as follower,
    ):
        log.append(encoded(100)).result(10)
        other.append(encoded(200)).result(10)
        assert follower.lacks("9.9")
        assert follower.unread() == 2
        assert len(follower.poll(10)) == 2
        assert follower.unread() == 0
        for number, each in ((1, log), (2, other)):
            location = each.append(encoded(number)).result(10)
            assert follower.lacks("1.2.3.7")
            assert follower.unread() == 1
            assert not follower.lacks(f"1.2.3.{number}")
            assert [found for found, _ in follower.poll(10)] == [location]
            assert follower.lacks(f"1.2.3.{number}")
        for record in (deletion(1, "1.2"), replace(encoded(4).record, sop_class=KEY_OBJECT_SELECTION, blocks=())):
            other.append(EncodedRecord.of(record)).result(10)
            assert not follower.lacks("1.2.3.7")
            assert follower.unread() is None
            assert len(follower.poll(10)) == 1
            assert follower.lacks("1.2.3.7")
        other.append(encoded(3)).result(10)
        other.close()  # which seals its pack
        assert follower.lacks("1.2.3.7")
        assert not follower.lacks("1.2.3.3")
        assert follower.unread() == 1
        with Log(tmp_path) as third:
            third.append(encoded(5)).result(10)
            assert follower.lacks("1.2.3.7")
            assert not follower.lacks("1.2.3.5")
            assert not follower.lacks("1.2.3.3")
            assert len(follower.poll(10)) == 2
            assert follower.lacks("1.2.3.3")


def test_what_is_skipped_is_not_returned(tmp_path: Path) -> None:
    own = OwnPacks()
    with (
        Log(tmp_path, seal_size=30_000) as other,
        Log(tmp_path, own=own) as log,
        Follower(tmp_path) as ahead,
        Follower(tmp_path, own=own, noted=KEY_OBJECT_SELECTION) as follower,
        Follower(tmp_path, noted=KEY_OBJECT_SELECTION) as fresh,
    ):
        for start in range(0, 100, 20):
            locations = []
            for number in range(start, start + 20):
                locations.append(other.append(encoded(number, os.urandom(1500))).result(10))
                locations.append(log.append(encoded(1000 + number)).result(10))
            if start == 40:
                follower.poll(7)
            ahead.poll(30)
            if start == 80:
                deadline = time.monotonic() + 10
                while ahead.poll(1000) or (not ahead.positions.horizon and time.monotonic() < deadline):
                    time.sleep(0.005)
            positions = Positions.decode(ahead.positions.encode())
            follower.skip(positions)
            fresh.skip(positions)
            assert follower.positions.covers_all(positions)
            if start == 60:
                expected = {location for location in locations if not positions.covers(location)}
                for each in (follower, fresh):
                    found = [location for location, _ in each.poll(1000)]
                    assert len(found) == len(set(found))
                    assert expected <= set(found)
                    assert not any(positions.covers(location) for location in found)
        assert positions.horizon
        assert follower.poll(1000) == fresh.poll(1000) == []
        assert dict(follower.positions) == dict(fresh.positions) == dict(positions)


@pytest.mark.parametrize("variant", libraries())
def test_packs_that_are_over_are_let_go_of_though_one_below_them_is_not(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that seldom stores may keep its pack for days; the others fill thousands meanwhile."""
    monkeypatch.setattr("fastarchive.store.follow.scout", partial(Scout, libraries()[variant]))
    with (
        Log(tmp_path) as seldom,
        Follower(tmp_path) as ahead,
        Follower(tmp_path, noted=KEY_OBJECT_SELECTION) as follower,
    ):
        seldom.append(encoded(1)).result(10)
        for number in range(100, 180):
            with Log(tmp_path) as log:
                log.append(encoded(number)).result(10)
                assert follower.lacks("9.9")
            assert ahead.poll(10)
            follower.skip(ahead.positions)
            assert follower.lacks("9.9")
            assert follower.unread() == 0
            assert sum(followed.fd >= 0 for followed in follower._followed.values()) == 1
        assert not ahead.positions.horizon
        assert dict(follower.positions) == dict(ahead.positions)
        seldom.append(encoded(2)).result(10)
        assert not follower.lacks("1.2.3.2")
        assert [record.sop_instance for _, record in follower.poll(10)] == ["1.2.3.2"]
        seldom.close()
        deadline = time.monotonic() + 10
        while follower.poll(10) or (not follower.positions.horizon and time.monotonic() < deadline):
            time.sleep(0.005)
        assert follower.positions.horizon == list_packs(tmp_path)[-1]


def _append(directory: Path, first: int) -> None:
    with Log(directory, seal_size=60_000) as log:
        for start in range(first, first + 1000, 20):
            for future in log.append_batch([encoded(number) for number in range(start, start + 20)]):
                future.result(30)


def test_a_reader_sees_what_two_processes_append(tmp_path: Path) -> None:
    appenders = [in_child(partial(_append, tmp_path, first)) for first in (0, 1000)]
    found: list[str] = []
    locations: list[Location] = []
    with Follower(tmp_path) as follower:
        deadline = time.monotonic() + 60
        while len(found) < 2000 and time.monotonic() < deadline:
            some = follower.poll(100)
            for location, record in some:
                locations.append(location)
                found.append(record.sop_instance)
                assert follower.positions.covers(location)
            if not some:
                time.sleep(0.001)  # leaves the processor to the appenders
        assert follower.damaged == []
    for appender in appenders:
        assert os.waitpid(appender, 0)[1] == 0
    assert sorted(found) == sorted(f"1.2.3.{number}" for number in range(2000))
    assert len(set(locations)) == 2000
    assert len(list_packs(tmp_path)) > 4


def test_polling_keeps_pace(tmp_path: Path) -> None:
    """A floor well below what is reached (100,000 a second on one core), for machines busy with other things."""
    with Log(tmp_path) as log:
        for future in log.append_batch([encoded(number) for number in range(10_000)]):
            future.result(30)
    with Follower(tmp_path) as follower:
        started = time.thread_time()
        assert len(follower.poll(20_000)) == 10_000
        assert time.thread_time() - started < 1
