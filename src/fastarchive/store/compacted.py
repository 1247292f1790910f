"""What compaction did so far, in a small file for status and metrics. Begun anew if lost."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fastarchive.store.damage import write_json

COMPACTED: Final = "compaction.json"


@dataclass(frozen=True, slots=True)
class Compacted:
    """Sums over all compactions of a data directory."""

    completed: float = 0.0
    """When the last one came to its end, seconds since the epoch; 0: none did."""
    begun: float = 0.0
    """Since when it has been looked after."""
    freed_bytes: int = 0
    moved_records: int = 0
    removed_packs: int = 0

    @property
    def counted_from(self) -> float:
        """From when on the time until the next one counts; 0 if that isn't known."""
        return self.completed or self.begun

    @property
    def completed_at(self) -> str:
        """The same in ISO 8601, UTC; empty if there was none."""
        if not self.completed:
            return ""
        return datetime.fromtimestamp(self.completed, UTC).isoformat(timespec="seconds")


def read_compacted(directory: Path) -> Compacted:
    """What was done so far in a data directory."""
    try:
        return Compacted(**json.loads((directory / COMPACTED).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return Compacted()


def start_counting(directory: Path) -> None:
    """Let the time until the first compaction begin now, unless it has begun. Raises OSError."""
    compacted = read_compacted(directory)
    if not compacted.counted_from:
        write_compacted(directory, replace(compacted, begun=time.time()))


def write_compacted(directory: Path, compacted: Compacted) -> None:
    """Replace it. Raises OSError."""
    write_json(directory / COMPACTED, asdict(compacted))
