"""The processes that send: each runs an engine with its share of the associations, apart from what measures.

A fleet belongs to one archive. It keeps what was acknowledged from phase to phase, so that a later phase asks for what
an earlier one stored, and no instance is ever sent twice.
"""

from __future__ import annotations

import gc
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self

from bench.encoding import EXPLICIT_LITTLE
from bench.engine import Address, Clock, Engine
from bench.lane import Lane
from bench.modality import Scanner
from bench.replay import Replay
from bench.scenario import FindWork, RetrieveWork, Scenario, StoreWork
from bench.stock import Prepared, Stock
from bench.tally import Tally
from bench.work import Finding, Known, Retrieving, Source, Storing

_PREFILL_LANES = 4
_PREFILL_PATIENTS = 5_000_000
_PATIENTS = 200_000
"""Patients set aside for each work item."""
_DAY = 86_400.0

Stored = tuple[str, str, str]
"""UIDs of a study, a series and an instance."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One thing to do until it is done or time is up."""

    scenario: Scenario
    seed: int
    seconds: float
    warm_up: float = 0.0
    grace: float = 10.0
    """Seconds at the end for what is under way or overdue."""
    prefill: int = 0
    """Store so many instances of the first store work instead of the work."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase is."""

    elapsed: float
    items: dict[str, int]
    """By name of the work item."""
    faults: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a phase came to, all processes together."""

    tallies: list[Tally]
    """One for each work item, in the order of the scenario."""
    start: float
    """time.monotonic() at the start of the clock."""
    user: float
    """Seconds the senders spent in their own code."""
    system: float
    """Seconds they spent in the kernel: most of it copies data sets and takes them through the network."""

    @property
    def processor(self) -> float:
        """Seconds of processor time the senders used."""
        return self.user + self.system

    @property
    def stores(self) -> list[Tally]:
        """Those of C-STORE."""
        return [tally for tally in self.tallies if tally.kind == "store"]


class Fleet:
    """Sender processes for one archive. A context manager; leaving it ends them."""

    def __init__(self, address: Address, *, processes: int = 1, destination: str = "") -> None:
        """destination: AE title that the archive moves to for C-MOVE."""
        context = multiprocessing.get_context("spawn")
        self._connections: list[Connection] = []
        self._processes = []
        for index in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(theirs, address, destination, index, processes), daemon=True, name=f"sender {index}"
            )
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()

    def run(self, phase: Phase, watch: Callable[[Progress], bool] = lambda _progress: True) -> Report:
        """Do it. `watch` is called about once a second; False ends the phase early. Raises RuntimeError when a sender
        process fails."""
        for connection in self._connections:
            connection.send(phase)
        for connection in self._connections:
            self._expect(connection, "ready")
        start = time.monotonic() + 0.1
        clock = Clock(start, start + phase.warm_up, start + phase.seconds, start + phase.seconds + phase.grace)
        for connection in self._connections:
            connection.send(clock)
        waiting: list[Any] = list(self._connections)
        latest: dict[Any, Progress] = {}
        results: list[tuple[list[Tally], float, float]] = []
        while waiting:
            for ready in wait(waiting):
                kind, content = self._receive(ready)  # type: ignore[arg-type]  # wait() knows no element type
                if kind == "done":
                    results.append(content)
                    waiting.remove(ready)
                    continue
                latest[ready] = content
            if latest and len(latest) >= len(waiting) and not watch(_together(latest.values())):
                for connection in self._connections:
                    connection.send("stop")
            if len(latest) >= len(waiting):
                latest.clear()
        tallies = results[0][0]
        for others, *_ in results[1:]:
            for tally, other in zip(tallies, others, strict=True):
                tally.add(other)
        return Report(tallies, start, sum(one[1] for one in results), sum(one[2] for one in results))

    def acknowledged(self) -> Iterator[Stored]:
        """Everything acknowledged so far, series by series."""
        for connection in self._connections:
            connection.send("known")
            while (part := self._expect(connection, "known")) is not None:
                study, series, instances = part
                for instance in instances:
                    yield study, series, instance

    def _expect(self, connection: Connection, wanted: str) -> Any:
        # A tick or an end that was under way when we asked is of no interest any more.
        while True:
            kind, content = self._receive(connection)
            if kind == wanted:
                return content

    @staticmethod
    def _receive(connection: Connection) -> tuple[str, Any]:
        try:
            kind, content = connection.recv()
        except EOFError:
            raise RuntimeError("a sender process ended unexpectedly") from None
        if kind == "failed":
            raise RuntimeError(content)
        return kind, content


def _together(several: Any) -> Progress:
    everything = list(several)
    items: dict[str, int] = {}
    for one in everything:
        for name, number in one.items.items():
            items[name] = items.get(name, 0) + number
    return Progress(max(one.elapsed for one in everything), items, sum(one.faults for one in everything))


# ---------------------------------------------------------------- in the sender process


def _work(connection: Connection, address: Address, destination: str, index: int, processes: int) -> None:
    """The sender process: phases until the other end hangs up."""
    gc.disable()  # nothing here makes cycles at any rate, and a collection would be counted as the archive's latency
    crew = _Crew(address, destination, index, processes)
    try:
        while True:
            order = connection.recv()
            if order == "known":
                for series in crew.known.series:
                    connection.send(("known", (series.study, series.uid, series.acknowledged)))
                connection.send(("known", None))
            elif isinstance(order, Phase):
                crew.run(order, connection)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except Exception as error:  # the parent shall say what went wrong, whatever it is
        connection.send(("failed", f"{type(error).__name__}: {error}"))
        raise


class _Crew:
    """The associations of one process, over all phases."""

    def __init__(self, address: Address, destination: str, index: int, processes: int) -> None:
        self._address = address
        self._destination = destination
        self._index = index
        self._processes = processes
        self.known = Known()
        self._stocks: dict[tuple[object, ...], Stock | Replay] = {}
        self._streams: dict[tuple[object, ...], Iterator[Prepared]] = {}

    def run(self, phase: Phase, connection: Connection) -> None:
        start = time.monotonic()
        engine = Engine(self._address, Clock(start, start, start + _DAY, start + _DAY))
        tallies = self._prefill(phase, engine) if phase.prefill else self._lanes(phase, engine)
        engine.associate(start + 60)
        connection.send(("ready", None))
        engine.clock = connection.recv()
        before = resource.getrusage(resource.RUSAGE_SELF)

        def tick(now: float) -> bool:
            items = {tally.name: sum(part.items for part in tally.course.values()) for tally in tallies}
            faults = sum(sum(tally.faults.values()) for tally in tallies)
            connection.send(("tick", Progress(now - engine.clock.start, items, faults)))
            return not (connection.poll() and connection.recv() == "stop")

        engine.run(1.0, tick)
        after = resource.getrusage(resource.RUSAGE_SELF)
        connection.send(("done", (tallies, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime)))

    def _lanes(self, phase: Phase, engine: Engine) -> list[Tally]:
        tallies = []
        interval = max(phase.seconds / 600, 1.0)
        for position, work in enumerate(phase.scenario.work):
            tally = Tally(work.name or work.kind, work.kind, interval)
            if not (isinstance(work, StoreWork) and work.instances):
                tally.window = (phase.warm_up, phase.seconds)
            tallies.append(tally)
            for lane in self._lanes_of(work, phase.scenario):
                share = 0
                if isinstance(work, StoreWork) and work.instances:
                    share = work.instances // work.associations + (lane < work.instances % work.associations)
                times = work.pace().times(lane, work.associations, phase.seed) if work.open else None
                engine.lanes.append(
                    Lane(
                        engine,
                        self._source(work, position, lane, phase),
                        tally,
                        times=times,
                        think=work.think,
                        per_association=work.per_association,
                        nagle=isinstance(work, StoreWork) and work.nagle,
                        operations=share,
                    )
                )
        return tallies

    def _lanes_of(self, work: StoreWork | FindWork | RetrieveWork, scenario: Scenario) -> range:
        """The associations of a work item that this process drives. What asks goes where something is stored, too:
        a process knows of no other's instances."""
        processes = self._processes
        if not isinstance(work, StoreWork):
            most = max(store.associations for store in scenario.work if isinstance(store, StoreWork))
            processes = min(processes, most)
        return range(self._index, work.associations if self._index < processes else 0, processes)

    def _prefill(self, phase: Phase, engine: Engine) -> list[Tally]:
        work = next(work for work in phase.scenario.work if isinstance(work, StoreWork))
        tally = Tally("prefill", "store")
        lanes = _PREFILL_LANES * self._processes
        for lane in range(self._index, lanes, self._processes):
            instances = self._stream(work, phase.seed, lane, lanes, _PREFILL_PATIENTS)
            share = phase.prefill // lanes + (lane < phase.prefill % lanes)
            engine.lanes.append(
                Lane(engine, Storing(islice(instances, share), self._kinds(work, phase.seed), self.known), tally)
            )
        return [tally]

    def _source(self, work: StoreWork | FindWork | RetrieveWork, position: int, lane: int, phase: Phase) -> Source:
        seed = f"{phase.seed} {position} {lane}"
        match work:
            case StoreWork():
                instances = self._stream(work, phase.seed, lane, work.associations, position * _PATIENTS)
                return Storing(instances, self._kinds(work, phase.seed), self.known)
            case FindWork():
                return Finding(work.questions, self.known, seed)
            case RetrieveWork():
                kinds: dict[tuple[str, str], None] = {}
                for store in phase.scenario.work:
                    if isinstance(store, StoreWork):
                        kinds |= dict.fromkeys(self._kinds(store, phase.seed))
                return Retrieving(self.known, seed, list(kinds), self._destination if work.kind == "move" else "")

    def _stock(self, work: StoreWork, seed: int) -> Stock | Replay:
        key = (work.replay, tuple(work.modalities), work.small, work.per_series, work.series_per_study, seed)
        if key not in self._stocks:
            self._stocks[key] = (
                Replay(work.replay, seed)
                if work.replay
                else Stock(
                    Scanner(seed, small=work.small),
                    work.modalities,
                    per_series=work.per_series,
                    series_per_study=work.series_per_study,
                )
            )
        return self._stocks[key]

    def _kinds(self, work: StoreWork, seed: int) -> list[tuple[str, str]]:
        stock = self._stock(work, seed)
        return stock.kinds if isinstance(stock, Replay) else [(uid, EXPLICIT_LITTLE) for uid in stock.sop_classes]

    def _stream(self, work: StoreWork, seed: int, lane: int, lanes: int, first_patient: int) -> Iterator[Prepared]:
        """Instances of one association; the same iterator in every phase, so that none comes twice."""
        key = (first_patient, lane)
        if key not in self._streams:
            stock = self._stock(work, seed)
            self._streams[key] = (
                stock.stream(lane, lanes)
                if isinstance(stock, Replay)
                else stock.stream(lane, lanes, first_patient=first_patient)
            )
        return self._streams[key]


def prefilling(phase: Phase) -> Phase:
    """The phase that stores what its scenario wants stored before the clock starts."""
    return replace(phase, prefill=phase.scenario.prefill, seconds=_DAY, warm_up=0.0)
