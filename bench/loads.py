"""What the ingest scenario sends: files written beforehand, and archives filled beforehand."""

from __future__ import annotations

import argparse
import random
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from bench.copies import copied
from bench.engine import Address
from bench.fleet import Fleet, Phase, Progress, Stored, prefilling
from bench.modality import Modality, Scanner, write_files
from bench.peers import Elsewhere, Peer
from bench.process import wait_idle
from bench.replay import Replay
from bench.report import progress
from bench.scenario import Scenario, StoreWork

FOREVER = 86_400.0
"""Seconds: for phases that end when their work is done."""


@dataclass(frozen=True, slots=True)
class Load:
    """Generated series as files, each in a folder of its own, to be shared out among associations."""

    folders: list[Path]
    instances: dict[str, Stored]
    """UIDs of study, series and instance, by path."""
    bytes_per_instance: float

    def shares(self, associations: int) -> list[list[Path]]:
        """The folders dealt out to so many associations."""
        return [self.folders[number::associations] for number in range(associations)]


def make_load(
    directory: Path,
    count: int,
    streams: int,
    *,
    small: bool,
    seed: int,
    start: int = 0,
    modality: Modality = Modality.CT,
) -> Load:
    """Write `count` instances in `streams` folders: each its own patient, study and series."""
    scanner = Scanner(seed, small=small)
    folders: list[Path] = []
    instances: dict[str, Stored] = {}
    size = 0
    for stream in range(streams):
        folder = directory / f"stream{stream}"
        study = scanner.study(scanner.patient(start + stream), 0, modality)
        made = list(scanner.series(study, 1, count // streams))
        for path, instance in zip(write_files(iter(made), folder), made, strict=True):
            size += len(instance.data_set)
            instances[str(path)] = (study.uid, instance.series, instance.sop_instance)
        folders.append(folder)
    return Load(folders, instances, size / max(len(instances), 1))


def replayed_load(directory: Path, source: Path, *, seed: int) -> Load:
    """Write one copy of a folder's files with fresh UIDs. Raises RuntimeError when none of them can be sent."""
    replay = Replay(source, seed)
    if replay.skipped:
        progress(f"{len(replay.skipped)} files in {source} can't be sent, {replay.skipped[0].name} for one")
    if replay.unnamed:
        progress(
            f"{len(replay.unnamed)} files in {source} have a SOP Class or Instance UID under the VR UN, which DCMTK's "
            f"programs can't send: left out, {replay.unnamed[0].name} for one"
        )
    written = replay.write(directory, 1)
    if not written:
        raise RuntimeError(f"{source} holds no file that DCMTK's programs can send")
    size = sum(path.stat().st_size for path in written)
    folders = list(dict.fromkeys(path.parent for path in written))
    return Load(folders, {str(path): uids for path, uids in written.items()}, size / len(written))


class Loads:
    """What dcmsend and storescu send: the same files for every run, or others each time for an archive that is kept."""

    def __init__(self, directory: Path, options: argparse.Namespace, *, streams: int, anew: bool) -> None:
        self._directory = directory
        self._options = options
        self._streams = streams
        self._anew = anew
        self._seed: int | None = None
        self._load: Load | None = None
        # A kept archive may know the instances of any earlier run: those of this one begin somewhere else.
        self._first = random.randrange(1_000, 900_000) if anew else options.seed

    def seed(self, run: int) -> int:
        """The seed of run number `run`."""
        return self._first + run if self._anew else self._first

    def load(self, seed: int) -> Load:
        """The files of that seed."""
        if self._load is None or seed != self._seed:
            shutil.rmtree(self._directory, ignore_errors=True)
            options = self._options
            if options.replay:
                self._load = replayed_load(self._directory, options.replay, seed=seed)
            else:
                progress(f"generating {options.slices} instances")
                self._load = make_load(
                    self._directory, options.slices, self._streams,
                    small=options.small, seed=seed, modality=options.modality,
                )  # fmt: skip
            self._seed = seed
        return self._load


class Kept:
    """Archives that stay as they are, each in a folder of its own, with a note of how many instances it holds."""

    def __init__(self, directory: Path, options: argparse.Namespace) -> None:
        self._directory = directory
        self._options = options
        self._ready: set[str] = set()

    def place(self, name: str, make: Callable[[Path, bool], Peer], peer: Peer) -> AbstractContextManager[object]:
        """What a kept archive looks like, in the folder of `peer` while a `with` block runs: a copy. A server elsewhere
        is filled up, and that is all. Raises RuntimeError when there can be no copy."""
        if not (peer.movable or isinstance(peer, Elsewhere)):
            raise RuntimeError(f"{peer.name} can't be measured from a copy of its folder")
        folder = self.folder(name, make)
        return nullcontext() if isinstance(peer, Elsewhere) else copied(folder, peer.directory, peer.frozen)

    def folder(self, name: str, make: Callable[[Path, bool], Peer]) -> Path:
        """The folder of an archive, filled up to as many as --fill says the first time it is asked for. Raises
        RuntimeError when the archive refuses some of it."""
        folder = self._directory / name
        if name not in self._ready:
            self._directory.mkdir(parents=True, exist_ok=True)
            wanted = self._options.fill - self.count(name)
            if wanted > 0:
                with make(folder, True) as peer:
                    self.add(name, fill(peer, wanted))
            self._ready.add(name)
        return folder

    def count(self, name: str) -> int:
        """Instances it is known to hold. What was put there by others counts as 0, unless the note says otherwise."""
        note = self._note(name)
        return int(note.read_text()) if note.exists() else 0

    def add(self, name: str, stored: int) -> None:
        """Note that it holds more."""
        self._note(name).write_text(f"{self.count(name) + stored}\n")

    def _note(self, name: str) -> Path:
        return self._directory / f"{name}.instances"


def fill(peer: Peer, count: int) -> int:
    """Store `count` instances of 10 KB as fast as it goes; how many it took. Raises RuntimeError if it refuses some."""
    scenario = Scenario(
        title="fill", duration=FOREVER, warm_up=0.0, prefill=count, work=[StoreWork(kind="store", small=True)]
    )
    start = time.monotonic()

    def watch(now: Progress) -> bool:
        if int(now.elapsed) % 20 == 0:
            progress(f"{peer.label}: filled with {sum(now.items.values()):,} of {count:,}")
        return True

    with Fleet(Address(peer.host, peer.dicom_port, peer.ae_title)) as fleet:
        seed = random.randrange(1_000, 900_000)
        tally = fleet.run(prefilling(Phase(scenario, seed, FOREVER)), watch).tallies[0]
    if tally.faults:
        raise RuntimeError(f"{peer.label} refused some of what was to fill it: {dict(tally.faults)}")
    if peer.pid is not None:
        wait_idle(peer.pid, 60)
    progress(f"{peer.label}: filled with {tally.done:,} instances in {time.monotonic() - start:.0f} s")
    return tally.done
