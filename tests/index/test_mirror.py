"""Metadata that is damaged in the data folder is read from the mirror: nothing is missing from queries."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastarchive.archive import Archive
from fastarchive.cli import app
from fastarchive.dicom.attributes import Level
from fastarchive.index.writer import INDEX
from fastarchive.store.pack import pack_path
from fastarchive.upkeep.deletion import delete, make_plan
from fastarchive.upkeep.reindex import rebuild
from fastarchive.upkeep.selection import select
from tests.server.instances import sop_instance_uid
from tests.upkeep.filled import fill, holds, study_uid


def damaged(tmp_path: Path) -> tuple[Path, Path]:
    """A data folder without an index and with half of its records unreadable, and its whole mirror."""
    data, mirror = tmp_path / "data", tmp_path / "mirror"
    mirror.mkdir()
    with Archive.open(data, mirror=mirror) as archive:
        fill(archive, range(10))
        places = [archive.read(sop_instance_uid(number)).location for number in range(0, 10, 2)]
    shutil.rmtree(data / INDEX)
    with pack_path(data, places[0].pack).open("r+b") as file:
        for place in places:
            file.seek(place.offset + 40)
            file.write(b"\xff" * 8)
    return data, mirror


def test_tail_and_index_have_all_records(tmp_path: Path) -> None:
    data, mirror = damaged(tmp_path)
    with Archive.open(data, mirror=mirror, write_index=False) as archive:
        assert archive.view().tail_length == 10
        holds(archive, range(10))
    with Archive.open(data, mirror=mirror) as archive:
        holds(archive, range(10))
    with Archive.open(data) as alone:  # the index has them; their bytes are elsewhere
        assert alone.status()["instances"] == 10


def test_a_study_is_made_again_from_whole_records(tmp_path: Path) -> None:
    data, mirror = damaged(tmp_path)
    with Archive.open(data, mirror=mirror) as archive:
        view = archive.view()
        before = view.get(Level.STUDY, study_uid(0))
        plan = make_plan(view, select(view, Level.IMAGE, [sop_instance_uid(1)]))
    delete(data, plan, reason="test", mirror=mirror)
    with Archive.open(data, mirror=mirror) as archive:
        after = archive.view().get(Level.STUDY, study_uid(0))
        assert before is not None
        assert after is not None
        assert after.number_of_instances == 9
        assert after.elements == before.elements


@pytest.mark.parametrize("parts", [0, 2])
def test_an_index_made_anew_has_all_records(tmp_path: Path, parts: int) -> None:
    data, mirror = damaged(tmp_path)
    assert rebuild(data, parts=parts).records == 5
    assert rebuild(data, parts=parts, mirror=mirror).records == 10
    with Archive.open(data, mirror=mirror, read_only=True) as archive:
        assert archive.view().tail_length == 0
        holds(archive, range(10))


def test_reindex_is_told_of_the_mirror(tmp_path: Path) -> None:
    data, mirror = damaged(tmp_path)

    def reindex(*options: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["reindex", "--data", str(data), *options])
        return result.exit_code, result.output

    code, said = reindex("--mirror", str(mirror))
    assert code == 0
    assert said.startswith("indexed 10 records in ")
    code, said = reindex("--mirror", str(tmp_path / "nowhere"))
    assert code == 1
    assert "there is no folder" in said
