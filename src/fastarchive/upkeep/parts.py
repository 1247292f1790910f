"""The processes that build the parts of a new index side by side.

Each is told what to do by one line of JSON and answers by lines: how many more records it has passed, then what became
of its part. They end when nobody listens any more.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, NamedTuple

from fastarchive.index.harvest import Share, ends_of
from fastarchive.index.parts import Part, build_part, unite
from fastarchive.index.writer import INDEX

_PASSED: Final = "+"
_DONE: Final = "="


class _Process(NamedTuple):
    folder: Path
    process: subprocess.Popen[str]


def build_in_parts(
    directory: Path, parts: int, expected: int, advance: Callable[[int], object], mirror: Path | None = None
) -> int:
    """Build the index of the data folder, which has none, by so many processes; how many records are in it.

    expected: about how many there are. mirror: a data folder with copies of the packs.
    Raises OSError or ValueError when a part or the whole can't be built.
    """
    order = {
        "directory": str(directory),
        "mirror": None if mirror is None else str(mirror),
        "ends": list(ends_of(directory).items()),
        "expected": expected,
        "of": parts,
    }
    processes: list[_Process] = []
    try:
        for number in range(parts):
            folder = directory / f"part-{number}"
            process = subprocess.Popen(
                [sys.executable, "-m", "fastarchive.upkeep.parts"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            processes.append(_Process(folder, process))
            assert process.stdin is not None
            with process.stdin:
                json.dump(order | {"part": str(folder), "number": number}, process.stdin)
        built = _listen(processes, advance)
    finally:
        for _, process in processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
    unite(directory, built, directory / INDEX, mirror)
    return max(part.records for part in built.values())


def _listen(processes: list[_Process], advance: Callable[[int], object]) -> dict[Path, Part]:
    """Wait until all are done. Raises OSError when one ends without having its part."""
    built: dict[Path, Part] = {}
    passed = dict.fromkeys((one.folder for one in processes), 0)
    told = 0
    with selectors.DefaultSelector() as selector:
        for one in processes:
            assert one.process.stdout is not None
            selector.register(one.process.stdout, selectors.EVENT_READ, one)
        while len(built) < len(processes):
            for key, _ in selector.select():
                each: _Process = key.data
                line = _line(each.process.stdout)
                if line.startswith(_PASSED):
                    passed[each.folder] += int(line[1:])
                    # Every process passes every record, so all have come as far as the slowest.
                    advance(min(passed.values()) - told)
                    told = min(passed.values())
                elif line.startswith(_DONE):
                    built[each.folder] = Part.decode(line[1:])
                    selector.unregister(key.fileobj)
                else:
                    raise OSError(f"a process that builds the index ended with {each.process.wait()}")
    return built


def _line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def _stay_on_one_processor(number: int) -> None:
    """Keep the threads of this process together: handing each document to another processor costs more than it gains.

    Only where there are processors for all parts, or nobody could move away from what else runs there.
    """
    if sys.platform == "linux":
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {processors[number % len(processors)]})


def main() -> int:
    """Build the part that standard input tells of; 1 when that can't be done."""
    order = json.load(sys.stdin)
    _stay_on_one_processor(order["number"])
    gc.disable()  # nothing here makes cycles, and looking for them in vain costs a third

    def advance(more: int) -> None:
        print(f"{_PASSED}{more}", flush=True)

    try:
        part = build_part(
            Path(order["directory"]),
            Path(order["part"]),
            dict(order["ends"]),
            Share(order["number"], order["of"]),
            expected=order["expected"],
            mirror=None if order["mirror"] is None else Path(order["mirror"]),
            advance=advance,
        )
        print(f"{_DONE}{part.encode()}", flush=True)
    except BrokenPipeError:
        return 1  # nobody listens
    except (OSError, ValueError) as error:
        print(f"a part of the index can't be built: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
