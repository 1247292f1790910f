"""Quarantine: what is in it can't be found, and is released or discarded by a person's decision."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fastarchive.admission import ConflictPolicies, Outcome, Policy
from fastarchive.archive import Archive
from fastarchive.cli import app
from fastarchive.dicom.part10 import parse_file_head
from fastarchive.store.intake import SPILL
from fastarchive.store.record import WITH_CONTENT, RecordKind
from fastarchive.upkeep.compaction import Compaction
from tests.conflicting import UID, named, names, records, store
from tests.server.instances import small_instance, sop_instance_uid
from tests.upkeep.filled import study_uid

QUARANTINE = ConflictPolicies(Policy.QUARANTINE)


def command(*arguments: str | Path, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if "--json" in arguments else result.output


def quarantined(data: Path) -> list[tuple[str, str]]:
    return [(one["instance"], one["digest"]) for one in command("quarantine", "list", "--data", data, "--json")]


@pytest.fixture(params=["stopped", "running"])
def data(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """A data folder with an instance and two other data sets under its UID, that of ONE^1 twice sent."""
    path = tmp_path / "data"
    with Archive.open(path, conflicts=QUARANTINE) as archive:
        for number in (1, 11):
            store(archive, small_instance(number))
        for name in ("ONE^1", "TWO^2", "ONE^1"):
            assert store(archive, named(name)).outcome is Outcome.QUARANTINED
        if request.param == "running":
            yield path
    if request.param == "stopped":
        yield path


def test_what_is_in_quarantine_is_no_instance_of_the_archive(data: Path) -> None:
    before = quarantined(data)
    assert [instance for instance, _ in before] == [UID, UID]
    for index_is_there in (True, False):
        with Archive.open(data, read_only=True) as archive:
            assert archive.status()["instances"] == 2
            assert archive.read(UID).read() == small_instance(1)
            assert names(archive) == ["TEST^NUMBER0"]
        assert quarantined(data) == before
        if index_is_there and not (data / "run" / "index.lock").exists():
            shutil.rmtree(data / "index")


def test_released_it_takes_the_place_of_what_is_stored(data: Path, tmp_path: Path) -> None:
    (_, one), (_, two) = quarantined(data)
    assert "say which" in command("quarantine", "release", UID, "--data", data, code=1)
    command("quarantine", "export", UID, "--digest", one[:8], "--output", tmp_path / "one.dcm", "--data", data)
    file = (tmp_path / "one.dcm").read_bytes()
    assert file[parse_file_head(file).data_set_offset :] == named("ONE^1")
    command("quarantine", "release", UID, "--digest", one[:8], "--data", data)
    assert quarantined(data) == [(UID, two)]
    with Archive.open(data, read_only=True) as archive:
        assert archive.read(UID).read() == named("ONE^1")
        assert archive.read(UID).record.calling_ae == "CT1"
        assert names(archive) == ["ONE^1"]
        assert archive.status()["instances"] == 2


def test_discarded_it_is_gone_and_may_come_again(data: Path) -> None:
    _, (_, two) = quarantined(data)
    command("quarantine", "discard", UID, "--digest", two, "--data", data)
    assert two not in dict(quarantined(data)).values()
    assert "no such instance" in command("quarantine", "discard", UID, "--digest", two, "--data", data, code=1)
    with Archive.open(data, conflicts=QUARANTINE, write_index=False, recover_packs=False) as archive:
        assert store(archive, named("TWO^2")).outcome is Outcome.QUARANTINED
    assert len(quarantined(data)) == 2


def test_what_is_deleted_is_gone_from_quarantine_too(data: Path) -> None:
    command("delete", "study", study_uid(0), "--reason", "wrong", "--yes", "--data", data)
    assert quarantined(data) == []


def test_a_study_on_hold_keeps_what_it_has(data: Path) -> None:
    (_, one), _ = quarantined(data)
    command("hold", "add", study_uid(0), "--data", data)
    assert "on hold" in command("quarantine", "release", UID, "--digest", one, "--data", data, code=1)
    assert len(quarantined(data)) == 2
    with Archive.open(data, read_only=True) as archive:
        assert archive.read(UID).read() == small_instance(1)


def test_what_was_deleted_before_is_released_as_an_instance_of_its_own(data: Path) -> None:
    (_, one), _ = quarantined(data)
    with Archive.open(data, conflicts=QUARANTINE, write_index=False, recover_packs=False) as archive:
        pass
    command("quarantine", "release", UID, "--digest", one, "--data", data)
    command("quarantine", "release", UID, "--data", data)
    assert quarantined(data) == []
    with Archive.open(data, read_only=True) as archive:
        assert archive.read(UID).read() == named("TWO^2")


def test_a_large_one_is_released_byte_for_byte(tmp_path: Path) -> None:
    data = tmp_path / "data"
    large = named("LARGE^1", pixels=SPILL + 1_000_000)
    with Archive.open(data, conflicts=QUARANTINE) as archive:
        store(archive, small_instance(1))
        assert store(archive, large).outcome is Outcome.QUARANTINED
    command("quarantine", "release", UID, "--data", data)
    with Archive.open(data, read_only=True) as archive:
        assert archive.read(UID).read() == large


def test_compaction_keeps_what_is_in_quarantine_and_drops_what_left_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for content in (small_instance(1), named("ONE^1"), named("TWO^2", pixels=5_000_000)):
        with Archive.open(data, conflicts=QUARANTINE) as archive:
            store(archive, content)
    _, (_, two) = quarantined(data)
    command("quarantine", "discard", UID, "--digest", two, "--data", data)
    with Archive.open(data) as archive:
        Compaction(data, archive.index, settled_seconds=0.0).run()
        kinds = sorted(record.kind for _, record in records(archive))
        assert kinds == [RecordKind.INSTANCE, RecordKind.QUARANTINED, RecordKind.QUARANTINE_END]
        assert archive.read(UID).read() == small_instance(1)
    command("quarantine", "release", UID, "--data", data)
    shutil.rmtree(data / "index")
    assert quarantined(data) == []
    with Archive.open(data) as archive:
        assert archive.read(UID).read() == named("ONE^1")
        Compaction(data, archive.index, settled_seconds=0.0).run()
        assert archive.read(UID).read() == named("ONE^1")
        contents = [record for _, record in records(archive) if record.kind in WITH_CONTENT]
        assert [record.kind for record in contents] == [RecordKind.INSTANCE]


def test_the_same_in_quarantine_is_kept_once(data: Path) -> None:
    with Archive.open(data, conflicts=QUARANTINE, write_index=False, recover_packs=False) as archive:
        before = records(archive)
        assert store(archive, named("ONE^1")).outcome is Outcome.QUARANTINED
        assert records(archive) == before


@pytest.mark.parametrize("arguments", [["list", UID], ["release"], ["export", UID], ["burn", UID]])
def test_wrong_usage_is_told(tmp_path: Path, arguments: list[str]) -> None:
    command("quarantine", *arguments, "--data", tmp_path, code=2)
    assert sop_instance_uid(1) == UID
