"""The archives that are compared: how each is started with its best documented settings, and asked what it holds.

Every peer gets a fresh folder and a free port on the loopback interface, and is gone afterwards. What is peculiar to a
peer stands in its class.
"""

from __future__ import annotations

import abc
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Self

from bench.encoding import element
from bench.modality import Instance
from bench.requestor import STUDY_ROOT_FIND, VERIFICATION, Context, RequestError, Requestor
from bench.senders import tool

HOST = "127.0.0.1"


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Peer(abc.ABC):
    """A DICOM archive as a process."""

    name: ClassVar[str]
    """What it is called on the command line."""
    remark: ClassVar[str]
    """What the reader of a table must know about its durability and settings."""
    ae_title: str = "ANY-SCP"
    prefix: Sequence[str] = ()
    """What its command line is prefixed with: `taskset` to pin it, `strace` to count its syncs."""
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
        return Requestor(self.host, self.dicom_port, contexts, called=self.ae_title, timeout=timeout)

    def inventory(self) -> dict[str, int]:
        """What its folder holds, by name, as far as it says something about how it will go on; cheap."""
        return {}

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


class Fastarchive(Peer):
    """`fastarchive serve`, with its defaults."""

    name = "fastarchive"
    remark = "fdatasync before the acknowledgement, lossless compression, queryable at once"
    ae_title = "FASTARCHIVE"

    def __init__(
        self,
        directory: Path,
        *,
        nodelay: bool = True,
        destinations: Mapping[str, tuple[str, int]] | None = None,
        workers: int | None = None,
        options: Iterable[str] = (),
    ) -> None:
        """workers and options: handed to `serve`; by default the archive decides itself."""
        super().__init__(directory, nodelay=nodelay, destinations=destinations)
        self.workers = workers
        self.options = list(options)
        self.http_port = 0

    def inventory(self) -> dict[str, int]:
        """Segments of the index, and packs."""
        segments = 0
        for meta in (self.directory / "index").glob("**/meta.json"):
            with contextlib.suppress(OSError, ValueError):  # replaced while we looked
                segments += len(json.loads(meta.read_text())["segments"])
        return {"segments": segments, "packs": sum(1 for _ in self.directory.glob("packs/*.pack"))}

    def command(self) -> list[str]:
        self.http_port = self.http_port or free_port()
        command = [sys.executable, "-m", "fastarchive", "serve", "--data", str(self.directory)]
        command += ["--ae-title", self.ae_title, "--host", self.host]
        command += ["--dicom-port", str(self.dicom_port), "--http-port", str(self.http_port)]
        if self.workers is not None:
            command += ["--workers", str(self.workers)]
        for title, (host, port) in self.destinations.items():
            command += ["--peer", f"{title}={host}:{port}"]
        return command + self.options


class Orthanc(Peer):
    """Orthanc with SQLite, its storage area synced file by file."""

    name = "orthanc"
    remark = "fdatasync of each file, no compression; its SQLite index is not synced per instance"
    ae_title = "ORTHANC"
    settings: ClassVar[dict[str, Any]] = {}

    def __init__(
        self, directory: Path, *, nodelay: bool = True, destinations: Mapping[str, tuple[str, int]] | None = None
    ) -> None:
        super().__init__(directory, nodelay=nodelay, destinations=destinations)
        self.http_port = 0

    def command(self) -> list[str]:
        self.http_port = self.http_port or free_port()
        plugin = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
        configuration = {
            "Name": "bench",
            "StorageDirectory": str(self.directory / "storage"),
            "IndexDirectory": str(self.directory / "index"),
            "Plugins": [str(plugin)] if plugin.exists() else [],
            "DicomAet": self.ae_title,
            "DicomPort": self.dicom_port,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "UnknownSopClassAccepted": True,
            "DicomThreadsCount": 16,
            "MaximumPduLength": 131072,
            "DicomModalities": {title: [title, host, port] for title, (host, port) in self.destinations.items()},
            **self.settings,
        }
        path = self.directory / "orthanc.json"
        path.write_text(json.dumps(configuration, indent=1))
        return [tool("Orthanc", "orthanc"), str(path)]

    def request(self, path: str, body: object = None, method: str | None = None) -> Any:
        """Call its REST interface and return the decoded answer. Raises urllib.error.HTTPError on a refusal."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{HOST}:{self.http_port}{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            content: bytes = answer.read()
            if answer.headers.get_content_type() == "application/json":
                return json.loads(content)
            return content


class OrthancUnsynced(Orthanc):
    """Orthanc without any sync: what is acknowledged may be lost with the power."""

    name = "orthanc-unsynced"
    remark = "SyncStorageArea off: not durable, no compression"
    settings: ClassVar[dict[str, Any]] = {"SyncStorageArea": False}


class OrthancCompressed(Orthanc):
    """Orthanc with its zlib compression."""

    name = "orthanc-compressed"
    remark = "fdatasync of each file, StorageCompression (zlib)"
    settings: ClassVar[dict[str, Any]] = {"StorageCompression": True}


class Dcmqrscp(Peer):
    """DCMTK's image archive. At most 500 studies, 1 GiB a study and 10,000 images; loses some with many senders."""

    name = "dcmqrscp"
    remark = "never syncs, no compression; check what is missing"
    ae_title = "DCMQRSCP"

    def command(self) -> list[str]:
        area = self.directory / "area"
        area.mkdir(exist_ok=True)
        hosts = [f"entry{n} = ({t}, {h}, {p})" for n, (t, (h, p)) in enumerate(self.destinations.items())]
        lines = [
            f"NetworkTCPPort = {self.dicom_port}",
            "MaxPDUSize = 131072",
            "MaxAssociations = 64",
            "HostTable BEGIN",
            *hosts,
            "HostTable END",
            "VendorTable BEGIN",
            "VendorTable END",
            "AETable BEGIN",
            f"{self.ae_title} {area} RW (500, 1024mb) ANY",
            "AETable END",
        ]
        path = self.directory / "dcmqrscp.cfg"
        path.write_text("\n".join(lines) + "\n")
        return [tool("dcmqrscp"), "-c", str(path), "+B"]


