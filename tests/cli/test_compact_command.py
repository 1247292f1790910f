"""compact on a data folder: its plan, what it gives back, how it ends."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from fastarchive.archive import Archive
from fastarchive.store.pack import list_packs, pack_path
from fastarchive.upkeep.compaction import Compaction, compacting
from tests.cli.running import run, told
from tests.server.instances import sop_instance_uid
from tests.upkeep.filled import holds, make, study_uid


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twenty instances, ten of them deleted."""
    folder = make(tmp_path / "data", range(20))
    told("delete", "study", study_uid(0), "--reason", "test", "--yes", "--data", folder)
    return folder


def test_a_plan_changes_nothing_and_then_comes_true(data: Path) -> None:
    packs = list_packs(data)
    size = sum(pack_path(data, pack).stat().st_size for pack in packs)
    plan = told("compact", "--data", data, "--dry-run")
    assert plan["to_rewrite"] == packs == list_packs(data)
    assert plan["dead_records"] == 10
    assert plan["bytes"] == size
    assert run("compact", "--data", data, "--dry-run").stdout.splitlines()[-1].startswith("2 of 2 packs: ")
    done = told("compact", "--data", data)
    assert done["complete"]
    assert done["removed"] == packs
    assert abs(done["freed_bytes"] - plan["dead_bytes"]) < 5000
    assert size - done["freed_bytes"] == pack_path(data, done["written"][0]).stat().st_size
    assert run("compact", "--data", data).stdout.startswith("nothing to do in 1 packs")
    status = told("status", "--data", data)["archive"]
    assert status["pack_bytes"] == size - done["freed_bytes"]
    assert status["compacted_bytes"] == done["freed_bytes"]
    with Archive.open(data) as archive:
        holds(archive, range(10, 20))


def test_it_says_what_it_won(data: Path) -> None:
    result = run("compact", "--data", data)
    assert result.exit_code == 0, result.output
    assert "2 packs replaced by 1" in result.stdout


def test_damage_ends_with_1(data: Path) -> None:
    with Archive.open(data, read_only=True) as archive:
        where = archive.read(sop_instance_uid(15)).location
    path = pack_path(data, where.pack)
    content = bytearray(path.read_bytes())
    content[where.end - 3] ^= 1
    path.write_bytes(content)
    result = run("compact", "--data", data)
    assert result.exit_code == 1
    assert f"pack {where.pack} was left as it is: offset {where.offset} is damaged" in result.stdout
    assert path.exists()


def test_what_cannot_be_done(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("compact", "--data", tmp_path / "nothing").exit_code == 1
    assert run("compact", "--data", data, "--mirror", tmp_path / "nothing").exit_code == 1
    assert run("compact", "--data", data, "--dead", "0").exit_code == 2
    with compacting(data):
        assert run("compact", "--data", data).exit_code == 1
    stopped = threading.Event()
    stopped.set()
    first = Compaction.__init__

    def stop_at_once(self: Compaction, *arguments: Any, **options: Any) -> None:
        first(self, *arguments, **options | {"stop": stopped})

    monkeypatch.setattr(Compaction, "__init__", stop_at_once)
    packs = list_packs(data)
    assert run("compact", "--data", data).exit_code == 130
    assert list_packs(data) == packs
