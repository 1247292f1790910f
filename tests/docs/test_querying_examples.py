"""What docs/querying.md shows is what the commands print, in both languages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastarchive.cli import app
from fastarchive.query.options import NEGOTIABLE
from tests.docs.example_archive import write_images
from tests.docs.examples import DOCS, Example, Shell, comparable, examples_of

ENGLISH, CHINESE = DOCS / "querying.md", DOCS / "querying.zh-CN.md"
EXAMPLES = [*examples_of(ENGLISH), *examples_of(CHINESE)]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with Shell(tmp_path_factory.mktemp("examples") / "data") as running:
        yield running


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.name for example in EXAMPLES])
def test_example(shell: Shell, example: Example) -> None:
    printed = shell.run(example.command)
    assert comparable(example, printed) == comparable(example, example.output), (
        f"{example.name} shows something else than the command prints; if that is right, renew the page with "
        f"python -m tests.docs.examples --update docs/{example.page}"
    )


@pytest.mark.parametrize("page", [ENGLISH, CHINESE])
def test_addresses_answer(shell: Shell, page: Path) -> None:
    urls = re.findall(r"^curl '([^']+)'$", page.read_text(), re.MULTILINE)
    assert len(urls) == 2
    (plain, text), (as_json, document) = map(shell.get, urls)
    assert (plain, as_json) == (200, 200)
    assert text.decode().startswith("STUDY query in Study Root, relational\nkeys\n")
    assert json.loads(document)["plan"]["found"] > 0


def test_the_images_can_be_made_and_imported(tmp_path: Path) -> None:
    written = write_images(tmp_path / "images")
    done = CliRunner().invoke(app, ["import", "--data", str(tmp_path / "data"), str(tmp_path / "images")])
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{len(written)} stored, 0 refused")
    for page in (ENGLISH, CHINESE):
        assert str(len(written)) in page.read_text().partition("example-images")[2].partition("\n")[0]


@pytest.mark.parametrize("page", [ENGLISH, CHINESE])
def test_extended_negotiation_is_that_of_the_code(page: Path) -> None:
    rows = re.findall(r"^\| ([1-9]) \| .* \| (yes|no|支持|不支持)", page.read_text(), re.MULTILINE)
    answered = [(number, word in ("yes", "支持")) for number, word in rows]
    assert answered == [(str(number), done) for number, (_, done) in enumerate(NEGOTIABLE, start=1)]


def test_both_languages_have_the_same_chapters() -> None:
    levels = [re.findall(r"^(#+) ", page.read_text(), re.MULTILINE) for page in (ENGLISH, CHINESE)]
    assert levels[0] == levels[1]
