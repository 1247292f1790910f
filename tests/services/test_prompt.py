"""Plain instances stored and answered by the callbacks of the event loop, over a real port."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from pydicom.dataset import Dataset

from fastarchive.archive import Archive
from fastarchive.metrics import exposition
from fastarchive.native.loading import library
from fastarchive.plain import Beginning, PlainInstances
from fastarchive.services.context import Limits
from fastarchive.store.disk import Disk
from fastarchive.store.filters import Buffer
from fastarchive.upperlayer import Association, Command, CommandField, Message, ProposedContext, connect
from fastarchive.upperlayer.commands import encode_command, store_success
from fastarchive.upperlayer.pdu import frame_command
from tests.services.loopback import Loopback, encode, serving, slice_of
from tests.services.scu import CT, EXPLICIT, store
from tests.store.lines import needs_library
from tests.store.making import FaultyDisk

ALONE: dict[str, object] = {"write_index": False}
"""No commit of the index, which makes the next instance go the long way."""


class Held(Disk):
    """A disk whose syncs wait until they may go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def sync(self, fd: int) -> None:
        self.reached.set()
        assert self.go_on.wait(20)
        super().sync(fd)


class Switched(Disk):
    """A disk that stands for another."""

    def __init__(self) -> None:
        self.to: Disk = Disk()

    def write_some(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        return self.to.write_some(fd, buffers, offset)

    def sync(self, fd: int) -> None:
        self.to.sync(fd)

    def create(self, path: Path) -> int:
        return self.to.create(path)


@pytest.fixture(autouse=True)
def switched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Switched]:
    """What the line writes to, by callbacks from its threads."""
    disk = Switched()
    monkeypatch.setattr("fastarchive.store.line.DISK", disk)
    yield disk


