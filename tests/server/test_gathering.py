"""Associations that only store meet in one of two workers, as real processes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.encoding import EXPLICIT_LITTLE
from bench.headers import CT_IMAGE_STORAGE
from bench.requestor import STUDY_ROOT_FIND, Context, Requestor
from tests.server.harness import RunningArchive, eventually
from tests.server.instances import write_instances


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    with RunningArchive(tmp_path_factory.mktemp("gathering") / "data", workers=2) as running:
        yield running


def connections(archive: RunningArchive, pid: int) -> int:
    """How many connections to the DICOM port a process has."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    port = f":{archive.dicom_port:04X}"
    established = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == "01"}
    opened = 0
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            opened += str(each.readlink()) in established
        except OSError:  # closed meanwhile
            continue
    return opened


def store(archive: RunningArchive, folder: Path, numbers: range) -> None:
    files = map(str, write_instances(folder, numbers))
    command = ["storescu", "-aec", archive.ae_title, archive.host, str(archive.dicom_port), *files]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_those_that_only_store_meet_in_the_first_and_those_that_ask_in_the_other(archive: RunningArchive) -> None:
    first, second = archive.processes("worker")
    storing = [Context(CT_IMAGE_STORAGE, (EXPLICIT_LITTLE,))]
    asking = [*storing, Context(STUDY_ROOT_FIND, (EXPLICIT_LITTLE,))]

    def meet() -> bool:
        with ExitStack() as stack:
            for proposed in (*[storing] * 6, *[asking] * 4):
                one = Requestor(archive.host, archive.dicom_port, proposed, called=archive.ae_title)
                stack.enter_context(one)
            return (connections(archive, first), connections(archive, second)) == (6, 4)

    # Nobody waits for a worker that is kept from running, so that a busy machine may need more than one try.
    eventually("each kind is where it should be", meet)


def test_what_comes_while_the_worker_for_it_is_gone_is_stored(archive: RunningArchive, tmp_path: Path) -> None:
    def both() -> list[int]:
        found = archive.processes("worker")
        return found if len(found) == 2 else []

    for stored in (10, 20, 30):
        archive.kill_process(eventually("both run", both)[0])
        store(archive, tmp_path, range(stored - 10, stored))
        eventually("all is there", lambda: archive.status()["archive"]["instances"] >= stored)  # noqa: B023
