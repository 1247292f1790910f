"""A progress bar on stderr, where a person looks at it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from fastarchive.cli.output import console


class Bar:
    """Counts up to a total; shows nothing unless stderr is a terminal. A context manager."""

    def __init__(self, label: str, total: int | None = None, *, in_bytes: bool = False, unit: str = "") -> None:
        screen = console(errors=True)
        self._progress: Any = None
        self._context: Any = nullcontext()
        if not screen.is_terminal:
            return
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        amount = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(), TextColumn(unit))
        columns = (TextColumn(label), BarColumn(), *amount, TimeRemainingColumn())
        self._progress = self._context = Progress(*columns, console=screen, transient=True)
        self._task = self._progress.add_task(label, total=total)

    def __enter__(self) -> Bar:
        self._context.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)

    def advance(self, count: int = 1) -> None:
        """So much more is done."""
        if self._progress is not None:
            self._progress.advance(self._task, count)

    def total(self, count: int) -> None:
        """There is so much to do."""
        if self._progress is not None:
            self._progress.update(self._task, total=count)
