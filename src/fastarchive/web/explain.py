"""GET /explain: how the archive reads a query and answers it, to learn from and to debug with.

    /explain?level=STUDY&PatientName=SMITH*&return=StudyDescription          readable text in a browser or with curl
    /explain?level=STUDY&PatientName=SMITH*&format=json                      the same for programs

The query is run, and thrown away: the answer holds keywords, counts and times. Nothing of what is stored is shown, and
nothing of what was asked for is repeated unless ``values=true`` is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fastarchive.archive import Archive
from fastarchive.query.explain import Explanation
from fastarchive.query.keywords import KeywordError

LONGEST_RUN: Final = 5.0
"""Seconds after which a query that is explained is stopped; the numbers so far are shown."""
_OWN: Final = ("level", "return", "format", "values")
_FORMATS: Final = ("text", "json")


class ExplainError(ValueError):
    """A request that can't be explained; the message says why."""


def wants_json(parameters: Sequence[tuple[str, str]], accept: str) -> bool:
    """Whether to answer with JSON: ``format`` says so, else the Accept header does. Raises ExplainError."""
    asked = dict(parameters).get("format")
    if asked is None:
        return "application/json" in accept
    if asked not in _FORMATS:
        raise ExplainError(f"format: {' or '.join(_FORMATS)}")
    return asked == "json"


def explain_request(archive: Archive, parameters: Sequence[tuple[str, str]]) -> Explanation:
    """The explanation a request asks for with its query parameters. Blocks: call it in a thread.

    Raises ExplainError for what can't be asked, with the words the command line has for it.
    """
    own = {name: value for name, value in parameters if name in _OWN}
    keys: dict[str, str] = {}
    for name, value in parameters:
        if name in keys:
            raise ExplainError(f"{name} is given twice")
        if name not in _OWN:
            keys[name] = value
    if not own.get("level"):
        raise ExplainError("level is missing: PATIENT, STUDY, SERIES or IMAGE")
    returning = [value for name, value in parameters if name == "return"]
    values = own.get("values", "false").lower() in ("true", "1", "yes")
    try:
        return archive.explain(own["level"], keys, returning, values=values, seconds=LONGEST_RUN)
    except KeywordError as error:
        raise ExplainError(str(error)) from error
