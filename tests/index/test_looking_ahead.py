"""UIDs looked up ahead of what was read of the log: the same answers as by reading it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.dicom.rejection import KEY_OBJECT_SELECTION
from fastarchive.index.current import Index, NotNow
from fastarchive.index.writer import IndexWriter
from fastarchive.store.appends import OwnPacks
from fastarchive.store.follow import Follower
from fastarchive.store.log import Log
from fastarchive.store.pack import list_packs, pack_path
from fastarchive.store.record import Record
from tests.folders import temporary_folder
from tests.index.archives import Entry, Expected, append, random_records, record_of
from tests.index.effort import effort
from tests.server.harness import eventually


@settings(max_examples=effort(12, 300), deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(random_records(), max_size=6), st.sampled_from(["write", "view", "renew", "length", ""])),
        max_size=6,
    )
)
def test_whatever_comes_is_located_as_in_the_model(steps: list[tuple[list[Record], str]]) -> None:
    with temporary_folder() as directory:
        own = OwnPacks()
        writer = IndexWriter(directory, commit_seconds=1e9)
        reader = Index(directory, own=own, renewed_apart=True)
        with Log(directory, sync=False, own=own) as one, Log(directory, sync=False) as other:
            entries: list[Entry] = append(one, [record_of("9.1")]) + append(other, [record_of("9.2")])
            eventually("the folder of packs is at rest", lambda: _is_prompt(reader))
            for turn, (records, action) in enumerate(steps):
                entries += append(one if turn % 2 else other, records)
                expected = Expected(entries)
                if action == "write":
                    writer.step()
                    writer.commit()
                elif action == "view":
                    expected.check_view(reader.view())
                elif action == "renew":
                    reader.renew()
                elif action == "length":
                    assert reader.tail_length() <= len(entries)
                for instance in {"9.9", "9.1", *(each.sop_instance for _, each in entries if each.sop_instance)}:
                    known = expected.winners.get(instance)
                    location = known and known[0]
                    try:
                        entry = reader.locate_promptly(instance)
                    except NotNow:
                        pass
                    else:
                        assert (entry and entry.location) == location
                    entry = reader.locate(instance)
                    assert (entry and entry.location) == location
            expected = Expected(entries)
            expected.check_view(reader.view())
        writer.close()
        reader.close()


def _is_prompt(reader: Index) -> bool:
    """Whether the folder of packs has been left alone for long enough."""
    reader.locate("9.9")
    return reader._follower.lacks("9.9") or not reader._follower._scout


def test_packs_come_and_are_sealed_without_anything_having_to_be_read() -> None:
    """What is asked for right after a pack was created or sealed is looked up as at any other time."""
    with temporary_folder() as directory, Log(directory, sync=False, seal_size=8192) as log:
        append(log, [record_of("3.0")])
        with Follower(directory, own=OwnPacks(), noted=KEY_OBJECT_SELECTION) as follower:
            if follower._scout is None:
                return
            for number in range(1, 60):
                assert follower.lacks(f"3.{number}")
                append(log, [record_of(f"3.{number}")])
                assert not follower.lacks(f"3.{number}")
                assert follower.lacks("9.9")
            assert follower.unread() == 60
            assert len(list_packs(directory)) > 3
            assert len(follower.poll(1000)) == 60
            assert follower.lacks("3.0")  # it was read
            assert follower.unread() == 0


def test_a_pack_that_goes_has_the_rest_looked_at_again() -> None:
    with temporary_folder() as directory, Log(directory, sync=False, seal_size=8192) as log:
        entries = append(log, [record_of(f"3.{number}") for number in range(60)])
        with Follower(directory, own=OwnPacks(), noted=KEY_OBJECT_SELECTION) as follower:
            if follower._scout is None:
                return
            assert follower.lacks("9.9")
            first = list_packs(directory)[0]
            pack_path(directory, first).unlink()
            assert follower.lacks("9.9")
            gone = [record.sop_instance for location, record in entries if location.pack == first]
            assert gone
            assert all(follower.lacks(instance) for instance in gone if instance)
            assert not follower.lacks("3.59")


def test_the_length_of_the_tail_counts_what_was_not_read() -> None:
    with temporary_folder() as directory, Log(directory, sync=False) as log:
        append(log, [record_of("3.0")])
        reader = Index(directory, renewed_apart=True)
        eventually("the folder of packs is at rest", lambda: _is_prompt(reader))
        for number in range(1, 40):
            append(log, [record_of(f"3.{number}")])
            if number == 20:
                writer = IndexWriter(directory)
                writer.finish()
                writer.close()
                assert reader.renew()
        assert reader.tail_length() == 19
        assert reader.view().tail_length == 19
        reader.close()
