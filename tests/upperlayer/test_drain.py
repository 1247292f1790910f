"""The end of a server: what runs may finish, what is idle or stuck ends."""

from __future__ import annotations

import socket
from functools import partial

import anyio
import pytest

from fastarchive.upperlayer import (
    Association,
    AssociationAborted,
    Drain,
    serve,
)
from fastarchive.upperlayer.negotiation import build_request
from fastarchive.upperlayer.pdu import encode_pdu
from tests.upperlayer.running import (
    CONTEXTS,
    ECHO,
    PATIENT,
    POLICY,
    Records,
    Service,
    response_to,
    run,
    to,
    until,
)


def test_drain_lets_an_operation_finish() -> None:
    drain = Drain(5, quiet=0.05)
    answered: list[int | None] = []

    async def slow(association: Association) -> None:
        while (message := await association.receive()) is not None:
            drain.start()
            await anyio.sleep(0.4)
            await association.send(message.context.id, response_to(message))

    async def ask(port: int) -> None:
        async with to(port) as association:
            await association.send(1, ECHO)
            message = await association.receive()
            answered.append(message.command.status if message else None)

    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with anyio.create_task_group() as group:
                group.start_soon(ask, listener.getsockname()[1])
                with anyio.fail_after(5):
                    await serve(listener, policy=POLICY, handler=slow, drain=drain, timeouts=PATIENT)

    run(test)
    assert answered == [0]


def test_drain_ends_the_idle_and_after_its_grace_the_stuck() -> None:
    async def stuck(association: Association) -> None:
        await association.receive()
        await anyio.sleep_forever()

    async def test() -> None:
        for handler, outcome in ((Service(), "aborted"), (stuck, "aborted")):
            drain = Drain(0.3, quiet=0.05)
            records = Records()
            with socket.create_server(("127.0.0.1", 0)) as listener:
                async with anyio.create_task_group() as group:
                    call = partial(serve, policy=POLICY, handler=handler, drain=drain, observer=records)
                    await group.start(partial(call, timeouts=PATIENT), listener)
                    async with to(listener.getsockname()[1]) as association:
                        await association.send(1, ECHO)
                        drain.start()
                        with pytest.raises(AssociationAborted):
                            while await association.receive() is not None:
                                pass
            assert records.outcomes == [outcome]

    run(test)


def test_drain_does_not_wait_for_a_peer_that_never_closes() -> None:
    """What was aborted, or has released, has ARTIM to close its side; the end of a drain is sooner."""
    drain = Drain(0.3, quiet=0.05)
    records = Records()
    request = encode_pdu(build_request(calling_ae="CALLING", called_ae="CALLED", contexts=CONTEXTS))

    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with anyio.create_task_group() as group:
                call = partial(serve, policy=POLICY, handler=Service(), drain=drain, observer=records)
                with anyio.fail_after(PATIENT.artim / 2):
                    await group.start(partial(call, timeouts=PATIENT), listener)
                    async with await anyio.connect_tcp(*listener.getsockname()) as stream:
                        await stream.send(request)
                        await stream.receive()
                        drain.start()
                        assert (await stream.receive())[:1] == b"\x07"
                        await until(lambda: bool(records.outcomes))

    run(test)
    assert records.outcomes == ["aborted"]
