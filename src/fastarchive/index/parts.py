"""An index built anew in parts, by several processes at once, and the parts made one.

Each part is an index of its own, of the records dealt to it (:mod:`fastarchive.index.harvest`), built by the same
ledger as any other. Records are dealt out so that hardly a document is in two parts. Where that happens all the same
(one study under two Patient IDs, one SOP Instance UID with two patients) the parts' keys tell, and the documents
concerned are made again from their records. Segments are never copied: the parts' files become those of the whole.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import tantivy

from fastarchive.dicom.attributes import Level
from fastarchive.index import schema
from fastarchive.index.changes import Changes, write_checkpoint
from fastarchive.index.harvest import Harvest, Share
from fastarchive.index.ledger import Ledger
from fastarchive.index.packs import RecordReader
from fastarchive.index.sieve import Sieve
from fastarchive.index.snapshot import Checkpoint, Snapshot
from fastarchive.store.positions import Positions

_HEAP: Final = 192 << 20
_BATCH: Final = 2000
_COMMIT_RECORDS: Final = 60_000
_META: Final = "meta.json"
_MANAGED: Final = ".managed.json"
_KEY_BYTES: Final = 16
_COMPARED: Final = (Level.PATIENT, Level.STUDY, Level.IMAGE)
"""Levels whose keys are compared between parts; a series comes with its study."""


class Part(NamedTuple):
    """What became of a part."""

    records: int
    next_rowid: int
    deletions: int
    positions: dict[int, int]

    def encode(self) -> str:
        """As one line."""
        return json.dumps(self._replace(positions=list(self.positions.items())))  # type: ignore[arg-type]

    @classmethod
    def decode(cls, line: str) -> Part:
        """What :meth:`encode` gave."""
        records, next_rowid, deletions, positions = json.loads(line)
        return cls(records, next_rowid, deletions, dict(positions))


def build_part(
    directory: Path,
    part: Path,
    ends: Mapping[int, int],
    share: Share,
    *,
    expected: int,
    mirror: Path | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> Part:
    """Index the records of the data folder that fall to `share` and lie before `ends`, in the new folder `part`.

    expected: about how many records there are in all. mirror: a data folder with copies of the packs, for single
    records that can't be read here any more. advance: told how many more were passed.
    Raises OSError or ValueError.
    """
    part.mkdir()
    index = tantivy.Index(schema.SCHEMA, path=str(part), reuse=False)
    schema.register_tokenizers(index)
    writer = index.writer(_HEAP, 1)
    snapshot, sieve, reader = Snapshot(None), Sieve(3 * expected // share.of), RecordReader(directory, mirror)
    ledger = Ledger(snapshot, reader)
    harvest = Harvest(directory, ends, share)
    next_rowid, deletions, waiting, passed = 1 + share.number, 0, 0, 0
    keys = {level: bytearray() for level in _COMPARED}

    found: list[str] = []

    def added(level: Level, key: str, term: str) -> None:
        found.append(key)
        if level is not Level.SERIES:
            keys[level] += term[-_KEY_BYTES:].encode()

    records = harvest.records()
    while True:
        batch = list(islice(records, _BATCH))
        ledger.apply(batch)
        waiting += len(batch)
        if waiting >= _COMMIT_RECORDS or not batch:
            changes = Changes(writer, ledger.overlay, next_rowid, step=share.of, added=added)
            changes.finish()
            next_rowid = changes.next_rowid
            deletions += len(ledger.overlay.tombstones)
            write_checkpoint(writer, Checkpoint(schema.SCHEMA_VERSION, next_rowid, deletions, Positions()))
            writer.commit()
            sieve.update(found)
            found.clear()
            waiting = 0
            if not batch:
                break
            index.reload()
            snapshot = Snapshot(index.searcher(), snapshot, sieve)
            ledger.rebase(snapshot)
        advance(harvest.passed - passed)
        passed = harvest.passed
    advance(harvest.passed - passed)
    reader.close()
    writer.wait_merging_threads()
    for level, held in keys.items():
        (part / _keys_name(level)).write_bytes(held)
    return Part(harvest.passed, next_rowid, deletions, harvest.positions)


def unite(directory: Path, parts: Mapping[Path, Part], whole: Path, mirror: Path | None = None) -> None:
    """Make one index of the parts in the new folder `whole`, complete with its checkpoint; the parts are used up.

    mirror: as for :func:`build_part`.

    Raises OSError or ValueError; ValueError, too, when the parts reach differently far into a pack that is still there.
    """
    positions = _common_positions(directory, parts.values())
    whole.mkdir()
    _join_segments(list(parts), whole)
    index = tantivy.Index(schema.SCHEMA, path=str(whole))
    schema.register_tokenizers(index)
    index.reload()
    snapshot = Snapshot(index.searcher())
    reader = RecordReader(directory, mirror)
    ledger = Ledger(snapshot, reader)
    twice = {level: _in_several(parts, level) for level in _COMPARED}
    instances = [snapshot.with_term(schema.LETTERS[Level.IMAGE] + key) for key in twice[Level.IMAGE]]
    studies = [study for key in twice[Level.STUDY] for study in snapshot.with_term(schema.LETTERS[Level.STUDY] + key)]
    patients = [one for key in twice[Level.PATIENT] for one in snapshot.with_term(schema.LETTERS[Level.PATIENT] + key)]
    ledger.settle([each for each in instances if each], studies, [each.patient for each in patients])
    reader.close()
    writer = index.writer(_HEAP, 1)
    changes = Changes(writer, ledger.overlay, max(part.next_rowid for part in parts.values()))
    changes.finish()
    deletions = max(part.deletions for part in parts.values()) + len(ledger.overlay.tombstones)
    write_checkpoint(writer, Checkpoint(schema.SCHEMA_VERSION, changes.next_rowid, deletions, positions))
    writer.commit()
    writer.wait_merging_threads()


def _common_positions(directory: Path, parts: Iterable[Part]) -> Positions:
    """How far all of them have read. A pack that one of them didn't find was compacted away meanwhile."""
    first, *others = (part.positions for part in parts)
    common: dict[int, int] = {}
    for pack in set(first).union(*others):
        reached = {positions.get(pack) for positions in (first, *others)}
        if len(reached) == 1 and (end := reached.pop()) is not None:
            common[pack] = end
        elif (directory / "packs" / f"{pack:020d}.pack").exists():
            raise ValueError("the packs changed while they were read")
    return Positions(common)


