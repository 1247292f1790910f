"""Several processes that accept from one socket: how connections spread over them."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from functools import partial

import anyio
import pytest

from fastarchive.upperlayer import Association, Neighbours, serve
from fastarchive.upperlayer.neighbours import SLOT
from tests.upperlayer.running import PATIENT, POLICY, Service, run, to


def test_one_that_has_more_than_another_lets_it_go_first() -> None:
    shared = memoryview(bytearray(3 * SLOT))
    first, second, third = (Neighbours(shared, own) for own in range(3))
    first.note(1)
    assert first.one_has_fewer
    assert not second.one_has_fewer
    second.note(1)
    third.note(2)
    assert not first.one_has_fewer
    assert third.one_has_fewer


def test_nobody_waits_for_one_that_has_left() -> None:
    shared = memoryview(bytearray(2 * SLOT))
    staying, leaving = Neighbours(shared, 0), Neighbours(shared, 1)
    staying.note(5)
    leaving.leave()
    leaving.note(0)  # its last connections end
    assert not staying.one_has_fewer


def test_a_process_alone_waits_for_nobody() -> None:
    alone = Neighbours.alone()
    alone.note(7)
    assert not alone.one_has_fewer


def test_a_place_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="number 2"):
        Neighbours(memoryview(bytearray(2 * SLOT)), 2)


def test_associations_that_come_at_once_are_spread_evenly() -> None:
    had = [0, 0]

    async def test() -> None:
        shared = memoryview(bytearray(2 * SLOT))
        with socket.create_server(("127.0.0.1", 0)) as listener, listener.dup() as same:
            async with anyio.create_task_group() as group:
                for own, socket_of_one in enumerate((listener, same)):

                    async def count(association: Association, own: int = own) -> None:
                        had[own] += 1
                        await Service()(association)

                    others = Neighbours(shared, own)
                    serving = partial(serve, policy=POLICY, handler=count, timeouts=PATIENT, neighbours=others)
                    await group.start(serving, socket_of_one)
                async with AsyncExitStack() as stack:
                    for _ in range(8):
                        await stack.enter_async_context(to(listener.getsockname()[1]))
                group.cancel_scope.cancel()

    run(test)
    assert had == [4, 4]


def test_a_connection_is_taken_when_the_one_that_should_does_not() -> None:
    async def test() -> None:
        shared = memoryview(bytearray(2 * SLOT))  # the other process has none, and is stuck
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with anyio.create_task_group() as group:
                others = Neighbours(shared, 0)
                await group.start(
                    partial(serve, policy=POLICY, handler=Service(), timeouts=PATIENT, neighbours=others), listener
                )
                async with to(listener.getsockname()[1]), to(listener.getsockname()[1]):
                    assert others.one_has_fewer
                group.cancel_scope.cancel()

    run(test)
