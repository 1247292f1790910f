"""Writer and view together: whatever the order of records, batches and commits, the answers are those of the model."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.dicom.attributes import Level
from fastarchive.index import documents, overlay, schema
from fastarchive.index.conditions import Everything
from fastarchive.index.current import Index
from fastarchive.index.documents import Order
from fastarchive.index.schema import key_term
from fastarchive.index.writer import IndexBusy, IndexWriter
from fastarchive.store.log import Log
from fastarchive.store.pack import create_pack
from fastarchive.store.record import Record, deletion
from tests.folders import temporary_folder
from tests.index.archives import Entry, Expected, append, random_records, record_of
from tests.index.effort import effort
from tests.server.harness import eventually


@settings(max_examples=effort(15, 300), deadline=None)
@given(st.lists(st.tuples(st.lists(random_records(), max_size=8), st.sampled_from("wwvlr"), st.booleans()), max_size=5))
def test_any_records_in_any_batches_give_the_documents_of_the_model(
    steps: list[tuple[list[Record], str, bool]],
) -> None:
    with temporary_folder() as directory:
        entries: list[Entry] = []
        writer = IndexWriter(directory, commit_seconds=1e9)
        reader = Index(directory)
        apart = Index(directory, renewed_apart=True)
        with Log(directory, sync=False) as one, Log(directory, sync=False) as other:
            for records, action, first in steps:
                entries += append(one if first else other, records)
                expected = Expected(entries)
                if action == "w":
                    writer.step()
                    if len(records) % 2:
                        writer.commit()
                elif action == "v":
                    expected.check_view(reader.view())
                    expected.check_view(apart.view())
                elif action == "r":
                    apart.renew()
                for instance in {record.sop_instance for record in records if record.sop_instance}:
                    known = expected.winners.get(instance)
                    for each in (reader, apart):
                        entry = each.locate(instance)
                        assert (entry and entry.location) == (known and known[0])
        expected = Expected(entries)
        expected.check_view(reader.view())
        expected.check_view(apart.view())
        while writer.step():
            pass
        writer.commit()
        expected.check_view(reader.view())
        expected.check_view(apart.view())
        apart.renew()
        expected.check_view(apart.view())
        assert apart.tail_length() == 0
        assert not apart.renew()
        fresh = Index(directory)
        expected.check_view(fresh.view())
        assert fresh.view().tail_length == 0
        rowids = [one.rowid for level in Level for page in fresh.view().pages(level, Everything()) for one in page]
        assert len(set(rowids)) == len(rowids)
        assert 0 not in rowids
        for open_one in (writer, reader, apart, fresh):
            open_one.close()


def renewed(reader: Index) -> Index:
    """The reader after what a thread does where it is renewed apart."""
    if reader.renewed_apart:
        reader.renew()
    return reader


def _written(directory: Path) -> None:
    writer = IndexWriter(directory)
    while writer.step():
        pass
    writer.commit()
    writer.close()


def _answers(directory: Path) -> dict[Level, dict[str, tuple[object, ...]]]:
    reader = Index(directory)
    view = reader.view()
    assert view.tail_length == 0
    answers = {
        level: {one.key: one.state() for page in view.pages(level, Everything()) for one in page} for level in Level
    }
    reader.close()
    return answers


def _some(count: int) -> list[Record]:
    return [
        record_of(
            f"3.{number}",
            f"2.{number // 10}",
            f"1.{number // 20}",
            f"P{number // 40}",
            received=number,
            t00100010=f"NAME^{number // 40}",
            t00200013=str(number),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("damage", ["missing", "emptied", "garbage", "truncated", "other schema", "ahead"])
def test_an_unusable_index_is_built_anew(tmp_path: Path, damage: str) -> None:
    with Log(tmp_path, sync=False) as log:
        entries = append(log, _some(100))
    _written(tmp_path)
    expected = _answers(tmp_path)
    index = tmp_path / "index"
    files = sorted(path for path in index.iterdir() if path.is_file())
    if damage in {"missing", "emptied"}:
        for path in files:
            path.unlink()
        for path in index.iterdir():
            path.unlink()
        if damage == "missing":
            index.rmdir()
    elif damage == "garbage":
        (index / "meta.json").write_text("{}")
    elif damage == "truncated":
        eventually("the files are mapped no longer", lambda: str(index) not in Path("/proc/self/maps").read_text())
        for path in files:
            if path.suffix == ".store":
                path.write_bytes(path.read_bytes()[:20])
    elif damage == "other schema":
        text = (index / "meta.json").read_text()
        (index / "meta.json").write_text(text.replace('"exact"', '"other"'))
    else:
        for pack in (tmp_path / "packs").glob("*.pack"):
            pack.unlink()
        with Log(tmp_path, sync=False) as log:
            append(log, [record for _, record in entries])
    _written(tmp_path)
    answers = _answers(tmp_path)
    assert {level: answers[level].keys() for level in Level} == {level: expected[level].keys() for level in Level}
    if damage != "ahead":
        assert answers == expected


def test_an_index_of_an_earlier_schema_is_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Log(tmp_path, sync=False) as log:
        entries = append(log, [record_of("3.1", patient_id="", t00100010="SMITH^A"), *_some(50)[1:]])
    with monkeypatch.context() as earlier:  # as before studies kept what they say of their patients
        earlier.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION - 1)
        kept = documents.absorb

        def only_the_id(document: documents.Document, said: Mapping[int, bytes], order: Order) -> bool:
            return kept(document, {tag: said[tag] for tag in said if tag == 0x00100020}, order)

        earlier.setattr(documents, "absorb", only_the_id)
        _written(tmp_path)
    reader = Index(tmp_path)
    assert reader.view().tail_length == len(entries)
    Expected(entries).check_view(reader.view())  # from the log meanwhile
    _written(tmp_path)
    deadline = time.monotonic() + 60
    while reader.view().tail_length:  # it looks for a usable index now and then
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
    Expected(entries).check_view(reader.view())
    reader.close()


def test_rebuilding_gives_the_same_answers_though_batches_differ(tmp_path: Path) -> None:
    with Log(tmp_path, sync=False) as log:
        append(log, _some(60))
        _written(tmp_path)
        append(log, [deletion(1000, "1.0", "2.0"), *_some(120)[60:], record_of("3.70", received=5, study="1.9")])
        _written(tmp_path)
        first = _answers(tmp_path)
        for path in (tmp_path / "index").iterdir():
            path.unlink()
        _written(tmp_path)
        assert _answers(tmp_path) == first


@pytest.mark.parametrize("stored_again", [False, True])
def test_an_instance_that_changes_after_it_was_handed_over_is_in_the_commit_once(
    tmp_path: Path, stored_again: bool
) -> None:
    with Log(tmp_path, sync=False) as log, closing(IndexWriter(tmp_path, commit_seconds=1e9)) as writer:
        entries = append(log, _some(20))
        writer.step()
        known = entries[7][1]
        entries += append(log, [deletion(2**62, known.study, known.series, known.sop_instance)])
        writer.step()
        if stored_again:
            entries += append(log, [record_of(known.sop_instance, received=2**62 + 1)])
            writer.step()
        writer.commit()
        assert len(writer.snapshot.with_term(key_term(Level.IMAGE, known.sop_instance))) == stored_again
    with closing(Index(tmp_path)) as reader:
        assert reader.tail_length() == 0
        Expected(entries).check_view(reader.view())


def test_a_few_entities_at_hand_give_the_same_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 7
    monkeypatch.setattr(overlay, "_MOST_CACHED", most)
    records = [record for first in range(30) for record in _some(240)[first::30]]  # of all series in turn
    with Log(tmp_path, sync=False) as log, closing(IndexWriter(tmp_path, commit_seconds=1e9)) as writer:
        entries: list[Entry] = []
        for start in range(0, len(records), 12):
            entries += append(log, records[start : start + 12])
            writer.step()
            writer.commit()
            assert len(writer._ledger.overlay.entities) <= most
    with closing(Index(tmp_path)) as reader:
        Expected(entries).check_view(reader.view())


def test_a_writer_that_is_stopped_has_committed_everything_durable(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with Log(tmp_path, sync=False) as log:
        append(log, _some(2100))  # more than it takes in at a time
        writer = IndexWriter(tmp_path)
        writer.run(stop)
        writer.close()
    reader = Index(tmp_path)
    assert reader.tail_length() == 0
    assert reader.view().counts()[Level.IMAGE] == 2100
    reader.close()


def test_a_writer_tells_whether_it_keeps_up(tmp_path: Path) -> None:
    told: list[bool] = []
    stop = threading.Event()

    def keeping_up(everything: bool) -> None:
        told.append(everything)
        if everything:
            stop.set()

    with Log(tmp_path, sync=False) as log, closing(IndexWriter(tmp_path)) as writer:
        append(log, _some(2100))  # more than it takes in at a time
        writer.run(stop, keeping_up=keeping_up)
    assert told == [False, True]


@pytest.mark.parametrize("apart", [False, True])
def test_a_reader_takes_the_next_commit_though_an_empty_pack_is_gone(tmp_path: Path, apart: bool) -> None:
    reader = Index(tmp_path, renewed_apart=apart)
    writer = IndexWriter(tmp_path, commit_seconds=0)
    with Log(tmp_path, sync=False) as log:
        append(log, _some(1))
        empty = create_pack(tmp_path, 0)  # as a process leaves it that dies before its first record
        writer.step()
        assert renewed(reader).tail_length() == 0
        os.close(empty.fd)
        empty.path.unlink()
        append(log, _some(3)[1:])
        writer.step()
        writer.step()
        assert renewed(reader).tail_length() == 0
        assert reader.view().counts()[Level.IMAGE] == 3
    writer.close()
    reader.close()


@pytest.mark.parametrize(("records", "more", "within"), [(3, 1, (2.0, 2.3)), (3100, 1, (1.0, 1.1)), (3, 0, (0.4, 0.6))])
def test_few_records_wait_until_a_commit_is_affordable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: int, more: int, within: tuple[float, float]
) -> None:
    now = 0.0
    clock = SimpleNamespace(monotonic=lambda: now, process_time=lambda: 0.0)
    monkeypatch.setattr("fastarchive.index.writer.time", clock)
    with Log(tmp_path, sync=False) as log, closing(IndexWriter(tmp_path, commit_seconds=1.0)) as writer:
        append(log, _some(1))
        writer.step()
        works = iter((0.0, 0.02))  # before and after
        clock.process_time = lambda: next(works)
        writer.commit()
        clock.process_time = lambda: 0.0
        some = iter(_some(4000)[1:])
        append(log, list(islice(some, records)))
        while writer.step():
            pass
        while writer.waiting:
            now += 0.1
            append(log, list(islice(some, more)))
            writer.step()
    assert within[0] <= now <= within[1]


def test_only_one_writer(tmp_path: Path) -> None:
    writer = IndexWriter(tmp_path)
    with pytest.raises(IndexBusy):
        IndexWriter(tmp_path)
    writer.close()
    IndexWriter(tmp_path).close()


@pytest.mark.parametrize("apart", [False, True])
def test_a_reader_keeps_what_it_has_while_the_index_is_built_anew(tmp_path: Path, apart: bool) -> None:
    with Log(tmp_path, sync=False) as log:
        append(log, _some(100))
        _written(tmp_path)
        reader = Index(tmp_path, renewed_apart=apart)
        assert reader.view().tail_length == 0
        for path in (tmp_path / "index").iterdir():
            path.unlink()
        writer = IndexWriter(tmp_path, commit_seconds=1e9)
        assert renewed(reader).view().tail_length == 0
        assert reader.view().counts()[Level.IMAGE] == 100
        append(log, [record_of("3.500", received=1)])
        assert reader.view().get(Level.IMAGE, "3.500") is not None
        while writer.step():
            pass
        writer.commit()
        assert renewed(reader).view().tail_length == 0
        assert reader.view().counts()[Level.IMAGE] == 101
        writer.close()
        reader.close()


def test_views_don_t_change(tmp_path: Path) -> None:
    with Log(tmp_path, sync=False) as log:
        reader = Index(tmp_path)
        append(log, _some(30))
        early = reader.view()
        entries = {level: {one.key: one.state() for one in early.tail_documents(level)} for level in Level}
        append(log, _some(60)[30:])
        _written(tmp_path)
        late = reader.view()
        assert early.counts()[Level.IMAGE] == 30
        assert late.counts()[Level.IMAGE] == 60
        assert {level: {one.key: one.state() for one in early.tail_documents(level)} for level in Level} == entries
        assert late.tail_documents(Level.IMAGE) == []
        reader.close()


def test_pages_go_on_while_commits_and_merges_do(tmp_path: Path) -> None:
    with Log(tmp_path, sync=False) as log:
        append(log, _some(300))
        _written(tmp_path)
        reader = Index(tmp_path)
        pages = reader.view().pages(Level.IMAGE, Everything(), first_page=10, page_size=20)
        seen = [one.key for one in next(pages)]
        assert len(seen) == 10
        writer = IndexWriter(tmp_path, commit_seconds=0)
        for number in range(12):
            append(log, [record_of(f"4.{number}", f"2.{number}", received=number)])
            writer.step()
            seen += [one.key for one in next(pages)]
        seen += [one.key for page in pages for one in page]
        assert seen == [f"3.{number}" for number in range(300)]
        writer.close()
        reader.close()


def test_one_series_uid_in_two_studies_is_two_series(tmp_path: Path) -> None:
    with Log(tmp_path, sync=False) as log:
        append(log, [record_of("3.1", study="1.1"), record_of("3.2", study="1.2")])
        for _ in range(2):
            reader = Index(tmp_path)
            view = reader.view()
            assert {one.study for one in view.get_many(Level.SERIES, ["2.1"])} == {"1.1", "1.2"}
            assert view.counts()[Level.SERIES] == 2
            reader.close()
            _written(tmp_path)
