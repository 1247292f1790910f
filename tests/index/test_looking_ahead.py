"""UIDs looked up ahead of what was read of the log: the same answers as by reading it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.index.current import Index, NotNow
from fastarchive.index.writer import IndexWriter
from fastarchive.store.appends import OwnPacks
from fastarchive.store.log import Log
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