@pytest.fixture
def no_other_way(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is stored but by the short way."""
    if library() is None:
        yield  # there is no short way
        return

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("taken the long way")

    monkeypatch.setattr(Archive, "receive", refuse)
    yield


def on(loopback: Loopback, disk: Disk) -> None:
    """From now on everything is written to `disk`."""
    plain = loopback.archive.plain_instances(1)
    assert plain is not None
    log, line = loopback.archive._log, plain._line
    assert log is not None
    log._disk = disk
    assert isinstance(line._disk, Switched)
    line._disk.to = disk


def conversation(loopback: Loopback, talk: Callable[[Association], Awaitable[None]]) -> None:
    """An association in which `talk` says everything, released afterwards."""

    async def main() -> None:
        proposed = [ProposedContext(CT, (EXPLICIT,))]
        async with connect(
            loopback.host, loopback.port, calling_ae="SCU", called_ae="FASTARCHIVE", contexts=proposed
        ) as association:
            with anyio.fail_after(20):
                await talk(association)

    anyio.run(main)


def large(number: int = 1) -> Dataset:
    """A slice that a thread works on."""
    data_set = slice_of(number=number)
    data_set.Rows = data_set.Columns = 512
    pixels = np.random.default_rng(number).integers(0, 200, (512, 512)) + 900
    data_set.PixelData = pixels.astype(np.uint16).tobytes()
    return data_set


def request(number: int, data_set: Dataset) -> Command:
    """A C-STORE-RQ with this Message ID."""
    return Command(
        field=CommandField.C_STORE_RQ,
        message_id=number,
        affected_sop_class=CT,
        affected_sop_instance=data_set.SOPInstanceUID,
        priority=0,
        has_data_set=True,
    )


def context_id(association: Association) -> int:
    """Of the one presentation context."""
    context = association.context_for(CT)
    assert context is not None
    return context.id


async def send(association: Association, number: int, of: Callable[..., Dataset] = slice_of) -> None:
    """A C-STORE-RQ, its Message ID the number of the slice."""
    data_set = of(number=number)
    await association.send(context_id(association), request(number, data_set), encode(data_set))


async def answer(association: Association) -> tuple[int, int | None]:
    """Message ID and status of the next response."""
    message: Message | None = await association.receive()
    assert message is not None
    return message.command.responding_to, message.command.status


@pytest.mark.usefixtures("no_other_way")
@pytest.mark.parametrize("of", [slice_of, large])
def test_S1_plain_instances_are_stored_and_counted(tmp_path: Path, of: Callable[..., Dataset]) -> None:
    slices = [of(number=number) for number in range(1, 4)]
    with serving(tmp_path, archive_options=ALONE) as loopback:
        assert store(loopback, slices) == [0, 0, 0]
        for data_set in slices:
            assert b"".join(loopback.archive.read(data_set.SOPInstanceUID).chunks()) == encode(data_set)
        text = exposition(loopback.context.metrics).decode()
        assert 'store_instances_total{calling_ae="SCU",outcome="stored"} 3.0' in text
        for stage in ("receive", "digest", "compress", "sync", "acknowledge"):
            assert f'fastarchive_store_stage_seconds_count{{stage="{stage}"}} 3.0' in text
        assert (loopback.context.arrivals.under_way, loopback.context.arrivals.held) == (0, 0)


@pytest.mark.parametrize("of", [slice_of, large])
def test_S3_the_same_again_and_others_under_its_uid(tmp_path: Path, of: Callable[..., Dataset]) -> None:
    first, other = of(number=1), of(number=1)
    other.PatientName = "Other^Name"
    with serving(tmp_path, archive_options=ALONE) as loopback:
        assert store(loopback, [first, first, other, first]) == [0, 0, 0xA900, 0]
        assert loopback.archive.log_status().records == 1


@pytest.mark.usefixtures("no_other_way")
def test_messages_sent_ahead_are_answered_in_their_order(tmp_path: Path) -> None:
    async def talk(association: Association) -> None:
        for number in range(1, 9):
            await send(association, number, large if number == 3 else slice_of)
        assert [await answer(association) for _ in range(8)] == [(number, 0) for number in range(1, 9)]

    with serving(tmp_path, archive_options=ALONE) as loopback:
        conversation(loopback, talk)
        assert loopback.archive.log_status().records == 8


@pytest.mark.usefixtures("no_other_way")
@pytest.mark.parametrize("of", [slice_of, large])
def test_S1_nothing_is_answered_before_the_disk_has_it_and_a_release_waits(
    tmp_path: Path, of: Callable[..., Dataset]
) -> None:
    disk = Held()
    answered: list[tuple[int, int | None]] = []

    async def talk(association: Association) -> None:
        await send(association, 1, of)
        assert await anyio.to_thread.run_sync(disk.reached.wait, 20)
        with anyio.move_on_after(0.1):
            answered.append(await answer(association))
        assert not answered
        release = threading.Timer(0.1, disk.go_on.set)
        release.start()
        await association.release()  # its answer comes behind that to the C-STORE
        release.join()

    with serving(tmp_path, archive_options=ALONE) as loopback:
        on(loopback, disk)
        conversation(loopback, talk)
        assert loopback.archive.read(slice_of(number=1).SOPInstanceUID).record.calling_ae == "SCU"
        text = exposition(loopback.context.metrics).decode()
        assert 'store_instances_total{calling_ae="SCU",outcome="stored"} 1.0' in text


@pytest.mark.usefixtures("no_other_way")
@pytest.mark.parametrize("of", [slice_of, large])
def test_S2_a_disk_that_fails_or_is_full_is_told(tmp_path: Path, of: Callable[..., Dataset]) -> None:
    with serving(tmp_path, archive_options=ALONE) as loopback:
        on(loopback, FaultyDisk(fail_sync=1))
        assert store(loopback, [of(number=1), of(number=1)]) == [0x0110, 0]
        on(loopback, FaultyDisk(room=0))
        assert store(loopback, [of(number=2)]) == [0xA700]
        assert (loopback.context.arrivals.under_way, loopback.context.arrivals.held) == (0, 0)


def test_S2_a_disk_that_does_not_answer_is_told_and_used_again(tmp_path: Path) -> None:
    disk = Held()

    async def talk(association: Association) -> None:
        await send(association, 1)
        assert await answer(association) == (1, 0xA700)
        await send(association, 2)
        assert await answer(association) == (2, 0xA700)
        disk.go_on.set()
        number = 3
        await send(association, number)
        while (await answer(association))[1]:  # the committer may not have noticed yet
            number += 1
            await send(association, number)

    with serving(tmp_path, archive_options=ALONE, limits=Limits(store_seconds=0.2)) as loopback:
        on(loopback, disk)
        conversation(loopback, talk)
        assert loopback.context.arrivals.under_way == 0


@pytest.mark.parametrize("of", [slice_of, large])
def test_S7_one_instance_from_many_associations_at_once_is_stored_once(
    tmp_path: Path, of: Callable[..., Dataset]
) -> None:
    disk = Held()
    statuses: list[int] = []
    one = of(number=1)
    with serving(tmp_path, archive_options=ALONE, threads=2) as loopback:  # fewer than want to wait
        on(loopback, disk)
        senders = [threading.Thread(target=lambda: statuses.extend(store(loopback, [one]))) for _ in range(4)]
        for sender in senders:
            sender.start()
        assert disk.reached.wait(20)
        disk.go_on.set()
        for sender in senders:
            sender.join(20)
        assert statuses == [0, 0, 0, 0]
        assert loopback.archive.log_status().records == 1


def test_S7_two_data_sets_under_one_uid_at_once_are_told_apart(tmp_path: Path) -> None:
    statuses: list[int] = []
    one, other = large(1), large(2)
    other.SOPInstanceUID = one.SOPInstanceUID
    with serving(tmp_path, archive_options=ALONE) as loopback:
        senders = [threading.Thread(target=lambda d=d: statuses.extend(store(loopback, [d]))) for d in (one, other)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(20)
        assert sorted(statuses) == [0, 0xA900]
        assert loopback.archive.log_status().records == 1


class Begun:
    """Counts the records that were begun before their data sets had come to an end."""

    def __init__(self) -> None:
        self.count = 0
        self._one = threading.Semaphore(0)

    def note(self) -> None:
        """There is one more."""
        self.count += 1
        self._one.release()

    def wait(self) -> None:
        """For the next one."""
        assert self._one.acquire(timeout=20)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Begun:
    """Every record is begun that can be."""
    begun = Begun()
    begin = PlainInstances.begin

    def note(plain: PlainInstances, *arguments: Any) -> Beginning:
        deadline = time.monotonic() + 20
        while (beginning := begin(plain, *arguments)) is None:  # its threads may not be there yet
            assert time.monotonic() < deadline
        begun.note()
        return beginning

    monkeypatch.setattr(PlainInstances, "begin", note)
    return begun


async def send_slowly(
    association: Association, number: int, data_set: Dataset, begun: Begun, *, more: bytes | None = b""
) -> None:
    """A C-STORE-RQ whose last part, and `more` behind it, follows when the record was begun; None: nothing follows."""

    async def pieces() -> AsyncIterator[bytes]:
        data = encode(data_set)
        yield data[:200_000]
        yield data[200_000:300_000]
        await anyio.to_thread.run_sync(begun.wait)
        if more is None:
            raise ConnectionError
        data += more
        for at in range(300_000, len(data), 100_000):
            yield data[at : at + 100_000]

    await association.send(context_id(association), request(number, data_set), pieces())


@needs_library
@pytest.mark.usefixtures("no_other_way")
def test_S1_a_slice_is_worked_on_while_it_arrives(tmp_path: Path, begun: Begun) -> None:
    slices = [large(number) for number in range(1, 5)]

    async def talk(association: Association) -> None:
        for number, data_set in enumerate(slices, 1):
            await send_slowly(association, number, data_set, begun)
            assert await answer(association) == (number, 0)

    with serving(tmp_path, archive_options=ALONE) as loopback:
        conversation(loopback, talk)
        assert begun.count == 4
        assert loopback.archive.log_status().records == 4
        for data_set in slices:
            assert b"".join(loopback.archive.read(data_set.SOPInstanceUID).chunks()) == encode(data_set)
        assert (loopback.context.arrivals.under_way, loopback.context.arrivals.held) == (0, 0)


@needs_library
def test_S3_S7_a_slice_that_turns_out_to_be_known_is_answered_as_such(tmp_path: Path, begun: Begun) -> None:
    first, other = large(1), large(1)
    other.PatientName = "Other^Name"

    async def talk(association: Association) -> None:
        for number, data_set, status in ((1, first, 0), (2, first, 0), (3, other, 0xA900), (4, first, 0)):
            await send_slowly(association, number, data_set, begun)
            assert await answer(association) == (number, status)

    with serving(tmp_path, archive_options=ALONE) as loopback:
        conversation(loopback, talk)
        assert begun.count == 4
        assert loopback.archive.log_status().records == 1


@needs_library
def test_a_slice_that_does_not_come_to_its_end_leaves_nothing(tmp_path: Path, begun: Begun) -> None:
    async def stop(association: Association) -> None:
        with pytest.raises(ConnectionError):
            await send_slowly(association, 1, large(1), begun, more=None)

    async def talk(association: Association) -> None:
        await send_slowly(association, 1, large(1), begun)
        assert await answer(association) == (1, 0)

    with serving(tmp_path, archive_options=ALONE) as loopback:
        conversation(loopback, stop)
        conversation(loopback, stop)
        conversation(loopback, talk)
        assert begun.count == 3
        assert loopback.archive.log_status().records == 1
        assert (loopback.context.arrivals.under_way, loopback.context.arrivals.held) == (0, 0)


@needs_library
def test_more_than_the_header_tells_goes_the_long_way(tmp_path: Path, begun: Begun) -> None:
    trailing = struct.pack("<HH2sHL", 0xFFFC, 0xFFFC, b"OB", 0, 300_000) + bytes(300_000)

    async def talk(association: Association) -> None:
        await send_slowly(association, 1, large(1), begun, more=trailing)
        assert await answer(association) == (1, 0)
        await send_slowly(association, 2, large(2), begun)
        assert await answer(association) == (2, 0)

    with serving(tmp_path, archive_options=ALONE) as loopback:
        conversation(loopback, talk)
        assert begun.count == 2
        assert b"".join(loopback.archive.read(large(1).SOPInstanceUID).chunks()) == encode(large(1)) + trailing
        assert loopback.archive.log_status().records == 2


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34"])
def test_the_answer_is_the_one_that_is_encoded_from_a_command(uid: str) -> None:
    command = Command(
        field=CommandField.C_STORE_RSP, responding_to=0x1234, affected_sop_class=CT, affected_sop_instance=uid, status=0
    )
    assert store_success(7, CT, uid, 0x1234) == frame_command(7, encode_command(command), 4096)
