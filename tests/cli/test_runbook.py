"""The procedures of docs/runbook.md, done as it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fastarchive.admission import ConflictPolicies, Policy
from fastarchive.archive import Archive
from fastarchive.cli import app
from fastarchive.store.pack import PACKS, pack_path
from tests import conflicting
from tests.conflicting import UID, named
from tests.server.instances import small_instance, sop_instance_uid, write_instances
from tests.services.loopback import encode
from tests.upkeep.test_rejections import rejection_note

COUNT = 8


def command(*arguments: str | Path, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if "--json" in arguments else result.stdout


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A data folder and its mirror as a power failure leaves them: with packs that are open."""
    write_instances(tmp_path / "images", range(COUNT))
    (tmp_path / "mirror-before").mkdir()
    with Archive.open(tmp_path / "before", mirror=tmp_path / "mirror-before") as archive:
        for path in sorted((tmp_path / "images").iterdir()):
            archive.import_file(path)
        for name in ("before", "mirror-before"):
            shutil.copytree(tmp_path / name / PACKS, tmp_path / name.replace("before", "after") / PACKS)
    return tmp_path / "after"


def everything_is_there(data: Path, mirror: Path | None = None) -> None:
    with Archive.open(data, mirror=mirror) as archive:
        assert archive.status()["instances"] == COUNT
        for number in range(COUNT):
            archive.read(sop_instance_uid(number)).read()


def test_after_a_crash(crashed: Path) -> None:
    everything_is_there(crashed)
    assert "all is well" in command("verify", "--data", crashed)


def test_the_disk_of_the_data_is_replaced(crashed: Path) -> None:
    mirror = crashed.with_name("mirror-after")
    shutil.rmtree(crashed)
    (crashed / PACKS).mkdir(parents=True)
    report = command("verify", "--data", crashed, "--mirror", mirror, "--repair", "--json")
    assert not report["remaining"]
    everything_is_there(crashed, mirror)
    everything_is_there(crashed)


def test_the_disk_of_the_mirror_is_replaced(crashed: Path) -> None:
    everything_is_there(crashed)
    mirror = crashed.with_name("new-mirror")
    mirror.mkdir()
    command("verify", "--data", crashed, "--mirror", mirror, code=1)
    command("verify", "--data", crashed, "--mirror", mirror, "--repair")
    command("verify", "--data", crashed, "--mirror", mirror)
    everything_is_there(mirror)


def test_a_damaged_pack_is_restored_from_a_backup(crashed: Path) -> None:
    everything_is_there(crashed)
    with Archive.open(crashed, read_only=True) as archive:
        location = archive.read(sop_instance_uid(3)).location
    path = pack_path(crashed, location.pack)
    backup = shutil.copy(path, crashed.with_name("backup"))
    data = bytearray(path.read_bytes())
    data[location.end - 1] ^= 1
    path.write_bytes(data)
    report = command("verify", "--data", crashed, "--repair", "--json", code=1)
    assert [mark["sop_instance"] for mark in report["lost"]] == [sop_instance_uid(3)]
    shutil.copy(backup, path.with_suffix(".restored"))
    path.with_suffix(".restored").rename(path)
    command("verify", "--data", crashed)
    everything_is_there(crashed)


def test_conflicts(tmp_path: Path) -> None:
    data = tmp_path / "archive"
    with Archive.open(data, conflicts=ConflictPolicies(Policy.QUARANTINE)) as archive:
        for content in (small_instance(1), named("RELEASED^"), named("DISCARDED^")):
            conflicting.store(archive, content)
    released, discarded = command("quarantine", "list", "--data", data, "--json")
    named_by = ("--digest", released["digest"][:12], "--data", data)
    command("quarantine", "export", UID, "--output", tmp_path / "look.dcm", *named_by)
    assert (tmp_path / "look.dcm").read_bytes().endswith(named("RELEASED^"))
    command("quarantine", "release", UID, *named_by)
    command("quarantine", "discard", UID, "--data", data)
    assert command("quarantine", "list", "--data", data, "--json") == []
    with Archive.open(data, read_only=True) as archive:
        assert archive.read(UID).read() == named("RELEASED^")
    assert released["digest"] != discarded["digest"]
    assert command("conflicts", "--data", data, "--json") == []
    with Archive.open(data) as archive:
        conflicting.store(archive, named("ANOTHER^", number=2))
    (disagreement,) = command("conflicts", "--data", data, "--json", code=1)
    assert [one["value"] for one in disagreement["values"]] == ["RELEASED", "ANOTHER"]


def test_rejected_instances(tmp_path: Path) -> None:
    data = tmp_path / "archive"
    with Archive.open(data) as archive:
        for number in (1, 2):
            conflicting.store(archive, small_instance(number))
        conflicting.store(archive, encode(rejection_note([1])))
        (note,) = command("rejections", "list", "--data", data, "--json")
        assert (note["code"], note["rejected"]) == ("113001", [sop_instance_uid(1)])
        assert archive.status()["instances"] == 2
        command("rejections", "revoke", note["note"], "--reason", "wrong study", "--data", data)
        assert archive.status()["instances"] == 2
        assert archive.read(sop_instance_uid(1)).read() == small_instance(1)
        conflicting.store(archive, encode(rejection_note([2], "113039")))
        (note,) = command("rejections", "list", "--data", data, "--json")
        command("rejections", "discard", note["note"], "--reason", "expired", "--data", data)
        assert archive.status()["instances"] == 1


def test_retention_as_the_runbook_writes_the_rules(crashed: Path, tmp_path: Path) -> None:
    everything_is_there(crashed)
    page = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text()
    start = page.index("    [[rule]]")
    rules = tmp_path / "rules.toml"
    rules.write_text(page[start : page.index("Rules are about", start)])
    assert command("retention", "plan", "--rules", rules, "--data", crashed, "--json")["rules"] == []
    rules.write_text(rules.read_text().replace('["SR"]', '["OT"]').replace("3650", "1"))
    plan = command("retention", "plan", "--rules", rules, "--data", crashed, "--json")
    assert [(rule["name"], len(rule["studies"])) for rule in plan["rules"]] == [("dose sheets", 1)]
    everything_is_there(crashed)
    command("retention", "apply", "--rules", rules, "--data", crashed, "--yes")
    (deletion,) = command("deletions", "--data", crashed, "--json")
    assert deletion["reason"] == "retention: dose sheets"
    with Archive.open(crashed, read_only=True) as archive:
        assert archive.status()["instances"] == 0


def test_an_index_made_from_damaged_metadata_is_made_anew(crashed: Path) -> None:
    everything_is_there(crashed)
    mirror = crashed.with_name("mirror")
    mirror.mkdir()
    command("verify", "--data", crashed, "--mirror", mirror, "--repair")
    with Archive.open(crashed, read_only=True) as archive:
        location = archive.read(sop_instance_uid(3)).location
    path = pack_path(crashed, location.pack)
    data = bytearray(path.read_bytes())
    data[location.offset + 50] ^= 1
    path.write_bytes(data)
    shutil.rmtree(crashed / "index")
    with Archive.open(crashed) as archive:
        assert archive.status()["instances"] == COUNT - 1
    command("verify", "--data", crashed, "--mirror", mirror, "--repair")
    shutil.rmtree(crashed / "index")
    everything_is_there(crashed)
