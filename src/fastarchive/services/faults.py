"""Errors for the log and for the peer, told without a word of what a data set holds."""

from __future__ import annotations

import logging
import traceback

__all__ = ["COMMENT_LENGTH", "comment_of", "log_unexpected"]

COMMENT_LENGTH = 64
"""Characters an Error Comment (0000,0902) may have: VR LO (PS3.7 Annex C)."""


def comment_of(text: str) -> str:
    """`text` as an Error Comment: the default repertoire, one value, at most 64 characters."""
    plain = "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in text)
    return plain[:COMMENT_LENGTH].rstrip()


def log_unexpected(logger: logging.Logger, what: str, error: BaseException) -> None:
    """Log an error nobody foresaw with the places it passed through.

    Its message is left out: it may quote a value, and a value may be a patient's name.
    """
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{frame.name} ({frame.filename.rpartition('/')[2]}:{frame.lineno})" for frame in frames[::-1])
    logger.error("%s: unexpected %s at %s", what, type(error).__name__, places or "an unknown place")
