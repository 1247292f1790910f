"""Compaction in the background: due when the last one is old, as the settings say."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from pydantic import ByteSize

from fastarchive.archive import Archive
from fastarchive.server import compacting
from fastarchive.settings import Settings
from fastarchive.store.compacted import COMPACTED, read_compacted
from fastarchive.store.pack import list_packs
from fastarchive.upkeep.compaction import CompactionReport
from tests.server.harness import eventually
from tests.upkeep.filled import holds, make
from tests.upkeep.test_compaction import delete_study


def test_what_is_due_is_compacted_beside_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "LOOK_SECONDS", 0.01)
    data = make(tmp_path / "data", range(20))
    delete_study(data, 0)
    before = time.time() - 2 * 86_400
    (data / COMPACTED).write_text(json.dumps({"completed": before}))
    stop = threading.Event()
    with Archive.open(data) as archive:
        compacting.keep_compacted(Settings(data=data, compact_rate=ByteSize(2**30)), stop)
        eventually("a compaction", lambda: read_compacted(data).completed > before)
        stop.set()
        assert read_compacted(data).moved_records == 11  # the deletion moves with them
        holds(archive, range(10, 20))
    assert len(list_packs(data)) == 1


def test_a_new_archive_is_not_compacted_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "LOOK_SECONDS", 0.001)
    data = make(tmp_path / "data", range(2))
    looks: list[Path] = []

    def look(directory: Path) -> object:
        looks.append(directory)
        return read_compacted(directory)

    monkeypatch.setattr(compacting, "read_compacted", look)
    monkeypatch.setattr(compacting, "compaction_of", lambda *_: pytest.fail("it is not due"))
    stop = threading.Event()
    compacting.keep_compacted(Settings(data=data), stop)
    eventually("some looks", lambda: len(looks) > 3)
    stop.set()
    assert read_compacted(data).begun > 0
    assert not read_compacted(data).completed


def test_what_was_done_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        compacting.log_report(CompactionReport(removed=[1, 2], written=[3], left={4: "it is in use"}))
    assert [record.message for record in caplog.records] == ["a pack was left as it is", "compacted"]
