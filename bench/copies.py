"""A cheap copy of an archive's folder: what the archive never changes in place is linked, the rest is copied.

Filled archives are costly to make, so that they are measured through copies and never changed themselves.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

State = dict[str, tuple[int, int, int]]
"""Inode, size and time of the last change in nanoseconds of each file, by its path in the folder."""


def state_of(folder: Path) -> State:
    """What the files of a folder look like now; symbolic links and special files are not looked at."""
    found: State = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            stat = path.stat()
            found[str(path.relative_to(folder))] = stat.st_ino, stat.st_size, stat.st_mtime_ns
    return found


@contextmanager
def copied(folder: Path, copy: Path, frozen: Callable[[Path], bool]) -> Iterator[Path]:
    """A copy of `folder` at `copy`, on the same file system, while a `with` block runs.

    frozen: whether a file (of `copy`, linked already) never changes in place; such files stay hard links. Raises
    RuntimeError after the block when a file of `folder` changed meanwhile, and when there is nothing to copy.
    """
    before = state_of(folder)
    if not before:
        raise RuntimeError(f"{folder} holds no archive")
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    try:
        for path in folder.rglob("*"):
            if path.is_dir():
                (copy / path.relative_to(folder)).mkdir(parents=True, exist_ok=True)
        for name in before:
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(folder / name, target)
            except OSError as error:
                raise RuntimeError(f"can't link {folder / name} to {copy}: {error.strerror}; use one disk") from error
            if not frozen(target):
                target.unlink()
                shutil.copy2(folder / name, target)
        yield copy
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    after = state_of(folder)
    if changed := [name for name in {**before, **after} if before.get(name) != after.get(name)]:
        raise RuntimeError(f"{folder} was changed: {', '.join(changed[:5])}")
