"""A whole archive as real processes, for tests: start, kill, stop, and ports read as a script would read them.

    with RunningArchive(tmp_path / "data", workers=1) as archive:
        subprocess.run(["echoscu", "127.0.0.1", str(archive.dicom_port)], check=True)

Every wait polls with a deadline and fails with what the server logged.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

START_DEADLINE = 60.0
STOP_DEADLINE = 40.0


def eventually(what: str, probe: Callable[[], T | None], deadline: float = 20.0) -> T:
    """Poll until ``probe`` returns something true; returns it. Raises AssertionError after ``deadline`` seconds."""
    end = time.monotonic() + deadline
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what}")
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


class RunningArchive:
    """``fastarchive serve`` on a data folder, ports picked by the system.

    data: the folder; kept after :meth:`stop`, so that a second start finds what the first one stored.
    ae_title, workers, peers ({AET: (host, port)}) and any other setting by its name: given as options to ``serve``.
    environ: added to the environment of the processes.
    """

    def __init__(
        self,
        data: Path,
        *,
        ae_title: str = "FASTARCHIVE",
        workers: int = 1,
        peers: Mapping[str, tuple[str, int]] | None = None,
        environ: Mapping[str, str] | None = None,
        **options: object,
    ) -> None:
        self.data = Path(data)
        self.ae_title = ae_title
        self.host = "127.0.0.1"
        self.options: dict[str, object] = {"workers": workers, "dicom_port": 0, "http_port": 0, **options}
        self.peers = dict(peers or {})
        self.environ = dict(environ or {})
        self.log_path = self.data.with_name(self.data.name + ".log")
        self._process: subprocess.Popen[bytes] | None = None

    # ---------------------------------------------------------------- start and stop

    def command(self) -> list[str]:
        """The command line it is started with."""
        command = [sys.executable, "-m", "fastarchive", "serve", "--data", str(self.data), "--ae-title", self.ae_title]
        for name, value in self.options.items():
            flag = "--" + name.replace("_", "-")
            if isinstance(value, bool):
                command.append(flag if value else "--no-" + flag[2:])
            else:
                command += [flag, str(value)]
        for title, (host, port) in self.peers.items():
            command += ["--peer", f"{title}={host}:{port}"]
        return command

    def start(self, *, wait: bool = True) -> Self:
        """Start it; with ``wait``, return once it is ready.."""
        assert self._process is None, "already started"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("FASTARCHIVE_")}
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environ | self.environ,
                start_new_session=True,
            )
        if wait:
            try:
                self.wait_ready()
            except BaseException:
                self.kill()
                raise
        return self

    def wait_ready(self, deadline: float = START_DEADLINE) -> None:
        """Wait until every process said it is ready. Raises AssertionError with the log if the server ends or is late.

        ``/readyz`` may still say no, for instance when the disk is fuller than ``reserve`` allows.
        """
        process = self._running()

        def ready() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"the server ended with {process.returncode}:\n{self.log()}")
            # Ports left by an earlier run are not believed: the pid beside them must be this run's.
            if self._run_file("supervisor.pid") != str(process.pid):
                return False
            return bool(self._run_file("http-port")) and self.get("/healthz")[0] == 200

        try:
            eventually("ready", ready, deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def stop(self, deadline: float = STOP_DEADLINE) -> int:
        """SIGTERM, wait for the drain; the exit code. Kills and raises AssertionError if it is late."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        return self.wait(deadline)

    def wait(self, deadline: float = STOP_DEADLINE) -> int:
        """Wait for the supervisor to end by itself; its exit code."""
        process = self._running()
        try:
            code = process.wait(deadline)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not end within {deadline:g} s:\n{self.log()}") from None
        self._process = None
        return code

    def kill(self, deadline: float = 10.0) -> None:
        """SIGKILL the supervisor and every process below it, at one moment; wait until they are gone."""
        if self._process is None:
            return
        pids = [self._process.pid, *self.children()]
        for pid in pids:
            self.kill_process(pid)
        self._process.wait()
        self._process = None
        eventually("all processes gone", lambda: not any(map(alive, pids)), deadline)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        if kind is not None:
            self.kill()
        else:
            self.stop()

    # ---------------------------------------------------------------- what runs

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self._running().pid

    @property
    def running(self) -> bool:
        """Whether the supervisor runs."""
        return self._process is not None and self._process.poll() is None

    def children(self) -> list[int]:
        """The process ids of the supervisor's children that run."""
        try:
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except OSError:
            return []
        return [pid for pid in map(int, text.split()) if alive(pid)]

    def processes(self, role: str) -> list[int]:
        """The process ids of one role, "worker" or "indexer", as the supervisor records them."""
        try:
            states = json.loads((self.data / "run" / "processes.json").read_text())["processes"]
        except (OSError, ValueError):
            return []
        pids = [state["pid"] for state in states if state["role"] == role and state["pid"]]
        return [pid for pid in pids if alive(pid)]

    @staticmethod
    def kill_process(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one process; fine if it is gone already."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return

    # ---------------------------------------------------------------- how to reach it

    @property
    def dicom_port(self) -> int:
        """The DICOM port in use."""
        return int(self._run_file("dicom-port") or 0)

    @property
    def http_port(self) -> int:
        """The HTTP port in use."""
        return int(self._run_file("http-port") or 0)

    @property
    def address(self) -> str:
        """AET@HOST:PORT, for ``fastarchive find --server``."""
        return f"{self.ae_title}@{self.host}:{self.dicom_port}"

    def url(self, path: str = "/") -> str:
        """An address on the HTTP port."""
        return f"http://{self.host}:{self.http_port}{path}"

    def get(self, path: str) -> tuple[int, bytes]:
        """GET: (status, body); (0, b"") when nothing answers."""
        try:
            with urllib.request.urlopen(self.url(path), timeout=5) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return 0, b""

    def status(self) -> dict[str, Any]:
        """What ``/status`` says."""
        code, body = self.get("/status")
        assert code == 200, (code, body)
        answer: dict[str, Any] = json.loads(body)
        return answer

    def log(self) -> str:
        """Everything the processes wrote, of all starts."""
        try:
            return self.log_path.read_text(errors="replace")
        except OSError:
            return ""

    def run_command(self, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a fastarchive command, e.g. ``run_command("status", "--data", …)``; output captured, code unchecked."""
        return run_command(arguments, timeout=timeout)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def _run_file(self, name: str) -> str:
        try:
            return (self.data / "run" / name).read_text().strip()
        except OSError:
            return ""


def run_command(arguments: Sequence[str], *, timeout: float = 60.0, **options: Any) -> subprocess.CompletedProcess[str]:
    """``fastarchive …`` as a process of its own; output captured as text, exit code unchecked."""
    return subprocess.run(
        [sys.executable, "-m", "fastarchive", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        check=False,
        **options,
    )
