"""The conformance statement says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastarchive.services import dispatch, find, retrieve, storage, suboperations, verification
from tests.docs.conformance_tables import PAGE, SERVICES, TABLES, current, regions

RULES_LEFT_OPEN = (
    *("Q5", "M4", "M8", "M10", "M15", "M16", "M23"),
    *("X1", "X2", "X4", "X5", "X7", "X8", "F4", "F6", "F7", "F10", "R3", "R4", "R7", "R8", "R12"),
)
"""Rules that implementations read differently; the statement says what was chosen."""


def test_every_table_is_in_the_page_once() -> None:
    assert sorted(regions(PAGE.read_text())) == sorted(TABLES)


def test_the_tables_are_those_of_the_code() -> None:
    text = PAGE.read_text()
    assert text == current(text), "renew them with python -m tests.docs.conformance_tables"


@pytest.mark.parametrize(
    ("service", "modules"),
    [
        ("C-ECHO", [verification]),
        ("C-STORE", [storage]),
        ("C-FIND", [find]),
        ("C-MOVE, C-GET", [retrieve, suboperations]),
        ("any other request", [dispatch]),
    ],
)
def test_every_status_a_service_can_answer_with_is_listed(service: str, modules: list[object]) -> None:
    source = "".join(Path(str(getattr(module, "__file__", ""))).read_text() for module in modules)
    answered = set(re.findall(r"\bstatus\.([A-Z][A-Z_]+)", source))
    assert answered, service
    # A900 and the two pending statuses of C-FIND are decided by the query, whoever sends them.
    of_the_query = {"IDENTIFIER_DOES_NOT_MATCH", "PENDING", "PENDING_WITH_UNSUPPORTED_KEYS"}
    assert answered - set(SERVICES[service]) == set()
    assert set(SERVICES[service]) - answered <= of_the_query


@pytest.mark.parametrize("rule", RULES_LEFT_OPEN)
def test_what_was_chosen_where_the_standard_leaves_a_choice(rule: str) -> None:
    assert re.search(rf"^\| {rule} \| \S", PAGE.read_text(), re.MULTILINE)


def test_links_lead_somewhere() -> None:
    for page in PAGE.parent.glob("*.md"):
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
            linked = page.parent / target if target else page
            assert linked.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in _anchors(linked), f"{page.name}: {target}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as they are made when it is shown."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
