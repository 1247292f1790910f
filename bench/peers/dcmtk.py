"""DCMTK's archive and its plain receiver."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from bench.peers.base import Peer
from bench.senders import tool


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
    movable = True
    options: ClassVar[tuple[str, ...]] = ("--fork", "+B", "-pdu", "131072", "-pm")

    @property
    def received(self) -> Path:
        """The folder with one file for each instance."""
        return self.directory / "received"

    def frozen(self, path: Path) -> bool:
        """All it received."""
        return path.parent.name == "received"

    def command(self) -> list[str]:
        self.received.mkdir(exist_ok=True)
        return [tool("storescp"), *self.options, "-od", str(self.received), str(self.dicom_port)]

    def held_of(self, instances: Iterable[tuple[str, str, str]]) -> set[str]:
        """By its file names, which are a modality, a dot and the SOP Instance UID."""
        names = {path.name.partition(".")[2] for path in self.received.iterdir()}
        return {instance for _, _, instance in instances} & names
