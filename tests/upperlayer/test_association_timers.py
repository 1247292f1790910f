"""The peer's silence: what waits for it ends after the time set for it (A4)."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import anyio
import pytest

from fastarchive.upperlayer import (
    Association,
    AssociationAborted,
    AssociationTimeout,
    Timeouts,
    connect,
)
from tests.upperlayer.running import (
    CONTEXTS,
    ECHO,
    PATIENT,
    Records,
    Service,
    echo,
    response_to,
    run,
    running,
    to,
    until,
)


async def _ends_with(timeouts: Timeouts, handler: Any = None) -> str:
    """The outcome on the acceptor's side, of an association nobody says anything on."""
    records = Records()
    async with running(handler or Service(), timeouts=timeouts, observer=records) as port, to(port) as association:
        with pytest.raises(AssociationAborted):
            await association.receive()
        await until(lambda: bool(records.outcomes))
    return records.outcomes[0]


def test_A4_idle() -> None:
    async def test() -> None:
        assert await _ends_with(replace(PATIENT, idle=0.2)) == "timeout"

    run(test)


def test_A4_a_busy_service_is_not_idle() -> None:
    async def slow(association: Association) -> None:
        while (message := await association.receive()) is not None:
            await anyio.sleep(0.5)
            await association.send(message.context.id, response_to(message))

    async def test() -> None:
        async with running(slow, timeouts=replace(PATIENT, idle=0.2)) as port, to(port) as association:
            await echo(association)

    run(test)


def test_A4_no_response() -> None:
    async def mute(association: Association) -> None:
        await association.receive()
        await anyio.sleep(3)

    async def test() -> None:
        async with running(mute) as port:
            timeouts = replace(PATIENT, response=0.2)
            async with connect(
                "127.0.0.1", port, calling_ae="A", called_ae="B", contexts=CONTEXTS, timeouts=timeouts
            ) as association:
                await association.send(1, ECHO)
                with pytest.raises(AssociationTimeout) as caught:
                    await association.receive()
                assert caught.value.timer == "idle"

    run(test)


def test_A4_no_answer_to_a_request_or_a_release() -> None:
    async def mute(listener: socket.socket, taken: list[socket.socket]) -> None:
        await anyio.wait_readable(listener)
        taken.append(listener.accept()[0])

    async def test() -> None:
        taken: list[socket.socket] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with anyio.create_task_group() as group:
                group.start_soon(mute, listener, taken)
                with pytest.raises(AssociationTimeout) as caught:
                    async with connect(
                        "127.0.0.1",
                        listener.getsockname()[1],
                        calling_ae="A",
                        called_ae="B",
                        contexts=CONTEXTS,
                        timeouts=Timeouts(acse=0.2, artim=0.2),
                    ):
                        pass
                assert caught.value.timer == "acse"
            taken[0].close()

    run(test)
