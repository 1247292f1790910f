"""Results as a Markdown table for people and JSON for machines."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first column is left aligned, all others right, padded to be read as plain text too."""
    cells = [list(map(str, header)), *([_cell(value) for value in row] for row in rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    lines = ["| " + " | ".join(_pad(row, widths)) + " |" for row in cells]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([lines[0], "| " + " | ".join(rule) + " |", *lines[1:]])


def _pad(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return figure(value)
    return str(value)


def figure(value: float) -> str:
    """A number with three significant digits and no false precision."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def ratio(ours: float, theirs: float) -> str:
    """How many times `theirs` goes into `ours`."""
    return f"{figure(ours / theirs)} ×" if theirs else "–"


def middle(values: Sequence[float]) -> float:
    """The median; 0 of nothing."""
    return median(values) if values else 0.0


def machine() -> dict[str, Any]:
    """What a figure depends on besides the software."""
    model = ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        model = platform.processor()
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": model,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
    }


def write_json(path: Path, scenario: str, settings: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> None:
    """All results of a run, one object each, with the machine they come from."""
    document = {"scenario": scenario, "machine": machine(), "settings": dict(settings), "results": list(results)}
    path.write_text(json.dumps(document, indent=1, default=str) + "\n")


def progress(text: str) -> None:
    """One line for whoever waits, on standard error so that tables can be piped."""
    print(text, file=sys.stderr, flush=True)
