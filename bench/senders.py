"""DCMTK's dcmsend as a load: several processes at once, and what each of them was answered, file by file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

_LOGGING = """\
log4cplus.rootLogger = INFO, console
log4cplus.appender.console = log4cplus::ConsoleAppender
log4cplus.appender.console.logToStdErr = true
log4cplus.appender.console.ImmediateFlush = true
log4cplus.appender.console.layout = log4cplus::PatternLayout
log4cplus.appender.console.layout.ConversionPattern = %D{%s.%Q} %m%n
"""

_LINE = re.compile(r"^(\d+)\.(\d+)\.(\d+) (.*)$")
_SENT = "Sending C-STORE Request"
_ANSWERED = "Received C-STORE Response"
_STATUS = re.compile(r"0x([0-9A-Fa-f]{4})")


class MissingTool(RuntimeError):
    """A program from a system package that isn't installed."""


def tool(name: str, package: str = "dcmtk") -> str:
    """The path of a program. Raises MissingTool naming the package that has it.

    pynetdicom installs programs with the names of DCMTK's beside the Python that runs: those are passed over.
    """
    own = Path(sys.executable).parent
    places = [place for place in os.get_exec_path() if Path(place) != own] + ["/usr/bin", "/usr/sbin", "/sbin"]
    path = shutil.which(name, path=os.pathsep.join(places))
    if path is None:
        raise MissingTool(f"{name} is not installed; it is in Debian's package {package} (apt-get install {package})")
    return path


@dataclass(frozen=True, slots=True)
class Sent:
    """One C-STORE and its answer. A store that was never answered has no status and takes no time."""

    path: str
    sop_instance: str
    status: int | None
    start: float = 0.0
    end: float = 0.0

    @property
    def acknowledged(self) -> bool:
        """Whether the peer answered 0000."""
        return self.status == 0


def parse_log(text: str) -> list[tuple[float, float]]:
    """When each answered C-STORE was requested and answered, seconds since the epoch, out of a log of dcmsend."""
    answered: list[tuple[float, float]] = []
    start = 0.0
    for line in text.splitlines():
        match = _LINE.match(line)
        if not match:
            continue
        seconds, milliseconds, microseconds, message = match.groups()
        moment = int(seconds) + int(milliseconds) / 1e3 + int(microseconds) / 1e6
        if message.startswith(_SENT):
            start = moment
        elif message.startswith(_ANSWERED):
            answered.append((start, moment))
    return answered


def parse_report(text: str) -> list[Sent]:
    """What was to be sent, in the order of sending, out of a report file of dcmsend."""
    sent: list[Sent] = []
    path = sop_instance = ""
    for line in text.splitlines():
        name, _, value = line.partition(" : ")
        match name.strip():
            case "Filename":
                path = value
            case "SOP Instance":
                sop_instance = value
            case "DIMSE Status":
                status = _STATUS.match(value)
                sent.append(Sent(path, sop_instance, int(status[1], 16) if status else None))
    return sent


def timed(sent: Sequence[Sent], times: Sequence[tuple[float, float]]) -> list[Sent]:
    """The report with the log's times: the n-th answer belongs to the n-th file with a status."""
    remaining = iter(times)
    merged = []
    for one in sent:
        start, end = next(remaining, (0.0, 0.0)) if one.status is not None else (0.0, 0.0)
        merged.append(replace(one, start=start, end=end))
    return merged


class DcmSend:
    """Several `dcmsend` processes that start together, one association each."""

    def __init__(
        self,
        host: str,
        port: int,
        loads: Sequence[Sequence[Path]],
        *,
        called: str = "ANY-SCP",
        nodelay: bool = True,
        options: Sequence[str] = (),
    ) -> None:
        """loads: for each association the files and folders it sends. Starts at once."""
        self._directory = tempfile.TemporaryDirectory(prefix="dcmsend-")
        logging = Path(self._directory.name) / "logging.cfg"
        logging.write_text(_LOGGING)
        environ = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
        if nodelay:
            environ["TCP_NODELAY"] = "1"
        self._logs = [Path(self._directory.name) / f"{number}.log" for number in range(len(loads))]
        self._reports = [log.with_suffix(".report") for log in self._logs]
        command = [tool("dcmsend"), "-lc", str(logging), "-nh", "-nuc", "+sd", "+r", "-aec", called, *options]
        self.processes: list[subprocess.Popen[bytes]] = []
        for log, report, load in zip(self._logs, self._reports, loads, strict=True):
            with log.open("wb") as output:
                self.processes.append(
                    subprocess.Popen(
                        [*command, "+crf", str(report), host, str(port), *map(str, load)],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=output,
                        env=environ,
                    )
                )

    def progress(self) -> int:
        """How many answers have arrived so far."""
        return sum(log.read_bytes().count(_ANSWERED.encode()) for log in self._logs)

    @property
    def running(self) -> bool:
        """Whether any of them still runs."""
        return any(process.poll() is None for process in self.processes)

    def result(self, timeout: float = 600.0) -> list[Sent]:
        """Wait for all of them; every C-STORE they sent. Raises subprocess.TimeoutExpired, having killed them."""
        try:
            for process in self.processes:
                process.wait(timeout)
            return [
                sent
                for log, report in zip(self._logs, self._reports, strict=True)
                if report.exists()
                for sent in timed(parse_report(report.read_text()), parse_log(log.read_text(errors="replace")))
            ]
        finally:
            for process in self.processes:
                process.kill()
                process.wait()
            self._directory.cleanup()
