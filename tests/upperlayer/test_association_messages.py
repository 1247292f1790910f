"""Messages and data sets between both sides of an association over the loopback interface."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio
import pytest

from fastarchive.upperlayer import (
    Association,
    AssociationAborted,
    Command,
    CommandField,
    DataSetTooLarge,
    Limits,
    LocalProtocolError,
    encode_command,
    frame_message,
)
from tests.upperlayer.running import (
    ECHO,
    FIND,
    PATIENT,
    POLICY,
    STORE,
    Records,
    Service,
    echo,
    response_to,
    run,
    running,
    to,
    until,
)


def test_echo_and_release() -> None:
    records = Records()

    async def test() -> None:
        async with running(Service(), observer=records) as port:
            async with to(port) as association:
                assert association.is_requestor
                assert list(association.contexts) == [1, 3, 5]
                assert association.peer_maximum_length == 131072
                await echo(association)
                await echo(association)
            await until(lambda: bool(records.outcomes))

    run(test)
    assert records.accepted_titles == ["CALLING"]
    assert records.outcomes == ["released"]


@pytest.mark.parametrize("maximum", [0, 16384, 64, 131072])
@pytest.mark.parametrize("size", [0, 1, 100_001, 3_500_000])
def test_A3_data_sets_of_any_size_arrive_whole(maximum: int, size: int) -> None:
    if maximum == 64:
        size //= 10
    service = Service()
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 70_000):
            yield data[start : start + 70_000]

    async def test() -> None:
        async with running(service, policy=replace(POLICY, maximum_length=maximum)) as port, to(port) as association:
            forms: list[Any] = [data, memoryview(data), pieces(), [data[:5], b"", data[5:]]]
            for form in forms:
                await association.send(3, STORE, form)
                answer = await association.receive()
                assert answer is not None
                assert answer.command.affected_sop_instance == "1.2.3"

    run(test)
    assert [len(found) for found in service.data_sets] == [size] * 4
    assert service.data_sets == [data] * 4


def test_streams_of_answers_are_coalesced_and_whole() -> None:
    pending = Command(field=CommandField.C_FIND_RSP, responding_to=9, status=0xFF00, has_data_set=True)
    pairs = [(encode_command(pending), b"identifier %5d" % number) for number in range(5000)]

    async def answer(association: Association) -> None:
        while (message := await association.receive()) is not None:
            assert await message.data_set(100) == b"key"
            longest = association.longest_fragment
            framed = [frame_message(message.context.id, *pair, longest) for pair in pairs]
            await association.send_framed(b"".join(framed))
            await association.send(message.context.id, response_to(message))

    async def test() -> None:
        async with running(answer) as port, to(port) as association:
            await association.send(5, FIND, b"key")
            found = []
            while (message := await association.receive()) is not None and message.command.is_pending:
                found.append(await message.data_set(100))
            assert message is not None
            assert message.command.status == 0
            assert found == [identifier for _, identifier in pairs]

    run(test)


def test_F10_cancel_is_seen_while_nobody_receives() -> None:
    seen: list[bool] = []

    async def answer(association: Association) -> None:
        message = await association.receive()
        assert message is not None
        await until(lambda: association.cancelled(9))
        assert not association.cancelled(10)
        await association.send(message.context.id, response_to(message, 0xFE00))
        again = await association.receive()
        assert again is not None
        seen.append(association.cancelled(9))
        await association.send(message.context.id, response_to(again))
        assert await association.receive() is None

    async def test() -> None:
        async with running(answer) as port, to(port) as association:
            await association.send(5, FIND, b"key")
            await association.send(5, Command(field=CommandField.C_CANCEL_RQ, responding_to=9))
            message = await association.receive()
            assert message is not None
            assert message.command.status == 0xFE00
            await association.send(5, Command(field=CommandField.C_CANCEL_RQ, responding_to=9))  # too late: ignored
            await association.send(5, FIND, b"key")
            message = await association.receive()
            assert message is not None
            assert message.command.status == 0

    run(test)
    assert seen == [False]


def test_what_a_service_leaves_unread_is_dropped() -> None:
    async def answer(association: Association) -> None:
        while (message := await association.receive()) is not None:
            await association.send(message.context.id, response_to(message))

    async def test() -> None:
        async with running(answer) as port, to(port) as association:
            for _ in range(3):
                await association.send(3, STORE, bytes(9_000_000))
                assert await association.receive() is not None

    run(test)


def test_a_data_set_longer_than_its_limit() -> None:
    async def answer(association: Association) -> None:
        while (message := await association.receive()) is not None:
            with pytest.raises(DataSetTooLarge):
                await message.data_set(1000)
            await association.send(message.context.id, response_to(message, 0xA700))

    async def test() -> None:
        async with running(answer) as port, to(port) as association:
            await association.send(3, STORE, bytes(6_000_000))
            message = await association.receive()
            assert message is not None
            assert message.command.status == 0xA700

    run(test)


def test_reading_stops_while_the_service_does_not_take_its_data() -> None:
    """Memory stays bounded whatever the peer sends, and the peer is not timed out for our slowness."""
    stored: list[int] = []
    go = anyio.Event()

    async def answer(association: Association) -> None:
        message = await association.receive()
        assert message is not None
        await go.wait()
        stored.append(association._connection.inbox.unconsumed)
        total = 0
        async for chunk in message.chunks():
            total += len(chunk)
        stored.append(total)
        await association.send(message.context.id, response_to(message))
        assert await association.receive() is None

    async def test() -> None:
        short = replace(PATIENT, dimse=0.2)
        async with running(answer, timeouts=short) as port, to(port) as association:
            async with anyio.create_task_group() as group:
                group.start_soon(association.send, 3, STORE, bytes(50_000_000))
                await anyio.sleep(0.6)
                go.set()
            assert await association.receive() is not None

    run(test)
    assert stored[0] < 6 * 1024 * 1024
    assert stored[1] == 50_000_000


def test_our_own_mistakes_send_nothing() -> None:
    async def test() -> None:
        async with running(Service()) as port, to(port) as association:
            with pytest.raises(LocalProtocolError):
                await association.send(99, ECHO)
            with pytest.raises(LocalProtocolError):
                await association.send(3, STORE)
            with pytest.raises(LocalProtocolError):
                await association.send(1, ECHO, b"data")
            await echo(association)

    run(test)


def test_two_messages_at_once_do_not_mix() -> None:
    service = Service()

    async def test() -> None:
        async with running(service) as port, to(port) as association:
            async with anyio.create_task_group() as group:
                group.start_soon(association.send, 3, STORE, bytes(3_000_000))
                group.start_soon(association.send, 3, replace(STORE, message_id=8), b"x" * 2_000_000)
            assert await association.receive() is not None
            assert await association.receive() is not None

    run(test)
    assert service.data_sets == [bytes(3_000_000), b"x" * 2_000_000]


def test_limits_can_be_chosen() -> None:
    async def test() -> None:
        async with running(Service(), limits=Limits(command=40)) as port, to(port) as association:
            await association.send(1, ECHO)
            with pytest.raises(AssociationAborted) as caught:
                await association.receive()
            assert (caught.value.source, caught.value.reason) == (2, 6)

    run(test)
