"""How an archive ends: what runs is finished, within limits, and a second signal is obeyed at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from fastarchive.archive import Archive
from fastarchive.upperlayer import Association, AssociationError, Command, CommandField, ProposedContext, connect
from tests.server.harness import RunningArchive, alive, eventually
from tests.server.instances import EXPLICIT_LITTLE_UID, SECONDARY_CAPTURE, small_instance, sop_instance_uid

LARGE = 400_000


@pytest.fixture
def archive(tmp_path: Path) -> RunningArchive:
    return RunningArchive(tmp_path / "data", workers=1)


def in_the_middle_of_a_store(
    archive: RunningArchive, then: Callable[[Association, anyio.Event], Awaitable[None]]
) -> None:
    """Send half of an instance, run ``then``, and send the rest once it sets the event."""

    async def main() -> None:
        go_on, halfway = anyio.Event(), anyio.Event()
        data_set = small_instance(1, pixels=LARGE)

        async def halves() -> AsyncIterator[bytes]:
            yield data_set[: LARGE // 2]
            # The sender keeps one piece back: the first half is on its way when the piece after this one is asked for.
            yield data_set[LARGE // 2 : LARGE // 2 + 2]
            halfway.set()
            await go_on.wait()
            yield data_set[LARGE // 2 + 2 :]

        contexts = [ProposedContext(SECONDARY_CAPTURE, [EXPLICIT_LITTLE_UID])]
        command = Command(
            field=CommandField.C_STORE_RQ,
            message_id=1,
            affected_sop_class=SECONDARY_CAPTURE,
            affected_sop_instance=sop_instance_uid(1),
            priority=0,
            has_data_set=True,
        )
        async with (
            connect(
                archive.host,
                archive.dicom_port,
                calling_ae="TEST",
                called_ae=archive.ae_title,
                contexts=contexts,
            ) as association,
            anyio.create_task_group() as group,
        ):
            group.start_soon(association.send, 1, command, halves())
            await halfway.wait()
            await then(association, go_on)

    anyio.run(main, backend_options={"use_uvloop": True})


async def until(what: str, probe: Callable[[], object]) -> None:
    await anyio.to_thread.run_sync(eventually, what, probe)


def test_drain_finishes_what_runs_and_takes_nothing_new(archive: RunningArchive) -> None:
    archive.start()

    async def then(association: Association, go_on: anyio.Event) -> None:
        os.kill(archive.pid, signal.SIGTERM)
        await until("draining", lambda: archive.get("/readyz")[0] == 503)
        assert archive.get("/healthz")[0] == 200
        with pytest.raises((AssociationError, OSError)):
            async with connect(
                archive.host,
                archive.dicom_port,
                calling_ae="LATE",
                called_ae=archive.ae_title,
                contexts=[ProposedContext(SECONDARY_CAPTURE, [EXPLICIT_LITTLE_UID])],
            ):
                pass
        go_on.set()
        answer = await association.receive()
        assert answer is not None
        assert answer.command.status == 0

    in_the_middle_of_a_store(archive, then)
    assert archive.wait() == 0
    for name in ("supervisor.pid", "dicom-port", "http-port", "processes.json"):
        assert not (archive.data / "run" / name).exists()
    with Archive.open(archive.data, read_only=True) as stored:
        assert b"".join(stored.read(sop_instance_uid(1)).chunks()) == small_instance(1, pixels=LARGE)
        assert stored.status()["index_tail_records"] == 0, "everything is committed to the index"


def test_drain_ends_what_takes_too_long(archive: RunningArchive) -> None:
    archive.options["drain_seconds"] = 0.3
    archive.start()

    async def then(association: Association, go_on: anyio.Event) -> None:
        os.kill(archive.pid, signal.SIGTERM)
        await until("ended", lambda: not archive.running)
        go_on.set()
        with pytest.raises(AssociationError):
            await association.receive()

    with pytest.raises((ExceptionGroup, AssociationError)):
        # The rest of the data set has nowhere to go.
        in_the_middle_of_a_store(archive, then)
    assert archive.wait() == 0
    with Archive.open(archive.data, read_only=True) as stored:
        assert stored.status()["instances"] == 0


def test_second_signal_ends_at_once(archive: RunningArchive) -> None:
    archive.options["drain_seconds"] = 600
    archive.start()

    async def then(association: Association, go_on: anyio.Event) -> None:
        os.kill(archive.pid, signal.SIGTERM)
        await until("draining", lambda: archive.get("/readyz")[0] == 503)
        children = archive.children()
        started = time.monotonic()
        os.kill(archive.pid, signal.SIGINT)
        await until("ended", lambda: not archive.running)
        assert time.monotonic() - started < 10
        assert not any(map(alive, children))
        go_on.set()
        with pytest.raises(AssociationError):
            await association.receive()

    with pytest.raises((ExceptionGroup, AssociationError)):
        in_the_middle_of_a_store(archive, then)
    assert archive.wait() == 1


def test_an_idle_association_does_not_hold_up_the_end(archive: RunningArchive) -> None:
    archive.options["drain_seconds"] = 600
    archive.start()

    async def main() -> None:
        async with connect(
            archive.host,
            archive.dicom_port,
            calling_ae="IDLE",
            called_ae=archive.ae_title,
            contexts=[ProposedContext(SECONDARY_CAPTURE, [EXPLICIT_LITTLE_UID])],
        ):
            # As Ctrl-C on a terminal: the signal goes to the whole process group.
            os.killpg(archive.pid, signal.SIGINT)
            await until("ended", lambda: not archive.running)

    anyio.run(main, backend_options={"use_uvloop": True})
    assert archive.wait() == 0
