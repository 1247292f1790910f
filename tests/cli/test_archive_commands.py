"""import, find and status straight on a data folder, without a server."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from fastarchive.cli import importing
from tests.cli.running import run
from tests.server.instances import small_instance, sop_instance_uid, write_instances


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of an archive with 30 instances in three studies."""
    folder = tmp_path_factory.mktemp("filled")
    write_instances(folder / "images", range(30))
    result = run("import", "--data", folder / "data", folder / "images")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("30 stored, 0 refused (")
    yield folder / "data"


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_find_at_every_level(filled: Path) -> None:
    assert len(lines(run("find", "patient", "--data", filled, "--json"))) == 3
    assert len(lines(run("find", "STUDY", "--data", filled, "--json"))) == 3
    assert len(lines(run("find", "series", "--data", filled, "PatientID=P1", "--json"))) == 1
    images = lines(run("find", "image", "--data", filled, "PatientName=test^number1", "--json"))
    assert {row["SOPInstanceUID"] for row in images} == {sop_instance_uid(number) for number in range(10, 20)}


def test_find_matches_as_c_find_does(filled: Path) -> None:
    by_range = lines(run("find", "study", "--data", filled, "StudyDate=20240102-20240103", "--json"))
    assert {row["PatientID"] for row in by_range} == {"P1", "P2"}
    by_wildcard = lines(run("find", "study", "--data", filled, "PatientID=?2", "--json"))
    assert [row["NumberOfStudyRelatedInstances"] for row in by_wildcard] == ["10"]


def test_find_shows_what_is_asked_for(filled: Path) -> None:
    (row,) = lines(run("find", "study", "--data", filled, "PatientID=P0", "-r", "ModalitiesInStudy", "--json"))
    assert row == {"PatientID": "P0", "ModalitiesInStudy": "OT"}


def test_find_prints_lines_of_values_when_piped(filled: Path) -> None:
    arguments = ("--data", filled, "PatientID=P0", "-r", "ModalitiesInStudy", "-r", "StudyDate")
    header, line = run("find", "study", *arguments).stdout.splitlines()
    assert dict(zip(header.split("\t"), line.split("\t"), strict=True)) == {
        "PatientID": "P0",
        "ModalitiesInStudy": "OT",
        "StudyDate": "20240101",
    }


def test_find_explains_instead_of_answering(filled: Path) -> None:
    result = run("find", "image", "--data", filled, "PatientID=P1", "--explain")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("IMAGE query in Study Root, relational\nkeys\n")
    assert "find IMAGE: 10 found" in result.stdout
    (explained,) = lines(run("find", "image", "--data", filled, "PatientID=P1", "--explain", "--json"))
    assert explained["plan"]["found"] == 10
    assert run("find", "image", "--explain", "--server", "localhost:11112").exit_code == 2
    assert run("find", "image", "--data", filled, "--explain", "-n", "1").exit_code == 2


def test_find_stops_at_a_limit_and_nothing_is_no_error(filled: Path) -> None:
    assert len(lines(run("find", "image", "--data", filled, "-n", "7", "--json"))) == 7
    assert run("find", "study", "--data", filled, "PatientID=NOBODY").stdout == ""


def test_find_tells_a_wrong_keyword_and_what_was_meant(filled: Path) -> None:
    result = run("find", "study", "--data", filled, "PatientNam=A")
    assert result.exit_code == 2
    assert "did you mean PatientName" in result.stderr
    result = run("find", "study", "--data", filled, "StudyDate=yesterday")
    assert result.exit_code == 2
    assert "fastarchive: " in result.stderr


def test_status_of_a_folder(filled: Path) -> None:
    (facts,) = lines(run("status", "--data", filled, "--json"))
    archive = facts["archive"]
    assert isinstance(archive, dict)
    assert [archive[name] for name in ("patients", "studies", "series", "instances")] == [3, 3, 3, 30]
    assert facts["running"] is False
    assert "archive instances\t30\n" in run("status", "--data", filled).stdout


def test_import_again_stores_nothing(filled: Path, tmp_path: Path) -> None:
    write_instances(tmp_path, range(5))
    (summary,) = lines(run("import", "--data", filled, tmp_path, "--json"))
    assert (summary["stored"], summary["already_present"], summary["refused"]) == (0, 5, 0)
    assert "0 stored, 5 already present, 0 refused" in run("import", "--data", filled, tmp_path).stdout


def test_import_says_what_it_did_not_store_and_why(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    files = write_instances(folder, range(3))
    # Another data set under the UID of the first; not DICOM; an instance that ends inside its header.
    (folder / "zzz-conflict.dcm").write_bytes(files[0].read_bytes().replace(b"TEST^NUMBER0", b"OTHER^PERSON"))
    (folder / "readme.txt").write_text("This folder holds images, and this text is none of them.")
    (folder / "truncated.dcm").write_bytes(files[1].read_bytes()[:300])
    result = run("import", "--data", tmp_path / "data", folder, "--json", "--threads", "1")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert (summary["stored"], summary["refused"], summary["skipped"]) == (3, 2, 1)
    told = {(reason["outcome"], Path(path).name) for reason in summary["reasons"] for path in reason["paths"]}
    assert told == {("refused", "zzz-conflict.dcm"), ("skipped", "readme.txt"), ("refused", "truncated.dcm")}
    assert all(reason["reason"] for reason in summary["reasons"])
    # A file that was named, and not just found in a folder, is refused.
    named = run("import", "--data", tmp_path / "data", folder / "readme.txt")
    assert named.exit_code == 1
    assert "1 refused" in named.stdout
    assert "readme.txt" in named.stdout


def test_import_passes_over_pipes_and_goes_on_after_a_bad_sector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "disc"
    write_instances(folder, range(2))
    os.mkfifo(folder / "pipe")
    (folder / "lost").symlink_to(tmp_path / "nowhere")
    (folder / "scratched.dcm").write_bytes(b"")
    opened = Path.open

    def scratched(path: Path, mode: str) -> Any:
        # Reading it fails as on a damaged disc; /proc/self/mem does so at address 0 and is always there.
        return opened(Path("/proc/self/mem") if path.name == "scratched.dcm" else path, mode)

    monkeypatch.setattr(Path, "open", scratched)
    result = run("import", "--data", tmp_path / "data", folder, "--json")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert (summary["stored"], summary["refused"], summary["skipped"]) == (2, 2, 0), summary
    assert {reason["reason"] for reason in summary["reasons"]} == {
        "can't be read: Input/output error",
        "can't be read: No such file or directory",
    }


def test_import_takes_data_sets_without_preamble_and_meta_information(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.write_bytes(small_instance(1))
    assert run("import", "--data", tmp_path / "data", bare).exit_code == 0
    (row,) = lines(run("find", "image", "--data", tmp_path / "data", "--json"))
    assert row["SOPInstanceUID"] == sop_instance_uid(1)


def test_import_stops_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTARCHIVE_RESERVE", "1000000TiB")
    result = run("import", "--data", tmp_path / "data", *write_instances(tmp_path / "images", range(3)))
    assert result.exit_code == 1
    assert "no more space than is kept in reserve" in result.stderr


def test_many_paths_of_one_reason_are_counted_and_cut() -> None:
    summary = importing.Summary()
    for number in range(100):
        summary.add("refused", Path(f"{number}.dcm"), reason="broken")
    (reason,) = summary.as_dict()["reasons"]
    assert reason["count"] == 100
    assert len(reason["paths"]) == importing.PATHS_KEPT
