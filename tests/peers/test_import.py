"""`fastarchive import` on the folders people have: what is DICOM is stored as it is, what isn't is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.encoding import element
from bench.requestor import STUDY_ROOT_GET, Context
from tests.peers.conftest import associate
from tests.peers.corpus import files, roots, whole
from tests.peers.test_corpus import CUT_OFF, REFUSED
from tests.server.harness import RunningArchive, run_command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus with a UID of its own for every file."""
    place = tmp_path_factory.mktemp("files")
    for number, sample in enumerate(whole()):
        (place / f"{number:03d}-{sample.name}").write_bytes(sample.file())
    return place


def import_into(data: Path, *paths: Path) -> dict[str, Any]:
    """Run the command; its summary."""
    done = run_command(["import", "--data", str(data), "--json", *map(str, paths)])
    summary: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if summary["refused"] else 0), done.stderr
    return summary


def test_every_file_is_stored_and_given_back_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    cut_off = [name for name, (_, reason) in REFUSED.items() if reason == CUT_OFF]
    wanted = {sample.sop_instance: sample for sample in whole() if sample.name not in cut_off}
    summary = import_into(data, folder)
    assert (summary["stored"], summary["refused"], summary["skipped"]) == (len(wanted), len(cut_off), 0), summary
    again = import_into(data, folder)
    assert (again["stored"], again["already_present"]) == (0, len(wanted)), again

    pairs = sorted({(sample.sop_class, sample.transfer_syntax) for sample in wanted.values()})
    contexts = [Context(STUDY_ROOT_GET), *(Context(sop_class, (syntax,), scp=True) for sop_class, syntax in pairs)]
    studies = "\\".join(sorted({sample.study for sample in wanted.values()}))
    identifier = element(0x00080052, "CS", "STUDY") + element(0x0020000D, "UI", studies)
    with RunningArchive(data, workers=1) as archive, associate(archive, *contexts) as association:
        response, retrieved = association.get(STUDY_ROOT_GET, identifier)
    assert response.status == 0
    received = {one.sop_instance: one.data_set for one in retrieved}
    assert set(received) == set(wanted)
    padded = {uid: sample.data_set + b"\0" * (len(sample.data_set) % 2) for uid, sample in wanted.items()}
    assert [wanted[uid].name for uid in wanted if received[uid] != padded[uid]] == []


def test_folders_as_they_are(tmp_path: Path) -> None:
    """Each file is accounted for; refused are variants of an image under its UID, and what has no place."""
    summary = import_into(tmp_path / "data", *roots())
    counted = summary["stored"] + summary["already_present"] + summary["refused"] + summary["skipped"]
    assert counted == len(list(files()))
    distinct = {sample.sop_instance for sample in whole()}
    assert 140 < summary["stored"] <= len(distinct) + 5
    reasons = {entry["reason"]: entry["count"] for entry in summary["reasons"] if entry["outcome"] == "refused"}
    conflicts = [count for reason, count in reasons.items() if "kept" in reason]
    assert len(conflicts) == 1
    assert sum(reasons.values()) - conflicts[0] <= len(REFUSED)
