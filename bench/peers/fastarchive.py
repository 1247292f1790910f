"""fastarchive itself."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.peers.base import Peer
from bench.peers.ports import free_port


class Fastarchive(Peer):
    """`fastarchive serve`, with its defaults."""

    name = "fastarchive"
    remark = "fdatasync before the acknowledgement, lossless compression, queryable at once"
    ae_title = "FASTARCHIVE"
    movable = True

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

    def count(self) -> int:
        """What the seals of its packs say, and a walk over those without one."""
        from fastarchive.upkeep.reindex import count_records

        return count_records(self.directory)

    def frozen(self, path: Path) -> bool:
        """Sealed packs (docs/format.md: the seal is at 512 of the header page), and files of index segments."""
        if path.suffix == ".pack":
            with path.open("rb") as file:
                return file.read(520)[512:518] == b"SEALED"
        return path.parent.name == "index" and path.suffix not in {".json", ".lock"}

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
