"""A disk that fails when it is told to, under the processes of a running archive.

Every process of the archive loads a `sitecustomize` module that takes the place of some operations on files; what they
do is read from a file, so that a test can change it while the archive runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_SITE = """
import errno
import os
import time

MOOD = os.environ["DISK_MOOD"]


def mood():
    with open(MOOD) as file:
        return file.read()


def fail(name):
    raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))


def with_moods(real):
    def method(self, *arguments, **options):
        now = mood()
        if now.startswith("E"):
            fail(now)
        return real(self, *arguments, **options)

    return method


from fastarchive.store.disk import Disk

real_sync = Disk.sync


def sync(self, fd):
    while mood() == "stalled":
        time.sleep(0.01)
    if mood().startswith("E"):
        fail(mood())
    real_sync(self, fd)


Disk.sync = sync
Disk.create = with_moods(Disk.create)
Disk.write_some = with_moods(Disk.write_some)

import fastarchive.store.line


class Moody(Disk):
    pass  # not the disk that threads in C write to by themselves


fastarchive.store.line.DISK = Moody()
"""


class FailingDisk:
    """What the disk does: "fine", "stalled" (a sync doesn't return) or the name of an error, as "EROFS"."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_SITE)
        self._mood = folder / "mood"
        self.environ: Mapping[str, str] = {"PYTHONPATH": str(folder), "DISK_MOOD": str(self._mood)}
        self.be("fine")

    def be(self, mood: str) -> None:
        """From now on."""
        other = self._mood.with_suffix(".new")
        other.write_text(mood)
        other.rename(self._mood)
