"""Folders of tests that hold an index, which may be written to for a moment after it is closed."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def temporary_folder(parent: str | None = None) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield folder
    finally:
        remove(folder)


def remove(folder: Path, deadline: float = 20.0) -> None:
    """Remove a folder with all that is in it. Tantivy's merges end in their own time, after the index is closed: where
    one adds a file meanwhile, try again. Raises OSError after `deadline` seconds."""
    end = time.monotonic() + deadline
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=time.monotonic() < end)
