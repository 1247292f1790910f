"""An association that ends: released, or aborted by either side. Both sides over the loopback interface."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio
import pytest

from fastarchive.upperlayer import (
    Association,
    AssociationAborted,
)
from tests.upperlayer.running import (
    ECHO,
    PATIENT,
    STORE,
    Records,
    Service,
    response_to,
    run,
    running,
    to,
    until,
)


def test_nothing_is_sent_after_the_end() -> None:
    async def test() -> None:
        async with running(Service()) as port, to(port) as association:
            await association.release()
            assert not association.is_open
            with pytest.raises(AssociationAborted):
                await association.send(1, ECHO)
            with pytest.raises(AssociationAborted):
                await association.receive()
            await association.release()
            await association.abort()

    run(test)


@pytest.mark.parametrize("size", [100, 20_000_000])
def test_the_peers_abort_ends_a_wait_at_once(size: int) -> None:
    """Waiting for a message, within a data set, and while sending to a peer that does not read."""
    ended: list[AssociationAborted] = []

    async def answer(association: Association) -> None:
        try:
            message = await association.receive()
            assert message is not None
            async for _ in message.chunks():
                pass
            await association.send(message.context.id, response_to(message))
            await association.receive()
        except AssociationAborted as error:
            ended.append(error)
            raise

    async def test() -> None:
        records = Records()
        async with running(answer, observer=records) as port:
            async with to(port) as association:
                await association.send(3, STORE, bytes(size))
                await association.abort()
            await until(lambda: bool(records.outcomes))
            assert records.outcomes == ["peer-aborted"]

    run(test)
    assert ended[0].by_peer


def test_leaving_by_an_exception_aborts() -> None:
    records = Records()

    async def test() -> None:
        async with running(Service(), observer=records) as port:
            with pytest.raises(ZeroDivisionError):
                async with to(port):
                    raise ZeroDivisionError
            await until(lambda: bool(records.outcomes))

    run(test)
    assert records.outcomes == ["peer-aborted"]


def test_a_failing_handler_aborts_and_does_not_tell_why(caplog: pytest.LogCaptureFixture) -> None:
    async def answer(association: Association) -> None:
        raise ValueError("Doe^Jane")

    async def test() -> None:
        async with running(answer) as port:
            async with to(port) as association:
                with pytest.raises(AssociationAborted) as caught:
                    await association.receive()
                assert caught.value.by_peer
            async with to(port) as association:
                with pytest.raises(AssociationAborted):
                    await association.receive()

    run(test)
    assert "ValueError" in caplog.text
    assert "Doe" not in caplog.text


def test_an_unfinished_message_aborts() -> None:
    """A5: half a data set can't be taken back."""
    service = Service()

    def pieces() -> Any:
        yield b"abc"
        yield b"def"
        raise OSError("the disk is gone")

    async def test() -> None:
        async with running(service) as port, to(port) as association:
            with pytest.raises(OSError, match="disk"):
                await association.send(3, STORE, pieces())
            with pytest.raises(AssociationAborted):
                await association.send(1, ECHO)

    run(test)
    assert service.data_sets == []


def test_a_cancelled_send_aborts() -> None:
    async def stuck(association: Association) -> None:
        await anyio.sleep(5)

    async def test() -> None:
        impatient = replace(PATIENT, artim=0.1)
        async with running(stuck) as port, to(port, timeouts=impatient) as association:
            with anyio.move_on_after(0.2) as scope:
                await association.send(3, STORE, bytes(60_000_000))
            assert scope.cancelled_caught
            assert not association.is_open

    run(test)
