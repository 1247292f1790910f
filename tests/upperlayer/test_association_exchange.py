"""Requests one after another, each sent by the callback that hears the response to the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio
import pytest

from fastarchive.upperlayer import (
    Association,
    AssociationAborted,
    AssociationTimeout,
    Command,
    encode_command,
    frame_command,
    frame_data_set,
)
from tests.upperlayer.running import ECHO, STORE, response_to, run, running, to

Parts = Sequence[bytes | memoryview]


def stored(association: Association, message_id: int, size: int) -> Parts:
    """A C-STORE request in PDUs."""
    context = association.context_for(STORE.affected_sop_class)
    assert context is not None
    command = encode_command(replace(STORE, message_id=message_id))
    longest = association.longest_fragment
    return [
        frame_command(context.id, command, longest),
        *frame_data_set(context.id, bytes([message_id]) * size, longest, last=True),
    ]


@pytest.mark.parametrize("size", [10, 300_000, 3 << 20])
def test_requests_follow_their_responses_and_the_association_serves_on(size: int) -> None:
    received: list[bytes] = []

    async def service(association: Association) -> None:
        while (message := await association.receive()) is not None:
            if message.command.has_data_set:
                received.append(await message.data_set(8 << 20))
            await association.send(message.context.id, response_to(message))

    async def test() -> None:
        async with running(service) as port, to(port) as association:
            heard: list[int] = []

            def answered(command: Command | None) -> Parts | None:
                assert command is not None
                heard.append(command.responding_to)
                return stored(association, command.responding_to + 1, size) if command.responding_to < 5 else None

            await association.exchange(stored(association, 1, size), answered, 5)
            assert heard == [1, 2, 3, 4, 5]
            assert received == [bytes([number]) * size for number in heard]
            await association.send(1, ECHO)
            response = await association.receive()
            assert response is not None and response.command.responding_to == ECHO.message_id

    run(test)


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_response_that_was_expected_is_told_as_such_and_any_other_is_read(pieces: int) -> None:
    """The second one has another status; in two pieces none is told before it is whole."""
    statuses = {2: 0xB000}

    async def service(association: Association) -> None:
        while (message := await association.receive()) is not None:
            command = response_to(message)
            command = replace(command, status=statuses.get(command.responding_to, 0))
            framed = frame_command(message.context.id, encode_command(command), association.longest_fragment)
            for start in range(0, len(framed), -(-len(framed) // pieces)):
                await association.send_framed(framed[start : start + -(-len(framed) // pieces)])
                await anyio.sleep(0.02 if pieces > 1 else 0)

    async def test() -> None:
        async with running(service) as port, to(port) as association:
            heard: list[int | None] = []
            context = association.context_for(STORE.affected_sop_class)
            assert context is not None

            def following(number: int) -> Parts:
                command = Command(
                    field=STORE.field.response,
                    responding_to=number,
                    affected_sop_class=STORE.affected_sop_class,
                    affected_sop_instance=STORE.affected_sop_instance,
                    status=0,
                )
                association.expect(frame_command(context.id, encode_command(command), association.longest_fragment))
                return stored(association, number, 10)

            def answered(command: Command | None) -> Parts | None:
                heard.append(None if command is None else command.status)
                return following(len(heard) + 1) if len(heard) < 4 else None

            await association.exchange(following(1), answered, 5)
            assert heard == ([None, 0xB000, None, None] if pieces == 1 else [0, 0xB000, 0, 0])
            await association.send(1, ECHO)
            response = await association.receive()
            assert response is not None and response.command.responding_to == ECHO.message_id

    run(test)


def test_what_is_raised_on_hearing_a_response_is_raised_by_the_exchange() -> None:
    async def service(association: Association) -> None:
        while (message := await association.receive()) is not None:
            await association.send(message.context.id, response_to(message))

    async def test() -> None:
        async with running(service) as port, to(port) as association:

            def answered(command: Command | None) -> Parts | None:
                raise LookupError

            with pytest.raises(LookupError):
                await association.exchange(stored(association, 1, 10), answered, 5)

    run(test)


def test_an_exchange_ends_with_the_association() -> None:
    async def service(association: Association) -> None:
        await association.receive()
        await association.abort()

    async def test() -> None:
        async with running(service) as port, to(port) as association:
            with pytest.raises(AssociationAborted):
                await association.exchange(stored(association, 1, 10), lambda command: None, 5)

    run(test)


def test_an_exchange_does_not_wait_for_ever() -> None:
    async def service(association: Association) -> None:
        await association.receive()
        await anyio.sleep_forever()

    async def test() -> None:
        async with running(service) as port, to(port) as association:
            with pytest.raises(AssociationTimeout):
                await association.exchange(stored(association, 1, 10), lambda command: None, 0.2)

    run(test)


def test_responses_given_before_the_request_has_arrived_do_not_fill_the_memory() -> None:
    """A peer that answers everything and takes nothing is held up as one that answers nothing."""

    async def service(association: Association) -> None:
        message = await association.receive()
        assert message is not None
        for number in range(1, 200):
            answer = replace(response_to(message), responding_to=number)
            await association.send(message.context.id, answer)
        await anyio.sleep_forever()  # takes nothing of what comes: its inbox is full, then the sockets

    async def test() -> None:
        async with running(service) as port, to(port) as association:
            written = 0

            def answered(command: Command | None) -> Parts | None:
                nonlocal written
                written += 1
                return stored(association, 2, 900_000)

            with anyio.move_on_after(1.0) as waited:
                await association.exchange(stored(association, 1, 900_000), answered, 5)
            assert waited.cancelled_caught
            assert written < 100
            await association.abort()

    run(test)
