"""Rows read straight from document stores are those Tantivy reads; damaged stores do no harm."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import tantivy
from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.index import paging, schema, stored
from fastarchive.index.stored import Stores, rows
from fastarchive.native.loading import libraries
from fastarchive.native.stored import StoredRows
from tests.index.effort import effort

LIBRARIES = libraries()


def _row(chance: random.Random) -> bytes:
    size = chance.choice([0, 1, 30, 600, 600, 600, 20_000])
    return chance.choice([chance.randbytes(size), b"ab" * size, b"1.2.840." * (size // 8 + 1), bytes(size)])


def _made(folder: Path, segments: list[int], seed: int = 1) -> tuple[tantivy.Searcher, bytes]:
    chance = random.Random(seed)
    folder.mkdir()
    index = tantivy.Index(schema.SCHEMA, path=str(folder))
    schema.register_tokenizers(index)
    writer = index.writer(15_000_000, 1)
    for number, documents in enumerate(segments):
        for document in range(documents):
            writer.add_document(schema.private_document("x", f"{number}.{document}", _row(chance)))
        writer.commit()
    writer.delete_documents_by_term("key", "x0.1")
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    return index.searcher(), (folder / "meta.json").read_bytes()


def _hits(searcher: tantivy.Searcher) -> paging.Hits:
    return paging.first_hits(searcher, schema.term_query("level", "x"), 100_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with a large segment and small ones."""
    path = tmp_path_factory.mktemp("stored") / "index"
    _made(path, [3000, 40, 5])
    return path


def _opened(folder: Path) -> tuple[tantivy.Searcher, bytes]:
    index = tantivy.Index.open(str(folder))
    index.reload()
    return index.searcher(), (folder / "meta.json").read_bytes()


@pytest.mark.parametrize("variant", LIBRARIES)
def test_rows_are_those_of_tantivy(folder: Path, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "stored_rows", StoredRows(LIBRARIES[variant]))
    searcher, meta = _opened(folder)
    stores, hits = Stores(folder, meta), _hits(searcher)
    assert len(hits) == 3044
    assert stores.rows(searcher, hits) == rows(searcher, hits)
    chance = random.Random(5)
    for many in (1, 3, 4, 25, 500):
        some = sorted(chance.sample(hits, many), key=lambda hit: (hit.segment_ord, hit.doc))
        assert stores.rows(searcher, some) == rows(searcher, some)


def test_no_descriptor_is_kept(folder: Path) -> None:
    searcher, meta = _opened(folder)
    stores = Stores(folder, meta)
    assert stores.rows(searcher, _hits(searcher))
    held = [path for path in Path("/proc/self/fd").iterdir() if path.exists() and folder in path.resolve().parents]
    assert held == []


def test_tantivy_is_asked_for_nothing_but_the_first_row_of_a_segment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher, meta = _opened(folder)
    stores, hits = Stores(folder, meta), _hits(searcher)
    asked: list[int] = []

    def counted(searcher: tantivy.Searcher, addresses: paging.Hits) -> list[bytes]:
        asked.append(len(addresses))
        return rows(searcher, addresses)

    monkeypatch.setattr(stored, "rows", counted)
    stores.rows(searcher, hits)
    assert asked == [1] * searcher.num_segments
    Stores(folder, meta, stores).rows(searcher, hits)
    assert asked == [1] * (2 * searcher.num_segments)


def test_tantivy_reads_what_is_not_there_or_in_another_order(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher, meta = _opened(folder)
    hits = _hits(searcher)
    expected = rows(searcher, hits)
    assert Stores(tmp_path, meta).rows(searcher, hits) == expected
    backwards = Stores(folder, meta)
    backwards._names.reverse()
    assert backwards.rows(searcher, hits) == expected
    monkeypatch.setattr(stored, "_FORMAT", 6)
    assert Stores(folder, meta).rows(searcher, hits) == expected
    monkeypatch.setattr(stored, "stored_rows", None)
    assert Stores(folder, meta).rows(searcher, hits) == expected


@pytest.mark.parametrize("variant", LIBRARIES)
@settings(max_examples=effort(150, 20_000), deadline=None)
@given(data=st.data())
def test_damaged_stores(folder: Path, variant: str, data: st.DataObject) -> None:
    read = StoredRows(LIBRARIES[variant])
    path = data.draw(st.sampled_from(sorted(folder.glob("*.store"))))
    whole = np.fromfile(path, np.uint8)
    size = len(whole) - 8 - int.from_bytes(whole[-8:-4].tobytes(), "little")
    store = whole[:size].copy()
    numbers = sorted(data.draw(st.sets(st.integers(0, 3100), min_size=1, max_size=20)))
    before = read(store.__array_interface__["data"][0], size, numbers)
    index = int.from_bytes(store[size - 24 : size - 16].tobytes(), "little")
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.one_of(st.integers(0, size - 1), st.integers(index, size - 1), st.integers(0, 300)))
        store[min(place, size - 1)] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(0), st.integers(0, min(size, 200))))
    store = store[: size - cut].copy()  # nothing behind it that could be read unnoticed
    found = read(store.__array_interface__["data"][0], size - cut, numbers)
    assert len(found) <= len(numbers)
    assert all(len(row) <= 1 << 20 for row in found)
    assert len(before) <= len(numbers)
