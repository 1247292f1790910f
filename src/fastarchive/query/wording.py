"""Conditions on the index in words."""

from __future__ import annotations

from fastarchive.dicom.dictionary import keyword_of, vr_of
from fastarchive.index.conditions import And, Condition, Everything, Grams, Or, Range, Term


def describe(condition: Condition, *, values: bool = True) -> str:
    """A condition in words, without the values asked for when there are many, or none are wanted."""
    match condition:
        case Everything():
            return "everything"
        case Term(tag, wanted):
            if len(wanted) == 1:
                return f"{keyword_of(tag)} {f'is {wanted[0]}' if values else 'is one value'}"
            return f"{keyword_of(tag)} is one of {len(wanted)}"
        case Range(tag, low, high):
            if not values:
                return f"{keyword_of(tag)} in a range"
            return f"{keyword_of(tag)} from {_bound(tag, low)} to {_bound(tag, high)}"
        case Grams(tag, pieces, start, end):
            if not values:
                return f"{keyword_of(tag)} holds pieces of text"
            text = "…".join(pieces)
            return f"{keyword_of(tag)} holds {'' if start else '…'}{text}{'' if end else '…'}"
        case And(parts):
            return " and ".join(describe(part, values=values) for part in parts)
        case Or(parts):
            return "(" + " or ".join(describe(part, values=values) for part in parts) + ")"


def _bound(tag: int, bound: int | None) -> str:
    """An end of a range as people write it: a date, or a time of the day given in microseconds."""
    if bound is None:
        return "…"
    if vr_of(tag) != "TM":
        return str(bound)
    seconds, fraction = divmod(bound, 1_000_000)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{fraction:06d}" if fraction else text
