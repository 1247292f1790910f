"""Errors for the log and for the peer, told without a word of what a data set holds."""

from __future__ import annotations

import logging

from fastarchive.logs import described

__all__ = ["COMMENT_LENGTH", "comment_of", "log_unexpected"]

COMMENT_LENGTH = 64
"""Characters an Error Comment (0000,0902) may have: VR LO (PS3.7 Annex C)."""


def comment_of(text: str) -> str:
    """`text` as an Error Comment: the default repertoire, one value, at most 64 characters."""
    if not text:
        return ""
    plain = "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in text)
    return plain[:COMMENT_LENGTH].rstrip()


def log_unexpected(logger: logging.Logger, what: str, error: BaseException) -> None:
    """Log an error nobody foresaw by its kind and the places it passed through, never by its message."""
    logger.error("%s: unexpected %s", what, described(error))