def _join_segments(parts: list[Path], whole: Path) -> None:
    """The segments of all parts as those of one index: Tantivy's list of segments, and its list of files."""
    metas: list[dict[str, Any]] = [json.loads((part / _META).read_text()) for part in parts]
    managed: set[str] = set()
    for part in parts:
        managed.update(json.loads((part / _MANAGED).read_text()))
        for name in os.listdir(part):  # noqa: PTH208
            if not name.startswith(".") and name != _META and not name.startswith("keys."):
                (part / name).rename(whole / name)
    meta = metas[0] | {
        "segments": [segment for each in metas for segment in each["segments"]],
        "opstamp": max(each["opstamp"] for each in metas),
    }
    (whole / _MANAGED).write_text(json.dumps(sorted(managed)))
    (whole / _META).write_text(json.dumps(meta))


def _keys_name(level: Level) -> str:
    return f"keys.{schema.LETTERS[level]}"


def _in_several(parts: Mapping[Path, Part], level: Level) -> list[str]:
    """The keys (as terms without their letter) that more than one part has."""
    read = [np.fromfile(part / _keys_name(level), dtype="<u8").reshape(-1, 2) for part in parts]
    halves = np.concatenate(read)
    values, counts = np.unique(halves[:, 0], return_counts=True)
    candidates = halves[np.isin(halves[:, 0], values[counts > 1])]
    texts = [array("Q", row.tolist()).tobytes().decode() for row in candidates]
    seen: dict[str, int] = {}
    for text in texts:
        seen[text] = seen.get(text, 0) + 1
    return sorted(text for text, count in seen.items() if count > 1)
