"""Any server that runs already."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from bench.peers.base import Peer


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
