"""SIGTERM at any moment of a start ends the archive with 0."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.harness import eventually


def _catches_term(pid: int) -> bool:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


@pytest.mark.parametrize(
    "moment",
    [
        lambda pid, data: _catches_term(pid),
        lambda pid, data: (data / "run" / "supervisor.pid").exists(),
        lambda pid, data: (data / "run" / "processes.json").exists(),
        lambda pid, data: (data / "run" / "index.lock").exists(),
    ],
    ids=["first thing", "locked", "processes started", "index writer at work"],
)
def test_sigterm_while_starting_is_a_clean_end(tmp_path: Path, moment: Callable[[int, Path], bool]) -> None:
    data = tmp_path / "data"
    command = [sys.executable, "-m", "fastarchive", "serve", "--data", str(data), "--workers", "1"]
    with subprocess.Popen(
        [*command, "--dicom-port", "0", "--http-port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            eventually("the moment", lambda: moment(process.pid, data), 60)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert "Traceback" not in said
