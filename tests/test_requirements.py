"""The locked requirements: all that pyproject.toml asks for, with hashes, from nowhere in particular."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
LOCKS = ("runtime", "development", "build")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(name: str) -> dict[str, str]:
    """Package → version of a lock."""
    text = (REPOSITORY / "requirements" / f"{name}.lock").read_text()
    return {normal(package): version for package, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)}


def asked() -> tuple[set[str], set[str]]:
    """Packages pyproject.toml names: for running, and for test, lint and the load harness."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {normal(re.split(r"[\s\[<>=!~;]", requirement)[0]) for requirement in requirements}

    extras = project["optional-dependencies"]
    return names(project["dependencies"]), names(extras["test"]) | names(extras["lint"]) | names(extras["bench"])


def test_locks_hold_what_is_asked_for() -> None:
    runtime, development = asked()
    assert runtime <= set(locked("runtime"))
    assert runtime | development <= set(locked("development"))
    assert {"hatchling", "editables"} <= set(locked("build"))


def test_development_has_the_versions_of_runtime() -> None:
    development = locked("development")
    assert locked("runtime").items() <= development.items()


@pytest.mark.parametrize("name", LOCKS)
def test_everything_is_pinned_by_hash_and_no_place_is_named(name: str) -> None:
    text = (REPOSITORY / "requirements" / f"{name}.lock").read_text()
    assert "://" not in text
    assert "--index" not in text
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)
