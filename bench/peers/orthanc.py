"""Orthanc, as Debian packages it, with its three ways of storing."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from bench.peers.base import Peer
from bench.peers.ports import HOST, free_port
from bench.senders import tool


class Orthanc(Peer):
    """Orthanc with SQLite, its storage area synced file by file."""

    name = "orthanc"
    remark = "fdatasync of each file, no compression; its SQLite index is not synced per instance"
    ae_title = "ORTHANC"
    movable = True
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

    def frozen(self, path: Path) -> bool:
        """The files of its storage area: written once."""
        return self.directory / "storage" in path.parents

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
