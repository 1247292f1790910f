"""Structured logs: one line an event, key=value text or JSON, on stderr.

The message names the event and is a constant; what varies goes into ``extra``::

    logger.info("association opened", extra={"calling": association.calling_ae, "contexts": 3})

    2026-03-01T12:00:00.123Z info worker[4711] upperlayer.association "association opened" calling=CT1 contexts=3

No patient data and no UIDs of patients' objects belong in a log. Whatever a peer can choose (AE titles, addresses) is
written escaped and cut, so that no peer can forge a line or fill a disk with one.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from errno import errorcode
from typing import IO, Final

MAXIMUM_VALUE: Final = 200
BURST: Final = 200
PER_SECOND: Final = 20.0
"""Lines that one place in the code may write: so many at once, so many a second in the long run."""
_ROOT: Final = "fastarchive"
# What every LogRecord has; anything else on a record came in through ``extra``.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def clean(value: object) -> str:
    """A value as one short line of printable characters, whoever chose it."""
    text = str(value)
    if len(text) > MAXIMUM_VALUE:
        text = text[:MAXIMUM_VALUE] + "…"
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What was given as ``extra``; numbers and booleans stay what they are, the rest is cleaned text."""
    return {
        name: value if isinstance(value, bool | int | float) or value is None else clean(value)
        for name, value in vars(record).items()
        if name not in _STANDARD
    }


def described(error: BaseException) -> str:
    """An error as its kind and the places it passed through, innermost first.

    Its message and the source lines are left out: they may quote a value, and a value may be a patient's name.
    """
    kind = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        kind += f" {errorcode.get(error.errno, error.errno)}"
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{frame.name} ({frame.filename.rpartition('/')[2]}:{frame.lineno})" for frame in frames[::-1])
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{kind} at {places or 'an unknown place'}" + (f", after {described(cause)}" if cause else "")


class FloodLimit(logging.Filter):
    """Keeps a peer that makes the same mistake a thousand times a second from filling the disk with it.

    Each place that logs has an allowance of its own, so that no flood hides another event; what is left out is counted
    on the next line from there. Errors are never left out, they are not for peers to cause.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._allowances: dict[tuple[str, int], tuple[float, float, int]] = {}  # left, as of, left out since

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR or record.levelno < logging.INFO:
            return True
        place, now = (record.pathname, record.lineno), self._clock()
        left, before, left_out = self._allowances.get(place, (float(BURST), now, 0))
        left = min(float(BURST), left + (now - before) * PER_SECOND)
        if left < 1:
            self._allowances[place] = (left, now, left_out + 1)
            return False
        self._allowances[place] = (left - 1, now, 0)
        if left_out:
            record.left_out = left_out
        return True


def _time_text(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormatter(logging.Formatter):
    """``TIME level role[pid] room "event" key=value …``, with ``error=`` for an error as :func:`described`."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._who = f"{role}[{os.getpid()}]"

    def format(self, record: logging.LogRecord) -> str:
        parts = [
            _time_text(record),
            record.levelname.lower(),
            self._who,
            record.name.removeprefix(_ROOT + "."),
            _quoted(clean(record.getMessage())),
        ]
        parts += [f"{name}={_quoted(_scalar(value))}" for name, value in fields_of(record).items()]
        if record.exc_info and record.exc_info[1] is not None:
            parts.append(f"error={_quoted(described(record.exc_info[1]))}")
        return " ".join(parts)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, role, pid, logger, event, the fields, and ``error`` as :func:`described`."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role
        self._pid = os.getpid()

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time_text(record),
            "level": record.levelname.lower(),
            "role": self._role,
            "pid": self._pid,
            "logger": record.name,
            "event": clean(record.getMessage()),
        }
        for name, value in fields_of(record).items():
            line.setdefault(name, value)
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = described(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, allow_nan=False, default=clean)


def _scalar(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _quoted(text: str) -> str:
    if text and all(character not in ' "=\\' for character in text):
        return text
    return json.dumps(text, ensure_ascii=False)


def configure(
    *, level: str = "info", style: str = "text", role: str = "fastarchive", stream: IO[str] | None = None
) -> None:
    """Send the logs of this process to ``stream`` (stderr). Called once a process, again to change it.

    level: debug, info, warning or error; style: text or json; role: what this process is, e.g. "worker".
    Other libraries are heard from warning up.
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.addFilter(FloodLimit())
    handler.setFormatter(JsonFormatter(role) if style == "json" else TextFormatter(role))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(_ROOT).setLevel(level.upper())
    # asyncio warns of every write to a connection that is gone; that is an event of its association and logged there.
    logging.getLogger("asyncio").setLevel(logging.ERROR if level != "debug" else logging.DEBUG)
    logging.raiseExceptions = False
