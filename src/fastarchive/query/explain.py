"""A query and its plan in words: to learn from, to debug with, and for tests to hold plans to.

An ``Explanation`` says how a query was read (each key with its kind, its matching and the clause of PS3.4), how it is
answered (the steps of the plan with what was expected and what was done), and what the index could not help with.
Made with ``values=False`` it holds no value of any key, so that it can be logged: numbers, keywords and times only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from fastarchive.dicom.attributes import ANSWERED_AT_EVERY_LEVEL, UNIQUE_KEYS, Level
from fastarchive.dicom.dictionary import keyword_of
from fastarchive.dicom.matching import NUMERIC_VRS, Matching
from fastarchive.index.conditions import And, Condition, Everything, Grams, Or, Range, Term
from fastarchive.index.view import View
from fastarchive.query.computed import AGGREGATES
from fastarchive.query.criteria import MomentCriterion, criteria_of
from fastarchive.query.identifier import Key, Use
from fastarchive.query.narrow import EVERYTHING, narrow
from fastarchive.query.plan import Lookup, Plan, Scan, Select, Trace, Walk
from fastarchive.query.wording import describe

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

RULES: Final = {
    Matching.SINGLE: "M3",
    Matching.UID_LIST: "M11",
    Matching.UNIVERSAL: "M1",
    Matching.WILDCARD: "M5",
    Matching.RANGE: "M14",
    Matching.EMPTY: "M20",
    Matching.MULTIPLE: "M12",
    Matching.FUZZY: "M22",
}
"""The rule of ``dicom.matching`` each kind of matching begins with."""

_RULES_OF_VR: Final = {
    (Matching.RANGE, "TM"): "M15",
    (Matching.RANGE, "DT"): "M16",
    **{(Matching.SINGLE, vr): "M4" for vr in NUMERIC_VRS},
}
"""Where another rule says more of a VR."""

_NEGOTIATED: Final = {
    "combined_datetime": "dates and times combined",
    "fuzzy": "fuzzy names",
    "timezone": "time zones adjusted",
    "empty_value": "empty value matching",
    "multiple_value": "multiple value matching",
    "match_unknown": "unknown values match",
}


@dataclass(frozen=True, slots=True)
class KeyNote:
    """What became of one key. ``matching`` and ``clause`` are "" and ``index`` None where nothing is matched."""

    keyword: str
    kind: str
    use: str
    matching: str = ""
    clause: str = ""
    rule: str = ""
    index: str | None = None
    computed: bool = False


@dataclass(frozen=True, slots=True)
class StepNote:
    """One step of a plan. ``expected``, of the entities it looks at, is None without a view; without a trace, the
    numbers of what was done are."""

    level: str
    source: str
    decides: tuple[str, ...]
    joins: tuple[str, ...]
    expected: int | None = None
    looked_at: int | None = None
    found: int | None = None
    milliseconds: float | None = None
    """With the steps below it; not with what the receiver of the answers took."""
    from_step: StepNote | None = None


@dataclass(frozen=True, slots=True)
class HeaderNote:
    """What is looked up in headers of what was found. ``expected``, of the headers read, is None without a view;
    without a trace, the numbers of what was done are."""

    whose: str
    decides: tuple[str, ...]
    returns: tuple[str, ...]
    expected: int | None = None
    read: int | None = None
    found: int | None = None
    milliseconds: float | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A query explained; ``lines`` for people, ``as_json`` for programs."""

    level: str
    model: str
    relational: bool
    options: tuple[str, ...]
    """What else was agreed to, in words."""
    keys: tuple[KeyNote, ...]
    step: StepNote
    residual: tuple[str, ...]
    """The conditions the plan narrows by no index: decided on each entity it looks at."""
    headers: HeaderNote | None = None
    """The headers of instances read for keys the index does not hold; None if there are no such keys."""
    tail_records: int | None = None
    """Stored records the index does not hold yet; what they touch is looked at first."""
    complete: bool = True
    """False for a run that was stopped before its end."""

    def lines(self) -> list[str]:
        """The explanation as text."""
        way = ["relational" if self.relational else "hierarchical", *self.options]
        lines = [f"{self.level} query in {self.model}, {', '.join(way)}", "keys"]
        names = max((len(key.keyword) for key in self.keys), default=0)
        lines += [f"  {key.keyword:{names}}  {key.kind:8}  {_use(key)}" for key in self.keys]
        lines.append("plan")
        if self.headers is None:
            lines += _step_lines(self.step, 1)
        else:
            lines += [*_header_lines(self.headers), *_step_lines(self.step, 2)]
        if self.residual:
            lines.append(f"residual: {', '.join(self.residual)}; not narrowed, decided on every entity looked at")
        elif any(key.matching and key.use == Use.MATCH for key in self.keys):
            lines.append("residual: none, an index narrows every matching key")
        else:
            lines.append("residual: none, nothing is matched")
        if self.tail_records:
            lines.append(f"tail: {self.tail_records} records not in the index yet, looked at first")
        if not self.complete:
            lines.append("stopped before the end: the numbers are of what was done so far")
        return lines

    def as_json(self) -> dict[str, Any]:
        """The explanation as what JSON can hold."""
        return {
            "level": self.level,
            "model": self.model,
            "relational": self.relational,
            "options": list(self.options),
            "keys": [
                {
                    "keyword": key.keyword,
                    "kind": key.kind,
                    "use": str(key.use),
                    "matching": key.matching or None,
                    "clause": f"PS3.4 {key.clause}" if key.clause else None,
                    "rule": key.rule or None,
                    "index": key.index,
                    "computed": key.computed,
                }
                for key in self.keys
            ],
            "plan": _step_json(self.step),
            "headers": None if self.headers is None else asdict(self.headers),
            "residual": list(self.residual),
            "tail_records": self.tail_records,
            "complete": self.complete,
        }


