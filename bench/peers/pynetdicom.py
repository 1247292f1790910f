"""pynetdicom's example applications."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from bench.peers.base import Peer


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
