"""Room in memory for what is on its way in: taken, waited for in line, given back."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from fastarchive.services.arrivals import Arrivals, NoRoom


def test_room_is_taken_and_given_back() -> None:
    arrivals = Arrivals(memory=100)
    first, second = arrivals.begin(), arrivals.begin()
    assert first.take(60)
    assert not second.take(41)
    assert second.take(40)
    first.keep(10)
    assert arrivals.held == 50
    first.end()
    first.end()
    first.keep(30)
    assert (arrivals.held, arrivals.under_way) == (40, 1)


def test_who_waits_is_let_in_in_turn() -> None:
    async def main() -> list[str]:
        arrivals = Arrivals(memory=100)
        full = arrivals.begin()
        full.add(100)
        order: list[str] = []

        async def come(name: str, size: int) -> None:
            arrival = arrivals.begin()
            if not arrival.take(size):
                await arrival.wait(size)
            order.append(name)
            arrival.end()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(come, "large", 90)
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(come, "small", 5)
            await anyio.lowlevel.checkpoint()
            full.keep(50)  # enough for the small one, which came second
            await anyio.lowlevel.checkpoint()
            assert order == []
            full.end()
        assert arrivals.held == arrivals.under_way == 0
        return order

    assert anyio.run(main) == ["large", "small"]


def test_nobody_waits_for_ever() -> None:
    async def main() -> None:
        arrivals = Arrivals(memory=100, patience=0.01)
        full = arrivals.begin()
        full.add(100)
        late = arrivals.begin()
        with pytest.raises(NoRoom):
            await late.wait(1)
        late.end()
        full.end()
        assert arrivals.begin().take(100)

    anyio.run(main)


def test_who_gives_up_lets_the_next_one_in() -> None:
    async def main() -> None:
        arrivals = Arrivals(memory=100)
        full, large, small = arrivals.begin(), arrivals.begin(), arrivals.begin()
        full.add(50)
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as inner:
                    inner.start_soon(large.wait, 90)
                    await anyio.lowlevel.checkpoint()
                    tasks.start_soon(small.wait, 20)
                    await anyio.lowlevel.checkpoint()
                    scope.cancel()
        assert (large.held, small.held) == (0, 20)

    anyio.run(main)
