"""Every rule this archive keeps is held by a test that carries its number."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from fastarchive.query.explain import RULES

TESTS = Path(__file__).parent
QUERY_RULES = [
    f"{letter}{number}"
    for letter, last in {"Q": 9, "M": 24, "X": 8, "F": 12, "N": 6}.items()
    for number in range(1, last + 1)
]
"""Identifier and hierarchy, matching, character sets, answers, extended negotiation."""
RULE = re.compile(r"[A-Z]\d{1,2}\Z")


def numbers() -> dict[str, list[str]]:
    """The tests by the rules in their names: ``test_M14_M16_…``, ``test_N1_to_N6_…``."""
    found: dict[str, list[str]] = {}
    for file in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for part in node.name.split("_")[1:]:
                    if RULE.match(part):
                        found.setdefault(part, []).append(node.name)
    return found


NUMBERS = numbers()


@pytest.mark.parametrize("rule", QUERY_RULES)
def test_each_rule_of_queries_has_a_test(rule: str) -> None:
    assert NUMBERS.get(rule), f"no test carries {rule} in its name"


def test_explain_names_rules_that_are_tested() -> None:
    assert set(RULES.values()) <= NUMBERS.keys()
