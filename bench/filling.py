"""A data folder filled with a population, through the archive's own record and pack code and without any network.

For scale: sending ten million instances would take hours. Every instance is a record as an intake would write it; its
data set is its header with a 4×4 image, or left out (``content``), since no question is about pixels.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from blake3 import blake3

from bench.encoding import EXPLICIT_LITTLE, element
from bench.people import SCRIPTS, encode_text
from bench.population import INSTANCES, Population, Visit
from bench.report import progress
from fastarchive.store.disk import DISK
from fastarchive.store.log import SEAL_SIZE
from fastarchive.store.pack import OpenPack, create_pack, seal_pack
from fastarchive.store.record import Block, Codec, Record, RecordKind, encode_record

_FIRST_RECEIVED: Final = 1_400_000_000_000_000_000
_BETWEEN: Final = 1_000_000
_CHUNK: Final = 1000
"""Studies whose records are written together, by one process after the other."""
_RAW_FRAME: Final = 0x184D2A52
_PIXELS: Final = struct.pack("<HH2s2xI", 0x7FE0, 0x0010, b"OW", 32) + bytes(range(32))
_NOTE: Final = "population.json"


def prepare(directory: Path, size: str, seed: int, *, content: bool, processes: int = 2) -> Population:
    """The population of that size and seed in the folder `directory`, filled now unless it was before.

    Raises RuntimeError when the folder holds anything else.
    """
    population = Population(seed, INSTANCES[size])
    wanted = {"size": size, "seed": seed, "content": content}
    note = directory / _NOTE
    if note.exists():
        if json.loads(note.read_text()) != wanted:
            raise RuntimeError(f"{directory} holds another population: {note.read_text()}")
        return population
    if directory.exists() and any(directory.iterdir()):
        raise RuntimeError(f"{directory} is not empty and holds no population")
    directory.mkdir(parents=True, exist_ok=True)
    progress(f"filling {directory} with {population.studies:,} studies")
    context = multiprocessing.get_context("forkserver")
    fillers = [
        context.Process(target=_fill, args=(directory, population, first, processes, content))
        for first in range(processes)
    ]
    for filler in fillers:
        filler.start()
    for filler in fillers:
        filler.join()
    if any(filler.exitcode for filler in fillers):
        raise RuntimeError("filling failed")
    note.write_text(json.dumps(wanted))
    return population


def _fill(directory: Path, population: Population, first: int, step: int, content: bool) -> None:
    """Write every `step`-th chunk of studies, beginning with chunk `first`, into packs of this process."""
    pack: OpenPack | None = None
    for chunk in range(first, (population.studies + _CHUNK - 1) // _CHUNK, step):
        studies = range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, population.studies))
        records = [record for number in studies for record in encoded_records(population, number, content=content)]
        if pack is None:
            pack = create_pack(directory, 0)
        offsets = array("Q")
        end = pack.end
        for record in records:
            offsets.append(end)
            end += len(record)
        DISK.write(pack.fd, (b"".join(records),), pack.end)
        pack.offsets.extend(offsets)
        pack.end = end
        if end > SEAL_SIZE:
            _seal(pack)
            pack = None
        if first == 0 and chunk % 20 == 0:
            progress(f"{chunk * _CHUNK:,} of {population.studies:,} studies")
    if pack is not None:
        _seal(pack)


def _seal(pack: OpenPack) -> None:
    seal_pack(pack.fd, pack.end, pack.offsets, recovered=False)
    os.close(pack.fd)


def encoded_records(population: Population, number: int, *, content: bool) -> Iterator[bytes]:
    """The records of study `number` as they stand in a pack, one for each instance."""
    visit = population.visit(number)
    kind = visit.kind
    received = _FIRST_RECEIVED + number * _BETWEEN * 1000
    for series, length in enumerate(visit.lengths, 1):
        series_uid = population.series_uid(number, series)
        shared = _shared(population, visit, series, series_uid)
        for instance in range(1, length + 1):
            uid = population.instance_uid(series_uid, instance)
            attributes = _attributes(shared, uid, instance, visit.time)
            data_set = attributes + _PIXELS if content else b""
            received += _BETWEEN
            stored = struct.pack("<II", _RAW_FRAME, len(data_set)) + data_set if content else b""
            blocks = (
                (Block(len(stored), len(data_set), Codec.RAW, 0, 1, 1, blake3(stored).digest(length=8)),)
                if content
                else ()
            )
            record = Record(
                kind=RecordKind.INSTANCE,
                received=received,
                digest=blake3(data_set or uid.encode()).digest(),
                length=len(data_set),
                sop_class=kind.sop_class,
                sop_instance=uid,
                study=visit.uid,
                series=series_uid,
                transfer_syntax=EXPLICIT_LITTLE,
                calling_ae=f"{kind.modality}{number % 7}",
                called_ae="FASTARCHIVE",
                attributes=attributes,
                blocks=blocks,
            )
            yield encode_record(record) + stored


def _shared(population: Population, visit: Visit, series: int, series_uid: str) -> tuple[bytes, ...]:
    """What the instances of a series have in common, in the four pieces between which their own elements stand."""
    person, kind = population.person(visit.patient), visit.kind
    script = SCRIPTS[person.script]
    age = max(0, int(visit.date[:4]) - int(person.birth_date[:4]))
    charset = element(0x00080005, "CS", script.character_set) if script.character_set else b""
    return (
        charset + element(0x00080008, "CS", "ORIGINAL\\PRIMARY") + element(0x00080016, "UI", kind.sop_class),
        element(0x00080020, "DA", visit.date)
        + element(0x00080021, "DA", visit.date)
        + element(0x00080022, "DA", visit.date)
        + element(0x00080023, "DA", visit.date)
        + element(0x00080030, "TM", visit.time)
        + element(0x00080031, "TM", visit.time),
        element(0x00080050, "SH", visit.accession_number)
        + element(0x00080060, "CS", kind.modality)
        + element(0x00080070, "LO", "ACME Imaging")
        + element(0x00080080, "LO", "Synthetic General Hospital")
        + element(0x00080090, "PN", f"Referrer^{visit.number % 211}")
        + element(0x00081010, "SH", f"{kind.modality}-{visit.number % 7}")
        + element(0x00081030, "LO", kind.description)
        + element(0x0008103E, "LO", f"{kind.description} {series}")
        + element(0x00081090, "LO", "Phantom 64")
        + element(0x00100010, "PN", encode_text(person.name, script))
        + element(0x00100020, "LO", person.patient_id)
        + element(0x00100030, "DA", person.birth_date)
        + element(0x00100040, "CS", person.sex)
        + element(0x00101010, "AS", f"{age:03d}Y")
        + element(0x00180015, "CS", kind.body_part)
        + element(0x00181030, "LO", f"Routine {kind.body_part.lower()}")
        + element(0x00185100, "CS", "HFS")
        + element(0x0020000D, "UI", visit.uid)
        + element(0x0020000E, "UI", series_uid)
        + element(0x00200010, "SH", str(visit.number % 10_000))
        + element(0x00200011, "IS", series),
        element(0x00280002, "US", 1)
        + element(0x00280004, "CS", "MONOCHROME2")
        + element(0x00280010, "US", kind.rows)
        + element(0x00280011, "US", kind.columns)
        + element(0x00280100, "US", kind.bits)
        + element(0x00280101, "US", kind.bits)
        + element(0x00280102, "US", kind.bits - 1)
        + element(0x00280103, "US", 0)
        + element(0x00400244, "DA", visit.date)
        + element(0x00400245, "TM", visit.time),
    )


def _attributes(shared: tuple[bytes, ...], uid: str, number: int, time: str) -> bytes:
    """The stored attributes of an instance: Explicit VR Little Endian, ascending tags."""
    clock = f"{time}.{number % 1000:03d}"
    return b"".join(
        [
            shared[0],
            element(0x00080018, "UI", uid),
            shared[1],
            element(0x00080032, "TM", clock),
            element(0x00080033, "TM", clock),
            shared[2],
            element(0x00200012, "IS", number),
            element(0x00200013, "IS", number),
            shared[3],
        ]
    )
