"""The examples in a page: commands and what they print, in fenced blocks named ``console``.

    $ fastarchive find study 'PatientName=SMITH*'
    StudyDate  StudyTime  …

A line that begins with ``$`` is a command, continued by lines after a trailing backslash; the lines up to the next one
are its output. Runs of spaces and tabs count as one space and times as equal, so that tables can be aligned.

    python -m tests.docs.examples --update docs/querying.md docs/querying.zh-CN.md     write what the commands print
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from typer.testing import CliRunner

from bench.senders import tool
from fastarchive.cli import app
from tests.docs.example_archive import fill
from tests.server.harness import RunningArchive

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENTED_DICOM_PORT = "11112"
DOCUMENTED_HTTP_PORT = ":8080"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One command of a page and the output the page shows; ``line`` counts from 1."""

    page: str
    line: int
    command: str
    """As it is written, with its continued lines."""
    output: str

    @property
    def is_table(self) -> bool:
        """Whether the output is a line of names and then a line an answer, in any order."""
        return self.command.startswith("$ fastarchive find ") and "--explain" not in self.command

    @property
    def name(self) -> str:
        """What a test is called that runs it."""
        return f"{self.page}:{self.line}"


def examples_of(page: Path) -> list[Example]:
    """The examples of a page in order."""
    text = page.read_text()
    found = []
    for block in _BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1)) + 1
        found += list(_examples(page.name, line, block[1].splitlines()))
    return found


def _examples(page: str, first: int, lines: list[str]) -> Iterator[Example]:
    assert lines[0].startswith("$ "), f"{page}:{first}: a console block begins with a command"
    place = 0
    while place < len(lines):
        start = place
        while lines[place].endswith("\\"):
            place += 1
        place += 1
        command = "\n".join(lines[start:place])
        output_start = place
        while place < len(lines) and not lines[place].startswith("$ "):
            place += 1
        yield Example(page, first + start, command, "\n".join(lines[output_start:place]))


def comparable(example: Example, output: str) -> list[str]:
    """Output without what may differ: the width of gaps, times, spaces at the end, and the order of answers."""
    text = re.sub(r"\d+\.\d ms", "_ ms", output)
    lines = [re.sub(r"[ \t]+", " ", line).rstrip() for line in text.strip("\n").splitlines()]
    return [*lines[:1], *sorted(lines[1:])] if example.is_table else lines


class Shell:
    """Runs the commands of the examples on the example archive, which it serves meanwhile."""

    def __init__(self, folder: Path) -> None:
        fill(folder)
        self._archive = RunningArchive(folder)
        self._environ = {"FASTARCHIVE_DATA": str(folder), "COLUMNS": "200"}

    def __enter__(self) -> Self:
        self._archive.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.__exit__(kind, error, trace)

    def run(self, command: str) -> str:
        """What a command prints, standard error included."""
        joined = command.removeprefix("$ ").replace("\\\n", " ")
        program, *arguments = shlex.split(joined.replace(DOCUMENTED_DICOM_PORT, str(self._archive.dicom_port)))
        if program == "fastarchive":
            return CliRunner().invoke(app, arguments, env=self._environ).output
        done = subprocess.run(
            [tool(program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=30,
            check=False,
        )
        return _without_log_level(done.stdout.decode("utf-8", "replace"))

    def get(self, url: str) -> tuple[int, bytes]:
        """What the archive answers to an address as the pages have it."""
        _, _, path = url.partition(DOCUMENTED_HTTP_PORT)
        return self._archive.get(path)


def _without_log_level(output: str) -> str:
    """What DCMTK prints, without the level before each line and without its empty lines."""
    lines = [re.sub(r"^[A-Z]: ", "", line.rstrip()) for line in output.splitlines()]
    return "\n".join(line for line in lines if line not in ("", "I:", "W:", "E:"))


def shown(output: str) -> str:
    """Output as it is written into a page: columns between tabs are aligned."""
    lines = [line.split("\t") for line in output.strip("\n").splitlines()]
    widths: dict[int, int] = {}
    for cells in lines:
        if len(cells) > 1:
            for column, cell in enumerate(cells):
                widths[column] = max(widths.get(column, 0), _width(cell))
    return "\n".join(
        "  ".join(cell + " " * (widths.get(column, 0) - _width(cell)) for column, cell in enumerate(cells)).rstrip()
        if len(cells) > 1
        else cells[0].rstrip()
        for cells in lines
    )


def _width(text: str) -> int:
    """Columns a text takes where characters of Chinese and Japanese are two wide."""
    return sum(2 if ord(character) >= 0x2E80 else 1 for character in text)


def update(pages: Iterable[Path]) -> None:
    """Write what the commands print into the pages."""
    with tempfile.TemporaryDirectory(prefix="examples-") as place, Shell(Path(place) / "data") as shell:
        for page in pages:

            def renewed(block: re.Match[str], page: Path = page) -> str:
                parts = []
                for example in _examples(page.name, 1, block[1].splitlines()):
                    output = shown(shell.run(example.command))
                    same = comparable(example, output) == comparable(example, example.output)
                    parts += [example.command, example.output if same else output]
                return "```console\n" + "\n".join(part for part in parts if part) + "\n```"

            page.write_text(_BLOCK.sub(renewed, page.read_text()))


if __name__ == "__main__":
    update(map(Path, [argument for argument in sys.argv[1:] if argument != "--update"]))
