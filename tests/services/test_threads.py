"""The pool of worker threads: results in batches, errors where they are awaited, cancellation."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from fastarchive.services.threads import Threads


@pytest.fixture
def threads() -> Iterator[Threads]:
    pool = Threads(3, "test")
    yield pool
    pool.close()


def test_a_function_runs_in_another_thread_and_its_result_comes_back(threads: Threads) -> None:
    async def main() -> str:
        return await threads.run(lambda: threading.current_thread().name)

    assert asyncio.run(main()).startswith("test-")


def test_an_error_is_raised_where_the_result_is_awaited(threads: Threads) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 // 0)

    asyncio.run(main())


def test_waiting_for_a_future_holds_no_thread(threads: Threads) -> None:
    waiting: list[Future[int]] = []

    def hand_over() -> Future[int]:
        future: Future[int] = Future()
        waiting.append(future)
        return future

    async def main() -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(threads.run_then_wait(hand_over)) for _ in range(10)]
            while len(waiting) < 10:  # more than there are threads
                await threads.run(lambda: None)
            for number, future in enumerate(waiting):
                future.set_result(number)
        return [task.result() for task in tasks]

    assert sorted(asyncio.run(main())) == list(range(10))


def test_a_future_that_fails_fails_who_waits(threads: Threads) -> None:
    def hand_over() -> Future[None]:
        future: Future[None] = Future()
        future.set_exception(OSError("disk"))
        return future

    async def main() -> None:
        with pytest.raises(OSError, match="disk"):
            await threads.run_then_wait(hand_over)

    asyncio.run(main())


def test_a_future_of_another_thread_is_waited_for(threads: Threads) -> None:
    async def main() -> list[int]:
        settled: Future[int] = Future()
        settled.set_result(1)
        later: Future[int] = Future()
        failed: Future[int] = Future()
        threads.submit(lambda: later.set_result(2))
        threads.submit(lambda: failed.set_exception(OSError("disk")))
        results = [await threads.wait(settled), await threads.wait(later)]
        with pytest.raises(OSError, match="disk"):
            await threads.wait(failed)
        with pytest.raises(TimeoutError):
            await threads.wait(Future(), limit=0.01)
        return results

    assert asyncio.run(main()) == [1, 2]


def test_a_batch_of_results_wakes_the_loop_once(threads: Threads) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        wakes = 0
        call_soon_threadsafe = loop.call_soon_threadsafe

        def counted(*args: object, **options: object) -> object:
            nonlocal wakes
            wakes += 1
            return call_soon_threadsafe(*args, **options)  # type: ignore[arg-type]  # handed on as it came

        loop.call_soon_threadsafe = counted  # type: ignore[assignment,method-assign]  # counts and hands on
        futures: list[Future[int]] = [Future() for _ in range(100)]
        handed_over = iter(futures)
        waiters = [asyncio.ensure_future(threads.run_then_wait(lambda: next(handed_over))) for _ in futures]
        await asyncio.sleep(0)  # every waiter hands its function over
        for _ in range(4):  # behind them in the queue, more often than there are threads
            await asyncio.gather(*[threads.run(lambda: time.sleep(0.005)) for _ in range(3)])
        wakes = 0
        for future in futures:  # the loop is busy with this, as it would be with another association
            future.set_result(1)
        await asyncio.gather(*waiters)
        return wakes

    assert asyncio.run(main()) == 1


def test_a_cancelled_waiter_does_not_disturb_the_others(threads: Threads) -> None:
    go_on = threading.Event()

    async def main() -> int:
        cancelled = asyncio.ensure_future(threads.run(go_on.wait))
        other = asyncio.ensure_future(threads.run(lambda: 7))
        await asyncio.sleep(0)
        cancelled.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        return await other

    assert asyncio.run(main()) == 7


def test_results_for_a_closed_loop_are_dropped_and_the_pool_serves_the_next(threads: Threads) -> None:
    go_on = threading.Event()

    async def leave() -> None:
        threads.start(go_on.wait)

    async def come_back() -> int:
        return await threads.run(lambda: 5)

    asyncio.run(leave())
    go_on.set()
    assert asyncio.run(come_back()) == 5


def test_closing_finishes_what_was_handed_over() -> None:
    pool = Threads(1, "test")
    done: list[int] = []
    for number in range(50):
        pool.submit(lambda number=number: done.append(number))  # type: ignore[misc]  # bound now
    pool.close()
    pool.close()
    assert done == list(range(50))
    with pytest.raises(RuntimeError):
        pool.submit(lambda: None)
