"""The archive as real processes: start, work, deaths of any of them, restart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastarchive.cli import app, requests
from fastarchive.cli.output import Address
from tests.server.harness import RunningArchive, alive, eventually, run_command
from tests.server.instances import sop_instance_uid, write_instances


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    """One archive with two workers for the tests of this file, in their order; it may have been restarted."""
    with RunningArchive(tmp_path_factory.mktemp("processes") / "data", workers=2) as running:
        yield running


def found(archive: RunningArchive) -> set[str]:
    """The SOP Instance UIDs the archive finds, asked by C-FIND."""
    peer = Address(archive.ae_title, archive.host, archive.dicom_port)
    rows = requests.find(peer, "TEST", requests.question("IMAGE", {}, ["SOPInstanceUID"]))
    return {row["SOPInstanceUID"] for row in rows}


def store(archive: RunningArchive, folder: Path, numbers: range) -> set[str]:
    """Store small instances by C-STORE; their UIDs."""
    files = write_instances(folder, numbers)
    subprocess.run(
        ["storescu", "-aec", archive.ae_title, archive.host, str(archive.dicom_port), *map(str, files)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return {sop_instance_uid(number) for number in numbers}


def test_ports_and_pid_are_in_the_run_folder_and_printed(archive: RunningArchive) -> None:
    assert archive.dicom_port > 0
    assert archive.http_port > 0
    assert (
        f"DICOM FASTARCHIVE@127.0.0.1:{archive.dicom_port}, HTTP http://127.0.0.1:{archive.http_port}" in archive.log()
    )
    assert len(archive.processes("worker")) == 2
    assert len(archive.processes("indexer")) == 1
    assert set(archive.processes("worker") + archive.processes("indexer")) == set(archive.children())


def test_echo_answers(archive: RunningArchive) -> None:
    result = archive.run_command("echo", archive.address)
    assert result.returncode == 0, result.stderr
    assert "answered in" in result.stdout
    assert requests.echo(Address("ANYONE", archive.host, archive.dicom_port), "TEST") < 5


def test_pages(archive: RunningArchive) -> None:
    assert archive.get("/healthz") == (200, b"ok\n")
    code, body = archive.get("/readyz")
    assert code == 200
    checks = json.loads(body)["checks"]
    assert set(checks) == {"serving", "index writer", "index tail", "disk", "writing", "archive"}
    assert all(check["ready"] for check in checks.values())
    code, body = archive.get("/")
    assert code == 200
    assert b"FASTARCHIVE" in body
    assert archive.get("/none")[0] == 404
    status = archive.status()
    assert status["ready"]
    assert {process["role"] for process in status["processes"]} == {"indexer", "worker"}


def test_status_command_shows_the_same_from_server_and_folder(archive: RunningArchive) -> None:
    by_server = CliRunner().invoke(app, ["status", "--server", archive.url(), "--json"])
    by_folder = CliRunner().invoke(app, ["status", "--data", str(archive.data), "--json"])
    assert by_server.exit_code == by_folder.exit_code == 0
    served, read = json.loads(by_server.stdout), json.loads(by_folder.stdout)
    assert read["running"] is True
    assert read["dicom_port"] == archive.dicom_port
    assert served["archive"]["instances"] == read["archive"]["instances"]
    assert served["processes"] == read["processes"]


def test_second_archive_on_the_same_folder_is_refused(archive: RunningArchive) -> None:
    result = run_command(["serve", "--data", str(archive.data), "--dicom-port", "0", "--http-port", "0"])
    assert result.returncode == 1
    assert f"runs on {archive.data} already (process {archive.pid})" in result.stderr
    assert archive.get("/readyz")[0] == 200


def test_port_in_use_is_refused(archive: RunningArchive, tmp_path: Path) -> None:
    port = str(archive.dicom_port)
    result = run_command(["serve", "--data", str(tmp_path / "other"), "--dicom-port", port, "--http-port", "0"])
    assert result.returncode == 1
    assert f"dicom_port = {port}: can't listen on 127.0.0.1:{port}: Address already in use" in result.stderr


def test_what_was_stored_is_found_by_every_worker_at_once(archive: RunningArchive, tmp_path: Path) -> None:
    stored = store(archive, tmp_path, range(10))
    for _ in range(4):  # more queries than workers
        assert found(archive) >= stored


def test_metrics_add_up_all_processes(archive: RunningArchive) -> None:
    def samples() -> dict[str, float]:
        code, body = archive.get("/metrics")
        assert code == 200
        lines = (line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    def stored() -> bool:
        return sum(count for name, count in samples().items() if "store_instances_total{" in name) >= 10

    eventually("what the workers counted arrives, which takes them a second", stored)
    assert samples()["fastarchive_disk_free_bytes"] > 2**20


def test_killed_worker_is_started_again_and_its_pack_recovered(archive: RunningArchive, tmp_path: Path) -> None:
    stored = store(archive, tmp_path, range(10, 20))
    before = archive.processes("worker")
    for pid in before:
        archive.kill_process(pid)

    def restarted() -> bool:
        states = archive.status()["processes"] if archive.get("/status")[0] == 200 else []
        workers = [state for state in states if state["role"] == "worker"]
        return len(workers) == 2 and all(
            state["state"] == "running" and state["restarts"] == 1 and state["pid"] not in before for state in workers
        )

    eventually("both workers run again", restarted, 40)
    assert found(archive) >= stored
    # The index writer's process recovers beside its work, and gives way to the workers meanwhile.
    eventually("the packs they left are recovered", lambda: "recovered" in archive.log())
    assert b'fastarchive_process_restarts_total{kind="worker"} 2.0' in archive.get("/metrics")[1]


def test_killed_index_writer_is_started_again(archive: RunningArchive, tmp_path: Path) -> None:
    (before,) = archive.processes("indexer")
    archive.kill_process(before)
    # Queries don't wait for it: what is stored meanwhile is in the tail.
    stored = store(archive, tmp_path, range(20, 25))
    assert found(archive) >= stored
    eventually("index writer runs again", lambda: set(archive.processes("indexer")) - {before}, 40)
    eventually("ready", lambda: archive.get("/readyz")[0] == 200, 40)
    eventually("all is in the index", lambda: archive.status()["archive"]["index_tail_records"] == 0, 40)
    assert found(archive) >= stored


def test_killed_supervisor_leaves_no_process_and_no_loss(archive: RunningArchive, tmp_path: Path) -> None:
    stored = store(archive, tmp_path, range(25, 30))
    children = archive.children()
    assert len(children) == 3
    os.kill(archive.pid, signal.SIGKILL)
    archive.wait()
    eventually("children gone", lambda: not any(map(alive, children)), 10)
    archive.start()
    assert found(archive) >= stored | {sop_instance_uid(number) for number in range(25)}


def test_everything_killed_at_one_moment_leaves_no_loss(archive: RunningArchive, tmp_path: Path) -> None:
    stored = store(archive, tmp_path, range(30, 35))
    archive.kill()
    # The folder can be read while nothing runs.
    result = CliRunner().invoke(app, ["find", "image", "--data", str(archive.data), "--json"])
    assert {json.loads(line)["SOPInstanceUID"] for line in result.stdout.splitlines()} >= stored
    archive.start()
    assert found(archive) == {sop_instance_uid(number) for number in range(35)}


def test_import_works_beside_the_running_archive(archive: RunningArchive, tmp_path: Path) -> None:
    write_instances(tmp_path, range(33, 40))
    result = CliRunner().invoke(app, ["import", "--data", str(archive.data), str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["stored"], summary["already_present"]) == (5, 2)
    assert found(archive) == {sop_instance_uid(number) for number in range(40)}


def test_instance_is_stored_once(archive: RunningArchive, tmp_path: Path) -> None:
    before = archive.status()["archive"]["instances"]
    store(archive, tmp_path, range(30, 35))
    assert archive.status()["archive"]["instances"] == before
