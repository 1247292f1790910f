"""A new index from the packs, beside the one in use, which goes on answering until it is replaced in one step."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastarchive.index.writer import INDEX, IndexBusy, IndexWriter
from fastarchive.store.disk import DISK
from fastarchive.store.pack import PACKS, PAGE, list_packs, pack_path, read_state, records, removal_lock
from fastarchive.store.record import TornRecord
from fastarchive.upkeep.parts import build_in_parts

BUILDING: Final = "index.building"
WAIT_SECONDS: Final = 60.0
FEW: Final = 20_000
"""Records for which it doesn't pay to start processes."""
MOST_PARTS: Final = 16
_COMMIT_RECORDS: Final = 50_000
_POLL_SECONDS: Final = 0.005
_SETTLED_SECONDS: Final = 0.06


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did."""

    records: int
    seconds: float

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds if self.seconds else 0.0


def count_records(directory: Path) -> int:
    """About how many records the packs hold: what sealed ones say, and a walk over the headers of the others.

    Raises OSError.
    """
    count = 0
    for pack in list_packs(directory):
        fd = os.open(pack_path(directory, pack), os.O_RDONLY | os.O_CLOEXEC)
        try:
            state = read_state(fd)
            if state.seal is not None:
                count += state.seal.records
                continue
            for _ in records(fd, PAGE, state.durable):
                count += 1
        except TornRecord:
            continue
        finally:
            os.close(fd)
    return count


def rebuild(
    directory: Path,
    *,
    advance: Callable[[int], object] = lambda _: None,
    ask_writer_to_end: Callable[[], bool] = lambda: False,
    wait_seconds: float = WAIT_SECONDS,
    parts: int | None = None,
    mirror: Path | None = None,
) -> Rebuilt:
    """Build the index of the data folder anew and put it in the place of the old one.

    ask_writer_to_end: called once if a process writes the index when the new one is ready; it makes that process let go
    and says whether it could. Whoever writes it next goes on from the new one. advance: told how many more records are
    in it. parts: how many processes build it before this one merges what has come meanwhile; by default one for each
    processor, and none for a small archive. mirror: a data folder with copies of the packs; what is damaged here is
    read from there.

    Raises IndexBusy when the index in use isn't let go within `wait_seconds`, or when another rebuild runs; the old one
    stays in use then. Raises OSError or ValueError when the new one can't be written.
    """
    run = directory / "run"
    run.mkdir(exist_ok=True)
    scratch = directory / BUILDING
    # Packs that were compacted stay meanwhile: the index in the making may not know yet where their records are now.
    with _lock(run / "reindex.lock", "another reindex is running"), removal_lock(directory, shared=True):
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            # A data folder of its own, with the same packs: the writer needs to know nothing of all this.
            (scratch / PACKS).symlink_to(os.path.relpath(directory / PACKS, scratch))
            built = _build(scratch, advance, parts, mirror)
            asked = False

            def ask() -> bool:
                nonlocal asked
                if not asked:
                    asked = True
                    return ask_writer_to_end()
                return True

            with _lock(run / "index.lock", "the index is in use by another process", ask, wait_seconds):
                _put_in_place(directory, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return built


def _build(scratch: Path, advance: Callable[[int], object], parts: int | None, mirror: Path | None) -> Rebuilt:
    started = time.monotonic()
    count = 0
    _let_settle(scratch / PACKS)
    expected = count_records(scratch)
    if parts is None:
        parts = 0 if expected < FEW else min(len(os.sched_getaffinity(0)), MOST_PARTS)
    if parts:
        count = build_in_parts(scratch, parts, expected, advance, mirror)
    writer = IndexWriter(scratch, commit_records=_COMMIT_RECORDS, commit_seconds=float("inf"), mirror=mirror)
    try:
        while merged := writer.step():
            count += merged
            advance(merged)
        writer.commit()
    finally:
        writer.close()
    return Rebuilt(count, time.monotonic() - started)


def _let_settle(packs: Path) -> None:
    """Wait out the moment after a pack was created, in which a reader can't tell yet that it has seen them all.

    An index built within it would seem to cover less than the one it replaces, and readers would wait for its next
    commit before they go over to it.
    """
    while (young := _SETTLED_SECONDS - (time.time() - packs.stat().st_mtime)) > 0:
        time.sleep(min(young, _SETTLED_SECONDS))


def _put_in_place(directory: Path, scratch: Path) -> None:
    current = directory / INDEX
    aside = directory / f"{INDEX}.dropped-{time.time_ns()}"
    if current.exists():
        current.rename(aside)
    (scratch / INDEX).rename(current)
    DISK.sync_directory(directory)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _lock(path: Path, reason: str, ask: Callable[[], bool] = lambda: False, seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock of a file, waiting as long as `ask` says that it will be free."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        end = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not ask() or time.monotonic() > end:
                    raise IndexBusy(reason) from None
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(fd)
