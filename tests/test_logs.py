"""Logs: one line an event, whoever chose the values."""

from __future__ import annotations

import ast
import errno
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastarchive import logs


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root, ours, loop = logging.getLogger(), logging.getLogger("fastarchive"), logging.getLogger("asyncio")
    handlers, levels, raising = list(root.handlers), (root.level, ours.level, loop.level), logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    for logger, level in zip((root, ours, loop), levels, strict=True):
        logger.setLevel(level)
    logging.raiseExceptions = raising


def written(style: str, event: str, threshold: str = "info", **fields: object) -> str:
    stream = io.StringIO()
    logs.configure(level=threshold, style=style, role="worker", stream=stream)
    logging.getLogger("fastarchive.services.storage").info(event, extra=fields)
    return stream.getvalue()


def test_text_line_holds_event_and_fields() -> None:
    line = written("text", "stored", calling="CT 1", bytes=42, seconds=0.1234567891, fine=True, none=None)
    assert " info worker[" in line
    assert line.endswith(' services.storage stored calling="CT 1" bytes=42 seconds=0.123457 fine=True none=None\n')


def test_json_line_holds_event_and_fields() -> None:
    line = json.loads(written("json", "instance stored", calling="CT1", bytes=42))
    assert line["event"] == "instance stored"
    assert (line["calling"], line["bytes"], line["role"], line["level"]) == ("CT1", 42, "worker", "info")
    assert line["time"].endswith("Z")


def test_field_never_replaces_what_the_line_says_itself() -> None:
    assert json.loads(written("json", "stored", role="forged", level="forged", pid=1))["role"] == "worker"


def test_level_is_respected() -> None:
    assert written("text", "stored", threshold="warning") == ""


def test_error_is_told_by_kind_and_place_and_never_by_its_text() -> None:
    for style in ("text", "json"):
        stream = io.StringIO()
        logs.configure(style=style, stream=stream)
        try:
            try:
                raise FileNotFoundError(errno.ENOENT, "SMITH^ANNA")
            except OSError as error:
                raise ValueError("JONES^BERT") from error
        except ValueError:
            logging.getLogger("fastarchive.x").exception("failed")
        line = stream.getvalue()
        assert line.count("\n") == 1
        assert "ValueError at test_error" in line
        assert "after FileNotFoundError ENOENT at test_error" in line
        assert "(test_logs.py:" in line
        assert "SMITH" not in line
        assert "JONES" not in line


@given(st.text())
def test_no_value_can_forge_a_line(value: str) -> None:
    for style in ("text", "json"):
        line = written(style, "association opened", calling=value)
        assert line.count("\n") == 1
        assert line.endswith("\n")
        assert line[:-1].isprintable()


def test_long_values_are_cut() -> None:
    assert len(written("text", "opened", calling="A" * 10_000)) < logs.MAXIMUM_VALUE + 200


def test_no_field_has_a_name_that_logging_uses_itself() -> None:
    taken = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
    for path in (Path(__file__).parents[1] / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "extra" and isinstance(node.value, ast.Dict):
                names = {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
                assert not names & taken, path


def test_a_flood_is_cut_and_counted() -> None:
    now = 0.0
    limit = logs.FloodLimit(lambda: now)

    def logged(line: int, level: int = logging.WARNING) -> logging.LogRecord | None:
        record = logging.LogRecord("fastarchive.services", level, "storage.py", line, "refused", (), None)
        return record if limit.filter(record) else None

    assert sum(logged(1) is not None for _ in range(10 * logs.BURST)) == logs.BURST
    assert logged(2) is not None  # another event
    assert logged(1, logging.ERROR) is not None
    now = 1.0
    first = logged(1)
    assert first is not None
    assert logs.fields_of(first) == {"left_out": 9 * logs.BURST}
    assert sum(logged(1) is not None for _ in range(100)) == logs.PER_SECOND - 1
    now = 1e6
    assert sum(logged(1) is not None for _ in range(10 * logs.BURST)) == logs.BURST
