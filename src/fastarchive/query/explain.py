"""A query and its plan in words: to learn from, to debug with, and for tests to hold plans to."""

from __future__ import annotations

from typing import Final

from fastarchive.dicom.dictionary import keyword_of
from fastarchive.dicom.matching import Matching
from fastarchive.index.conditions import And, Condition, Everything, Grams, Or, Range, Term
from fastarchive.index.view import View
from fastarchive.query.criteria import criteria_of
from fastarchive.query.identifier import FindQuery, Key, Use
from fastarchive.query.narrow import EVERYTHING, narrow
from fastarchive.query.plan import Lookup, Plan, Scan, Select, Trace, Walk

CLAUSES: Final = {
    Matching.SINGLE: "C.2.2.2.1",
    Matching.UID_LIST: "C.2.2.2.2",
    Matching.UNIVERSAL: "C.2.2.2.3",
    Matching.WILDCARD: "C.2.2.2.4",
    Matching.RANGE: "C.2.2.2.5",
    Matching.EMPTY: "C.2.2.2.7",
    Matching.MULTIPLE: "C.2.2.2.8",
    Matching.FUZZY: "C.2.2.2.1.1",
}
"""The clause of PS3.4 that says how each kind of matching works."""


def explain(plan: Plan, view: View | None = None, trace: Trace | None = None) -> list[str]:
    """The keys of a query in tag order, then the steps of its plan, the last one first, a line each.

    With a view, steps tell how many entities the index expects; with the trace of a run, what they really did.
    """
    query = plan.query
    way = "relational" if query.options.relational else "hierarchical"
    lines = [f"{query.level} query, {query.model.value}, {way}"]
    narrowing = _narrowing(query)
    lines += [f"  {_key(key, narrowing)}" for key in query.keys]
    return lines + _step(plan.root, view, trace, 1)


def _narrowing(query: FindQuery) -> dict[int, str]:
    return {
        matcher.tag: describe(condition)
        for criterion in criteria_of(query)
        if (condition := narrow(criterion)) != EVERYTHING
        for matcher in criterion.matchers
    }


def _key(key: Key, narrowing: dict[int, str]) -> str:
    kind = "unknown" if key.use is Use.UNSUPPORTED else key.kind.value
    if key.matcher is None:
        return f"{key.name} ({kind}): {key.use}"
    matching = key.matcher.matching
    help_of_index = narrowing.get(key.tag, "no help")
    return f"{key.name} ({kind}): {matching.value} matching ({CLAUSES[matching]}), index: {help_of_index}"


def _step(step: Select, view: View | None, trace: Trace | None, depth: int) -> list[str]:
    indent = "  " * depth
    lines = []
    if step.criteria:
        lines.append(f"{indent}decide by {', '.join(map(str, step.criteria))}")
    if step.joins:
        lines.append(f"{indent}join {', '.join(step.joins)}")
    match step.source:
        case Lookup(level, keys):
            lines.append(f"{indent}look up {level} by {len(keys)} UID{'s' if len(keys) > 1 else ''}")
        case Scan(level, condition):
            expected = "" if view is None else f" (about {view.estimate(level, condition)})"
            lines.append(f"{indent}scan {level}: {describe(condition)}{expected}")
        case Walk(level, parents, condition):
            lines.append(f"{indent}walk down to {level}: {describe(condition)}, from")
            lines += _step(parents, view, trace, depth + 1)
    if trace is not None:
        work = trace.of(step)
        lines[0] += f" → {work.found} of {work.looked_at} in {work.seconds * 1000:.1f} ms"
    return lines


def describe(condition: Condition) -> str:
    """A condition in words, without the values asked for when there are many."""
    match condition:
        case Everything():
            return "everything"
        case Term(tag, values):
            return (
                f"{keyword_of(tag)} is {values[0]}"
                if len(values) == 1
                else f"{keyword_of(tag)} is one of {len(values)}"
            )
        case Range(tag, low, high):
            return f"{keyword_of(tag)} from {'…' if low is None else low} to {'…' if high is None else high}"
        case Grams(tag, pieces, start, end):
            text = "…".join(pieces)
            return f"{keyword_of(tag)} holds {'' if start else '…'}{text}{'' if end else '…'}"
        case And(parts):
            return " and ".join(map(describe, parts))
        case Or(parts):
            return "(" + " or ".join(map(describe, parts)) + ")"