def explain(
    plan: Plan,
    view: View | None = None,
    trace: Trace | None = None,
    *,
    values: bool = True,
    complete: bool = True,
) -> Explanation:
    """How a query is read and answered.

    With a view, steps tell how many entities the index expects; with the trace of a run, what they really did, and
    ``complete`` says whether it came to its end. Without ``values`` nothing of what the keys ask for is repeated.
    """
    query = plan.query
    used = set(_tags_of_plan(plan.root))
    help_of_index: dict[int, str] = {}
    residual: list[str] = []
    combined: set[int] = set()
    for criterion in criteria_of(query):
        if isinstance(criterion, MomentCriterion):
            combined |= {matcher.tag for matcher in criterion.matchers}
        condition = narrow(criterion)
        tags = {matcher.tag for matcher in criterion.matchers}
        if condition == EVERYTHING or not tags & used:
            residual.append(str(criterion))
        else:
            help_of_index |= dict.fromkeys(tags, describe(condition, values=values))
    residual += [keyword_of(key.tag) for key in query.header_keys if key.decides]
    return Explanation(
        level=query.level.value,
        model=query.model.value,
        relational=query.options.relational,
        options=tuple(words for name, words in _NEGOTIATED.items() if getattr(query.options, name)),
        keys=tuple(_key(key, help_of_index, combined) for key in query.keys),
        step=_step(plan.root, view, trace, values),
        residual=tuple(residual),
        headers=_headers(plan, view, trace),
        tail_records=None if view is None else view.tail_length,
        complete=complete,
    )


def _key(key: Key, help_of_index: dict[int, str], combined: set[int]) -> KeyNote:
    kind = "unknown" if key.use in (Use.UNSUPPORTED, Use.UNSCOPED) else key.kind.value
    computed = key.tag in AGGREGATES or key.tag in ANSWERED_AT_EVERY_LEVEL
    if key.use not in (Use.MATCH, Use.RETURN):
        return KeyNote(key.name, kind, key.use, rule="Q5" if key.use is Use.BELOW else "F3", computed=computed)
    if key.creator:
        return KeyNote(key.name, kind, key.use, rule="Q8")
    if key.header is not None and key.header.sequence is not None and key.header.decides:
        return KeyNote(key.name, kind, key.use, "sequence", "C.2.2.2.6", "M19", "none, headers are read")
    if key.tag in combined:
        index = help_of_index.get(key.tag)
        return KeyNote(key.name, kind, key.use, "combined range", CLAUSES[Matching.RANGE], "M17", index, computed)
    matching = Matching.UNIVERSAL if key.matcher is None else key.matcher.matching
    if key.header is not None and key.header.matching is not None:
        matching = key.header.matching
    index = help_of_index.get(key.tag) if key.use is Use.MATCH else None
    if key.header is not None and key.header.decides:
        index = "none, headers are read"
    rule = _RULES_OF_VR.get((matching, key.vr), RULES[matching])
    return KeyNote(key.name, kind, key.use, matching.value, CLAUSES[matching], rule, index, computed)


def _headers(plan: Plan, view: View | None, trace: Trace | None) -> HeaderNote | None:
    keys = plan.query.header_keys
    if not keys:
        return None
    level = plan.query.level
    whose = {Level.IMAGE: "each instance", Level.SERIES: "the first instance of each series"}
    work = None if trace is None else trace.headers
    return HeaderNote(
        whose=whose.get(level, "the first instance of each series, until there is a value"),
        decides=tuple(keyword_of(key.tag) for key in keys if key.decides),
        returns=tuple(keyword_of(key.tag) for key in keys if not key.decides),
        expected=None if view is None else _expected_headers(plan.root, view),
        read=None if work is None else work.read,
        found=None if work is None else work.found,
        milliseconds=None if work is None else round(work.seconds * 1000, 3),
    )


