"""DCMTK's dcmsend and storescu as a load: several processes at once, and what each was answered, file by file."""

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

from bench.encoding import sop_instance_of

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


def parse_storescu_log(text: str) -> list[Sent]:
    """What was sent and how it was answered, out of a log of storescu. SOP Instance UIDs are read from the files."""
    sent: list[Sent] = []
    start = 0.0
    for line in text.splitlines():
        match = _LINE.match(line)
        if not match:
            continue
        seconds, milliseconds, microseconds, message = match.groups()
        moment = int(seconds) + int(milliseconds) / 1e3 + int(microseconds) / 1e6
        if message.startswith(_SENDING_FILE):
            path = message.removeprefix(_SENDING_FILE)
            sent.append(Sent(path, sop_instance_of(Path(path)), None))
        elif message.startswith(_STORESCU_SENT):
            start = moment
        elif sent and (answer := _STORESCU_ANSWERED.match(message)):
            sent[-1] = replace(sent[-1], status=_status_named(answer[1]), start=start, end=moment)
    return sent


_SENDING_FILE = "Sending file: "
_STORESCU_SENT = "Sending Store Request"
_STORESCU_ANSWERED = re.compile(r"Received Store Response \((.*)\)")
_NAMED = {"Success": 0x0000, "Refused: OutOfResources": 0xA700, "Error: DataSetDoesNotMatchSOPClass": 0xA900}


def _status_named(name: str) -> int:
    """The status that DCMTK calls so; C000, a failure, for a name without a number that isn't known here."""
    number = re.search(r"0x([0-9A-Fa-f]{4})", name)
    return int(number[1], 16) if number else _NAMED.get(name, 0xC000)


class DcmSend:
    """Several `dcmsend` processes that start together, one association each."""

    program = "dcmsend"
    answered = _ANSWERED
    """What its log says of each answer."""

    def __init__(
        self,
        host: str,
        port: int,
        loads: Sequence[Sequence[Path]],
        *,
        called: str = "ANY-SCP",
        calling: str | None = None,
        nodelay: bool = True,
        options: Sequence[str] = (),
    ) -> None:
        """loads: for each association the files and folders it sends. calling: its AE title, the tool's own by
        default. Starts at once."""
        self._directory = tempfile.TemporaryDirectory(prefix=f"{self.program}-")
        logging = Path(self._directory.name) / "logging.cfg"
        logging.write_text(_LOGGING)
        environ = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
        if nodelay:
            environ["TCP_NODELAY"] = "1"
        self._logs = [Path(self._directory.name) / f"{number}.log" for number in range(len(loads))]
        self._reports = [log.with_suffix(".report") for log in self._logs]
        titles = ["-aec", called, *(["-aet", calling] if calling else [])]
        command = [tool(self.program), "-lc", str(logging), "-nh", "+sd", "+r", *titles, *options]
        self.processes: list[subprocess.Popen[bytes]] = []
        for log, report, load in zip(self._logs, self._reports, loads, strict=True):
            with log.open("wb") as output:
                self.processes.append(
                    subprocess.Popen(
                        [*command, *self._own_options(report), host, str(port), *map(str, load)],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=output,
                        env=environ,
                    )
                )

    def progress(self) -> int:
        """How many answers have arrived so far."""
        return sum(log.read_bytes().count(self.answered.encode()) for log in self._logs)

    def _own_options(self, report: Path) -> list[str]:
        return ["-nuc", "+crf", str(report)]

    def _sent(self, log: Path, report: Path) -> list[Sent]:
        if not report.exists():
            return []
        return timed(parse_report(report.read_text()), parse_log(log.read_text(errors="replace")))

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
                sent for log, report in zip(self._logs, self._reports, strict=True) for sent in self._sent(log, report)
            ]
        finally:
            for process in self.processes:
                process.kill()
                process.wait()
            self._directory.cleanup()


class StoreScu(DcmSend):
    """The same with DCMTK's older `storescu`, which takes and sends one file after the other."""

    program = "storescu"
    answered = "Received Store Response"

    def _own_options(self, report: Path) -> list[str]:
        return ["-R", "--max-send-pdu", "131072"]

    def _sent(self, log: Path, report: Path) -> list[Sent]:
        return parse_storescu_log(log.read_text(errors="replace"))