class StoreScp(Peer):
    """DCMTK's storescp: a plain receiver without an index."""

    name = "storescp"
    remark = "never syncs, no compression, no index"
    ae_title = "STORESCP"
    options: ClassVar[tuple[str, ...]] = ("--fork", "+B", "-pdu", "131072", "-pm")

    @property
    def received(self) -> Path:
        """The folder with one file for each instance."""
        return self.directory / "received"

    def command(self) -> list[str]:
        self.received.mkdir(exist_ok=True)
        return [tool("storescp"), *self.options, "-od", str(self.received), str(self.dicom_port)]

    def held_of(self, instances: Iterable[tuple[str, str, str]]) -> set[str]:
        """By its file names, which are a modality, a dot and the SOP Instance UID."""
        names = {path.name.partition(".")[2] for path in self.received.iterdir()}
        return {instance for _, _, instance in instances} & names


class PynetdicomStoreScp(Peer):
    """pynetdicom's storescp application: a receiver in Python."""

    name = "pynetdicom"
    remark = "never syncs, no compression, no index; Python"
    ae_title = "STORESCP"

    @property
    def received(self) -> Path:
        """The folder with one file for each instance."""
        return self.directory / "received"

    def command(self) -> list[str]:
        options = ["-od", str(self.received), "--max-pdu", "0"]
        return [sys.executable, "-m", "pynetdicom", "storescp", str(self.dicom_port), *options]

    def held_of(self, instances: Iterable[tuple[str, str, str]]) -> set[str]:
        """By its file names, which are a modality, a dot and the SOP Instance UID."""
        names = {path.name.partition(".")[2] for path in self.received.iterdir()}
        return {instance for _, _, instance in instances} & names


class PynetdicomQrScp(Peer):
    """pynetdicom's qrscp application: an archive in Python with SQLite, a file for each instance."""

    name = "qrscp"
    remark = "never syncs the files, no compression; pynetdicom's example archive (SQLite index)"
    ae_title = "QRSCP"

    def command(self) -> list[str]:
        instances = self.directory / "instances"
        instances.mkdir(exist_ok=True)
        lines = [
            "[DEFAULT]",
            f"ae_title: {self.ae_title}",
            f"port: {self.dicom_port}",
            "max_pdu: 0",  # no limit: fewest PDUs, for its engine takes its time with each
            "acse_timeout: 30",
            "dimse_timeout: 30",
            "network_timeout: 300",
            f"bind_address: {self.host}",
            f"instance_location: {instances}",
            f"database_location: {self.directory / 'instances.sqlite'}",
            "log_identifier: False",
        ]
        for title, (host, port) in self.destinations.items():
            lines += [f"[{title}]", f"address: {host}", f"port: {port}"]
        path = self.directory / "qrscp.ini"
        path.write_text("\n".join(lines) + "\n")
        return [sys.executable, "-m", "pynetdicom", "qrscp", "-c", str(path), "--quiet"]


class Elsewhere(Peer):
    """Any DICOM server that runs already, by AET@HOST:PORT; its processor time and memory are not known."""

    name = "elsewhere"
    remark = "started by somebody else"

    def __init__(self, address: str) -> None:
        """address: AET@HOST:PORT. Raises ValueError for anything else."""
        super().__init__(Path())
        title, at, place = address.partition("@")
        host, colon, port = place.rpartition(":")
        if not (at and colon and title and host and port.isdigit()):
            raise ValueError(f"{address!r} is not AET@HOST:PORT")
        self._address = address
        self.ae_title = title
        self.host, self.dicom_port = host, int(port)

    @property
    def label(self) -> str:
        return self._address

    def command(self) -> list[str]:
        raise NotImplementedError("it runs already")

    def start(self) -> Self:
        """Ask whether it answers. Raises RuntimeError if not."""
        if not self._answers():
            raise RuntimeError(f"{self._address} does not answer C-ECHO")
        return self


PEERS: dict[str, type[Peer]] = {
    peer.name: peer
    for peer in (
        Fastarchive,
        Orthanc,
        OrthancUnsynced,
        OrthancCompressed,
        Dcmqrscp,
        StoreScp,
        PynetdicomStoreScp,
        PynetdicomQrScp,
    )
}
"""Everything that can be started, by name."""
