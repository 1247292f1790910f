"""verify on a data folder: what it says, what it heals, how it ends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fastarchive.archive import Archive
from fastarchive.store.blobs import DamagedInstance
from fastarchive.store.pack import pack_path
from fastarchive.store.record import Location
from tests.cli.running import run
from tests.server.instances import sop_instance_uid, write_instances


def verified(*arguments: str | Path, code: int) -> dict[str, Any]:
    result = run("verify", "--json", *arguments)
    assert result.exit_code == code, result.output
    return dict(json.loads(result.stdout))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder of an archive of six instances with a mirror beside it."""
    write_instances(tmp_path / "images", range(6))
    (tmp_path / "mirror").mkdir()
    with Archive.open(tmp_path / "data", mirror=tmp_path / "mirror") as archive:
        for path in sorted((tmp_path / "images").iterdir()):
            archive.import_file(path)
    return tmp_path / "data"


def damage(data: Path, number: int) -> Location:
    """Flip a bit at the end of an instance's record."""
    with Archive.open(data, read_only=True) as archive:
        location = archive.read(sop_instance_uid(number)).location
    with pack_path(data, location.pack).open("r+b") as file:
        file.seek(location.end - 1)
        byte = file.read(1)[0]
        file.seek(location.end - 1)
        file.write(bytes([byte ^ 1]))
    return location


def test_a_well_archive_ends_with_0(data: Path) -> None:
    result = run("verify", "--data", data)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("all is well (6 records in 1 packs")
    assert verified("--data", data, "--mirror", data.parent / "mirror", "--deep", code=0)["records"] == 6


def test_damage_is_listed_by_instance_and_ends_with_1(data: Path) -> None:
    location = damage(data, 2)
    report = verified("--data", data, code=1)
    (finding,) = report["found"]
    assert finding["sop_instance"] == sop_instance_uid(2)
    assert (finding["pack"], finding["offset"], finding["size"]) == (location.pack, location.offset, location.size)
    assert (finding["part"], finding["copy"]) == ("content", "data")
    assert [mark["sop_instance"] for mark in report["lost"]] == [sop_instance_uid(2)]
    result = run("verify", "--data", data)
    assert result.exit_code == 1
    assert sop_instance_uid(2) in result.stdout
    with Archive.open(data, read_only=True) as archive:
        assert archive.damage.is_damaged(sop_instance_uid(2))
        with pytest.raises(DamagedInstance):
            archive.read(sop_instance_uid(2)).read()
        archive.read(sop_instance_uid(3)).read()


def test_a_mirror_serves_and_heals(data: Path) -> None:
    mirror = data.parent / "mirror"
    damage(data, 2)
    damage(mirror_as_data(data), 4)
    with Archive.open(data, mirror=mirror) as archive:
        for number in range(6):
            archive.read(sop_instance_uid(number)).read()
        assert not archive.damage.marks()
        # While the archive is open.
        report = verified("--data", data, "--mirror", mirror, "--repair", code=0)
    assert len(report["found"]) == 2
    assert not report["remaining"]
    assert len(report["healed"]) == 2
    assert verified("--data", data, "--mirror", mirror, "--deep", code=0)["found"] == []


def mirror_as_data(data: Path) -> Path:
    """The mirror, with the index beside it that a look-up needs."""
    shutil.copytree(data / "index", data.parent / "mirror" / "index")
    return data.parent / "mirror"


def test_folders_that_are_not_there(tmp_path: Path, data: Path) -> None:
    assert run("verify", "--data", tmp_path / "nothing").exit_code == 1
    assert run("verify", "--data", data, "--mirror", tmp_path / "nothing").exit_code == 1
    assert run("verify", "--data", data, "--mirror", data).exit_code == 2
