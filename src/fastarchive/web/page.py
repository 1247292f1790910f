"""The start page: the archive's status as one small HTML page without scripts or anything from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1rem; margin: 1.8rem 0 .4rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #8884; font-weight: normal; }
th { opacity: .7; width: 14rem; vertical-align: top; } td { font-variant-numeric: tabular-nums; }
.ready { color: #1a7f37; } .not { color: #cf222e; font-weight: 600; }
"""


def start_page(status: Mapping[str, Any]) -> str:
    """The page for what WebState.status() returns."""
    mood = "ready" if status["ready"] else "not"
    word = "ready" if status["ready"] else "not ready"
    if status["degraded"]:
        mood, word = "not", "degraded"
    checks = [
        (name, f'<span class="{"ready" if check["ready"] else "not"}">{escape(str(check["detail"]))}</span>')
        for name, check in status["checks"].items()
    ]
    processes = [
        (process["name"], f"{escape(str(process['state']))}, process {process['pid']}, restarts {process['restarts']}")
        for process in status["processes"]
    ]
    facts = [(name, escape(_shown(value))) for name, value in flatten(status["archive"])]
    sections = "".join(
        f"<h2>{title}</h2><table>{_rows(rows)}</table>"
        for title, rows in (("Readiness", checks), ("Archive", facts), ("Processes", processes))
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>fastarchive</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f'<h1>{escape(str(status["ae_title"]))} <span class="{mood}">{word}</span></h1>'
        f"<p>fastarchive {escape(str(status['version']))} · "
        '<a href="/status">status</a> · <a href="/readyz">readiness</a> · <a href="/metrics">metrics</a></p>'
        f"{sections}</body></html>"
    )


def flatten(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested facts as a flat list of (name, value): ``{"a": {"b": 1}}`` → ``[("a b", 1)]``."""
    flat: list[tuple[str, Any]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            flat += flatten(value, f"{prefix}{name} ")
        else:
            flat.append((f"{prefix}{name}".replace("_", " "), value))
    return flat


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}".replace(",", " ")
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    return str(value)


def _rows(rows: list[tuple[str, str]]) -> str:
    return "".join(f"<tr><th>{escape(name)}</th><td>{text}</td></tr>" for name, text in rows)
