"""A scout says of an instance what reading the records tells, in every variant this machine can run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.dicom.rejection import KEY_OBJECT_SELECTION
from fastarchive.native.loading import libraries
from fastarchive.native.scout import Answer, Scout
from fastarchive.store.pack import (
    PAGE,
    Identity,
    Seal,
    encode_durable,
    encode_page,
    read_record,
    read_state,
)
from fastarchive.store.record import Block, Codec, Record, RecordKind, TornRecord, deletion, encode_record
from tests.folders import temporary_folder
from tests.index.archives import record_of
from tests.index.effort import effort

LIBRARIES = libraries()
_INSTANCES = ["1", "1.2", "1.2.840.1", "1.2.840.12", "1." * 31 + "7", ""]
_MOST_BLOCKS, _LONGEST = 8, 64 << 10


@st.composite
def _records(draw: st.DrawFn) -> bytes:
    record = record_of(draw(st.sampled_from(_INSTANCES)), t00100010="x" * draw(st.sampled_from([0, 2, 500, 6000])))
    odd = draw(st.integers(0, 12))
    if odd == 0:
        return encode_record(deletion(1, "1.1"))
    if odd == 1:
        record = replace(record, kind=draw(st.sampled_from([RecordKind.QUARANTINED, RecordKind.QUARANTINE_END])))
    elif odd == 2:
        record = replace(record, sop_class=KEY_OBJECT_SELECTION)
    elif odd == 3:
        record = replace(record, calling_ae="MÜNCHEN")
    elif odd == 4:
        record = replace(record, origin=(1, 4096))
    elif odd == 5:
        record = replace(record, attributes=bytes(draw(st.integers(_LONGEST - 600, _LONGEST))))
    stored = draw(st.integers(0, 50))
    count = 0 if record.kind is RecordKind.QUARANTINE_END else draw(st.sampled_from([0, 1, 2, 8, 9]))
    blocks = (Block(stored, stored, Codec.RAW, 0, 1, 1, bytes(8)),) * count
    return encode_record(replace(record, blocks=blocks)) + bytes(stored * count)


def _is_plain(record: Record, metadata: int) -> bool:
    strings = (
        record.sop_class,
        record.sop_instance,
        record.study,
        record.series,
        record.transfer_syntax,
        record.calling_ae,
        record.called_ae,
    )
    return (
        record.kind is RecordKind.INSTANCE
        and record.origin is None
        and len(record.blocks) <= _MOST_BLOCKS
        and metadata <= _LONGEST
        and "".join(strings).isascii()
        and record.sop_class != KEY_OBJECT_SELECTION
    )


def _by_python(fd: int, position: int, instance: str) -> Answer:
    state = read_state(fd)
    if state.seal is None and not state.known:
        return Answer.PERHAPS
    found = set()
    while position < state.end:
        try:
            record, extent = read_record(fd, position, state.end)
        except TornRecord:
            return Answer.PERHAPS
        if not _is_plain(record, extent.metadata):
            return Answer.PERHAPS
        found.add(record.sop_instance)
        position += extent.total
    return Answer.PERHAPS if instance in found else Answer.LACKS


@contextmanager
def _pack(folder: Path, content: bytes) -> Iterator[int]:
    path = folder / "pack"
    path.write_bytes(content)
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("variant", LIBRARIES)
@settings(max_examples=effort(150, 20_000), deadline=None)
@given(
    records=st.lists(_records(), max_size=5),
    flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), max_size=1),
    more=st.one_of(st.just(0), st.integers(-200, 5000)),
    asked=st.tuples(st.sampled_from(["open"] * 6 + ["sealed", "torn", "half sealed"]), st.sampled_from(_INSTANCES)),
)
def test_ask(
    variant: str, records: list[bytes], flips: list[tuple[int, int]], more: int, asked: tuple[str, str]
) -> None:
    state, instance = asked
    data = bytearray(b"".join(records))
    durable = max(PAGE + len(data) + more, PAGE)
    for place, bits in flips:
        if place < len(data):
            data[place] ^= bits
    seal = Seal(durable, durable, len(records), recovered=False) if state == "sealed" else None
    page = bytearray(encode_page(Identity(1, 2, 3), seal, durable))
    if state == "torn":
        page[1024:1032] = encode_durable(durable + 1)[:8]
    elif state == "half sealed":
        page[512:520] = b"SEALED\0\0"
    with temporary_folder() as folder, _pack(folder, bytes(page + data)) as fd:
        scout = Scout(LIBRARIES[variant], str(folder), KEY_OBJECT_SELECTION)
        scout.begin(folder.stat().st_mtime_ns)
        assert scout.add(fd, PAGE)
        expected = Answer.PERHAPS if state == "half sealed" else _by_python(fd, PAGE, instance)
        assert scout.ask(instance) == expected
        assert scout.ask(instance) == expected  # whether or not it has looked at them before
        if expected is Answer.LACKS:
            assert scout.records == len(records) or more


@pytest.mark.parametrize("variant", LIBRARIES)
def test_a_folder_that_changed_has_to_be_looked_into(variant: str, tmp_path: Path) -> None:
    scout = Scout(LIBRARIES[variant], str(tmp_path), KEY_OBJECT_SELECTION)
    scout.begin(tmp_path.stat().st_mtime_ns)
    assert scout.ask("1.2") == Answer.LACKS
    changed = tmp_path.stat().st_mtime_ns
    scout.begin(changed - 1)
    assert scout.ask("1.2") == Answer.CHANGED
    scout.go_on(changed)
    assert scout.ask("1.2") == Answer.LACKS
    (tmp_path / "another").touch()
    scout.go_on(changed - 1)
    assert scout.ask("1.2") == Answer.CHANGED


@pytest.mark.parametrize("variant", LIBRARIES)
def test_a_scout_goes_on_with_packs_that_are_added(variant: str, tmp_path: Path) -> None:
    one, other = (
        encode_page(Identity(1, number, 3), None, PAGE + len(data)) + data
        for number, data in enumerate([encode_record(record_of("3.1")), encode_record(record_of("3.2"))])
    )
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    scout = Scout(LIBRARIES[variant], str(tmp_path), KEY_OBJECT_SELECTION)
    with _pack(tmp_path / "1", one) as first, _pack(tmp_path / "2", other) as second:
        scout.begin(tmp_path.stat().st_mtime_ns)
        assert scout.add(first, PAGE)
        assert (scout.ask("3.1"), scout.ask("3.2"), scout.records) == (Answer.PERHAPS, Answer.LACKS, 1)
        assert scout.add(second, PAGE)
        assert (scout.ask("3.1"), scout.ask("3.2"), scout.records) == (Answer.PERHAPS, Answer.PERHAPS, 2)
        assert scout.ask("3.3") == Answer.LACKS


@pytest.mark.parametrize("variant", LIBRARIES)
def test_a_scout_keeps_to_its_room(variant: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        Scout(LIBRARIES[variant], "x" * 5000, KEY_OBJECT_SELECTION)
    count = 9000
    data = b"".join([encode_record(record_of(f"3.{number}")) for number in range(count)])
    scout = Scout(LIBRARIES[variant], str(tmp_path), KEY_OBJECT_SELECTION)
    with _pack(tmp_path, encode_page(Identity(1, 2, 3), None, PAGE + len(data)) + data) as fd:
        scout.begin(tmp_path.stat().st_mtime_ns)
        assert scout.add(fd, PAGE)
        answers = [scout.ask("1.2") for _ in range(6)]
        assert answers == [Answer.PERHAPS] * 3 + [Answer.FULL] * 3
        assert scout.records == 8192
        scout.begin(tmp_path.stat().st_mtime_ns)
        assert scout.add(fd, PAGE + len(data))
        assert scout.ask("3.5") == Answer.LACKS
        assert sum(scout.add(fd, PAGE) for _ in range(100)) < 100
