"""What all archives that are compared have in common: a process on a free port of the loopback interface, started in a
folder, asked what it holds, and gone afterwards.
"""

from __future__ import annotations

import abc
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Self

from bench.encoding import element
from bench.modality import Instance
from bench.peers.ports import HOST, free_port
from bench.requestor import STUDY_ROOT_FIND, VERIFICATION, Context, RequestError, Requestor


class Peer(abc.ABC):
    """A DICOM archive as a process."""

    name: ClassVar[str]
    """What it is called on the command line."""
    remark: ClassVar[str]
    """What the reader of a table must know about its durability and settings."""
    ae_title: str = "ANY-SCP"
    calling: str = "BENCH"
    """The AE title it is asked under."""
    prefix: Sequence[str] = ()
    """What its command line is prefixed with: `taskset` to pin it, `strace` to count its syncs."""
    movable: ClassVar[bool] = False
    """Whether it works from a copy of its folder in another place."""
    start_deadline: ClassVar[float] = 60.0

    def __init__(
        self, directory: Path, *, nodelay: bool = True, destinations: Mapping[str, tuple[str, int]] | None = None
    ) -> None:
        """directory: made if it isn't there; kept afterwards. nodelay: TCP_NODELAY=1 in its environment, which only
        DCMTK's network library reads. destinations: {AE title: (host, port)} it may send to (C-MOVE)."""
        self.directory = directory
        self.host = HOST
        self.dicom_port = 0
        self.destinations = dict(destinations or {})
        self._nodelay = nodelay
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def label(self) -> str:
        """The name in a table."""
        return self.name

    @abc.abstractmethod
    def command(self) -> list[str]:
        """Write what configuration it needs, and return the command line."""

    @property
    def pid(self) -> int | None:
        """The root of its process tree."""
        return self._process.pid if self._process else None

    @property
    def log_path(self) -> Path:
        """Where its output goes."""
        return self.directory.with_name(self.directory.name + ".log")

    def start(self) -> Self:
        """Start it and wait until it answers C-ECHO. Raises RuntimeError with the end of its log if it doesn't."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.dicom_port = self.dicom_port or free_port()
        environ = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
        if self._nodelay:
            environ["TCP_NODELAY"] = "1"
        with self.log_path.open("ab") as log:
            self._process = self._spawn([*self.prefix, *self.command()], environ, log)
        deadline = time.monotonic() + self.start_deadline
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                log_end = self.log_path.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.name} does not answer C-ECHO; its log ends with:\n{log_end}")
            time.sleep(0.05)
        return self

    def _spawn(self, command: list[str], environ: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environ,
            start_new_session=True,
        )

    def _answers(self) -> bool:
        try:
            with self.associate(Context(VERIFICATION), timeout=5) as association:
                return association.echo().status == 0
        except OSError:
            return False

    def stop(self) -> None:
        """End it in its own way; SIGKILL to what is left of its process group after 30 seconds."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to all its processes at once."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def associate(self, *contexts: Context, timeout: float = 60.0) -> Requestor:
        """An association with it."""
        return Requestor(
            self.host, self.dicom_port, contexts, calling=self.calling, called=self.ae_title, timeout=timeout
        )

    def inventory(self) -> dict[str, int]:
        """What its folder holds, by name, as far as it says something about how it will go on; cheap."""
        return {}

    def count(self) -> int | None:
        """About how many instances its folder holds; None when only asking it would tell."""
        return None

    def frozen(self, path: Path) -> bool:
        """Whether it never changes this file of its folder in place, so that a hard link is as good as a copy."""
        return False

    def held(self, instances: Iterable[Instance]) -> set[str]:
        """Which of these it holds, by SOP Instance UID."""
        return self.held_of((instance.study.uid, instance.series, instance.sop_instance) for instance in instances)

    def held_of(self, instances: Iterable[tuple[str, str, str]]) -> set[str]:
        """Which of these it holds; UIDs of study, series and instance. C-FIND at IMAGE level, series by series.

        Raises RequestError when a C-FIND fails: what it would have said isn't known then.
        """
        found: set[str] = set()
        with self.associate(Context(STUDY_ROOT_FIND)) as association:
            for (study, series), _ in groupby(instances, key=itemgetter(0, 1)):
                answers = association.find(STUDY_ROOT_FIND, image_query(study, series))
                if status := answers.response.status:
                    raise RequestError(f"C-FIND for a series ended with {status:04X} {answers.response.comment}")
                found.update(filter(None, map(sop_instance_in, answers.identifiers)))
        return found


def image_query(study: str, series: str) -> bytes:
    """An identifier (Explicit VR Little Endian) for all instances of one series."""
    return (
        element(0x00080018, "UI", "")
        + element(0x00080052, "CS", "IMAGE")
        + element(0x0020000D, "UI", study)
        + element(0x0020000E, "UI", series)
    )


def sop_instance_in(identifier: bytes) -> str:
    """The SOP Instance UID in an answer encoded in Explicit VR Little Endian; empty without one."""
    start = identifier.find(b"\x08\x00\x18\x00UI")
    if start < 0:
        return ""
    length = int.from_bytes(identifier[start + 6 : start + 8], "little")
    return identifier[start + 8 : start + 8 + length].decode("ascii").rstrip("\0 ")
