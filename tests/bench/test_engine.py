"""The engine against pynetdicom's acceptor: what is counted, and from when."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
from pynetdicom import AE, evt

from bench.arrival import Arrival, Pace
from bench.encoding import EXPLICIT_LITTLE
from bench.engine import Address, Clock, Engine
from bench.headers import CT_IMAGE_STORAGE
from bench.lane import Lane
from bench.modality import Scanner
from bench.stock import Stock
from bench.tally import Tally
from bench.work import Known, Storing

STOCK = Stock(Scanner(1, small=True), per_series=10, pool=2)


class Acceptor:
    """An archive that answers as it is told and remembers what it took."""

    def __init__(self, answer: Callable[[int], int]) -> None:
        """answer: from the number of the instance (from 0) to its status."""
        self.taken: list[str] = []
        self.associations = 0
        self._answer = answer
        self._lock = threading.Lock()
        entity = AE("ACCEPTOR")
        entity.add_supported_context(CT_IMAGE_STORAGE, EXPLICIT_LITTLE)
        self._server: Any = entity.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_ESTABLISHED, self._opened)],
        )
        self.port: int = self._server.server_address[1]

    def _store(self, event: Any) -> int:
        with self._lock:
            number = len(self.taken)
            self.taken.append(str(event.request.AffectedSOPInstanceUID))
        return self._answer(number)

    def _opened(self, _event: Any) -> None:
        with self._lock:
            self.associations += 1

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None


@pytest.fixture
def accept() -> Iterator[Callable[[Callable[[int], int]], Acceptor]]:
    made: list[Acceptor] = []

    def start(answer: Callable[[int], int]) -> Acceptor:
        made.append(Acceptor(answer))
        return made[-1]

    yield start
    for acceptor in made:
        acceptor.close()


def drive(
    port: int, seconds: float, lanes: int, *, count: int = 0, grace: float = 5.0, **options: Any
) -> tuple[Tally, Known]:
    tally, known = Tally("store", "store"), Known()
    start = time.monotonic()
    engine = Engine(Address("127.0.0.1", port), Clock(start, start, start + 60, start + 60))
    pace: Pace | None = options.pop("pace", None)
    for lane in range(lanes):
        instances = STOCK.stream(lane, lanes)
        source = Storing(islice(instances, count) if count else instances, [(CT_IMAGE_STORAGE, EXPLICIT_LITTLE)], known)
        times = pace.times(lane, lanes) if pace else None
        engine.lanes.append(Lane(engine, source, tally, times=times, **options))
    engine.associate(start + 30)
    now = time.monotonic()
    engine.clock = Clock(now, now, now + seconds, now + seconds + grace)
    engine.run(1.0, lambda _now: True)
    return tally, known


def test_everything_is_sent_once_and_counted(accept: Callable[..., Acceptor]) -> None:
    acceptor = accept(lambda number: 0xA700 if number == 7 else 0)
    tally, known = drive(acceptor.port, 30, 3, count=10)
    assert len(acceptor.taken) == len(set(acceptor.taken)) == 30
    assert (tally.done, tally.items, known.count) == (29, 29, 29)
    assert tally.faults == {"status A700": 1}
    assert tally.latency.count == tally.service.count == 29
    assert acceptor.associations == 3
    acknowledged = {instance for series in known.series for instance in series.acknowledged}
    assert acknowledged == set(acceptor.taken) - {acceptor.taken[7]}


def test_an_association_is_renewed_after_so_many_operations(accept: Callable[..., Acceptor]) -> None:
    acceptor = accept(lambda _number: 0)
    tally, _ = drive(acceptor.port, 30, 1, count=10, per_association=4)
    assert (tally.done, acceptor.associations) == (10, 3)
    assert not tally.faults


def test_what_a_stall_delays_counts_from_when_it_was_due(accept: Callable[..., Acceptor]) -> None:
    def stall_once(number: int) -> int:
        if number == 10:
            time.sleep(1.0)
        return 0

    acceptor = accept(stall_once)
    tally, _ = drive(acceptor.port, 2.0, 1, pace=Pace(Arrival.STEADY, rate=20))
    assert tally.done == 40
    # Of the twenty that were due during the stall, half waited for more than half of it; only one was slow itself.
    assert tally.latency.percentile(0.75) > 0.3
    assert tally.service.percentile(0.75) < 0.3
    assert tally.latency.maximum >= tally.service.maximum > 0.9


def test_what_was_due_and_never_begun_counts_too(accept: Callable[..., Acceptor]) -> None:
    def slow(_number: int) -> int:
        time.sleep(0.3)
        return 0

    acceptor = accept(slow)
    tally, _ = drive(acceptor.port, 1.0, 1, pace=Pace(Arrival.STEADY, rate=20), grace=0.2)
    assert tally.done + tally.unsent + sum(tally.faults.values()) == 20
    assert tally.unsent >= 14
    assert tally.latency.count == 20


def test_a_server_that_hangs_up_is_a_fault_and_is_called_again(accept: Callable[..., Acceptor]) -> None:
    acceptor = accept(lambda _number: 0)
    tally, _ = drive(acceptor.port, 30, 2, count=5)
    assert tally.done == 10
    acceptor.close()
    tally, _ = drive(acceptor.port, 0.3, 2, grace=0.1)
    assert tally.done == 0
    assert any(reason.startswith("no connection") for reason in tally.faults)


def test_think_time_passes_between_operations(accept: Callable[..., Acceptor]) -> None:
    acceptor = accept(lambda _number: 0)
    began = time.monotonic()
    tally, _ = drive(acceptor.port, 30, 1, count=4, think=0.2)
    assert tally.done == 4
    assert time.monotonic() - began >= 0.8
    assert tally.latency.maximum < 0.8