def _expected_headers(root: Select, view: View) -> int:
    """How many headers there are to read at most: one for each instance, or for each series of what is found."""
    found = _expected(root, view)
    if root.level in (Level.SERIES, Level.IMAGE):
        return found
    counts = view.counts()
    return round(found * counts[Level.SERIES] / max(1, counts[root.level]))


def _header_lines(note: HeaderNote) -> list[str]:
    done = "" if note.found is None else f": {note.found} found, {note.read} read, {note.milliseconds:.1f} ms"
    expected = "" if note.expected is None else f" (expected: {note.expected})"
    lines = [f"  read the header of {note.whose}{expected}{done}"]
    if note.decides:
        lines.append(f"    each has to meet {', '.join(note.decides)}")
    if note.returns:
        lines.append(f"    each is asked for {', '.join(note.returns)}")
    return lines


def _use(key: KeyNote) -> str:
    computed = ", computed" if key.computed else ""
    rules = f"{key.clause}, {key.rule}" if key.clause else key.rule
    if key.use == Use.MATCH:
        return f"matches by {key.matching} ({rules}), index: {key.index or 'not used'}{computed}"
    return f"{key.use} ({rules}){computed}"


def _step(step: Select, view: View | None, trace: Trace | None, values: bool) -> StepNote:
    parents: StepNote | None = None
    match step.source:
        case Lookup(level, keys):
            source = f"look up {level} by {describe(Term(UNIQUE_KEYS[level], keys), values=values)}"
        case Scan(level, condition):
            source = f"search {level} for {describe(condition, values=values)}"
        case Walk(level, above, condition):
            parents = _step(above, view, trace, values)
            source = f"walk down to {level}, {describe(condition, values=values)}"
    work = None if trace is None else trace.of(step)
    return StepNote(
        level=step.level.value,
        source=source,
        decides=tuple(map(str, step.criteria)),
        joins=tuple(level.value for level in step.joins),
        expected=None if view is None else _expected(step, view),
        looked_at=None if work is None else work.looked_at,
        found=None if work is None else work.found,
        milliseconds=None if work is None else round(work.seconds * 1000, 3),
        from_step=parents,
    )


def _expected(step: Select, view: View) -> int:
    """How many entities a step should look at: from the index, with all the tail has touched, which is looked at first;
    on a walk from how many children entities have."""
    match step.source:
        case Lookup(_, keys):
            return len(keys)
        case Scan(level, condition):
            return view.estimate(level, condition) + len(view.tail_documents(level))
        case Walk(level, parents, condition):
            counts = view.counts()
            children = _expected(parents, view) * counts[level] / max(1, counts[parents.level])
            if isinstance(condition, Everything):
                return round(children)
            return min(round(children), view.estimate(level, condition)) + len(view.tail_documents(level))


def _step_lines(step: StepNote, depth: int) -> list[str]:
    indent = "  " * depth
    done = ""
    if step.found is not None:
        done = f": {step.found} found, {step.looked_at} looked at, {step.milliseconds:.1f} ms"
    lines = [f"{indent}find {step.level}{done}"]
    if step.decides:
        lines.append(f"{indent}  each has to meet {', '.join(step.decides)}")
    if step.joins:
        lines.append(f"{indent}  each is joined with {', '.join(step.joins)}")
    expected = "" if step.expected is None else f" (expected: {step.expected})"
    if step.from_step is None:
        return [*lines, f"{indent}  {step.source}{expected}"]
    return [*lines, f"{indent}  {step.source}{expected}, from", *_step_lines(step.from_step, depth + 2)]


def _step_json(step: StepNote) -> dict[str, Any]:
    return {
        "find": step.level,
        "source": step.source,
        "decides": list(step.decides),
        "joins": list(step.joins),
        "expected": step.expected,
        "looked_at": step.looked_at,
        "found": step.found,
        "milliseconds": step.milliseconds,
        "from": None if step.from_step is None else _step_json(step.from_step),
    }


def _tags_of_plan(step: Select) -> Iterator[int]:
    """The attributes by which the steps of a plan narrow."""
    match step.source:
        case Lookup(level, _):
            yield UNIQUE_KEYS[level]
        case Scan(_, condition):
            yield from _tags_of(condition)
        case Walk(_, parents, condition):
            yield from _tags_of(condition)
            yield from _tags_of_plan(parents)


def _tags_of(condition: Condition) -> Iterator[int]:
    match condition:
        case Term(tag) | Range(tag) | Grams(tag):
            yield tag
        case And(parts) | Or(parts):
            for part in parts:
                yield from _tags_of(part)
        case Everything():
            return
