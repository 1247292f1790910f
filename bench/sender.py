"""What the harness' own sender costs, so that nobody measures it instead of an archive: against an acceptor that drops
everything, beside a bare loop that hands the same bytes to the kernel, in turn in one run.
"""

from __future__ import annotations

import argparse
import resource
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice

from bench.conversation import Conversation
from bench.encoding import EXPLICIT_LITTLE
from bench.engine import Address
from bench.fleet import Fleet, Phase
from bench.headers import CT_IMAGE_STORAGE
from bench.loads import FOREVER
from bench.messages import Context
from bench.modality import Scanner
from bench.report import figure, middle, progress, table, write_json
from bench.scenario import Scenario, StoreWork
from bench.sink import Sink
from bench.stock import Stock

_MESSAGES = 24
"""Different messages the bare loop sends in turn."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One run; milliseconds of processor time an instance."""

    way: str
    small: bool
    instances: int
    per_second: float
    user_ms: float
    system_ms: float


def bare(port: int, count: int, *, small: bool) -> Cost:
    """The floor: messages made beforehand, each handed over in one call, the answer awaited."""
    stock = Stock(Scanner(1, small=small), pool=_MESSAGES)
    conversation = Conversation([Context(CT_IMAGE_STORAGE, (EXPLICIT_LITTLE,))])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(conversation.hello)
        conversation.receive(connection.recv(1 << 16))
        messages = [
            b"".join(conversation.store(one.sop_class, one.sop_instance, one.transfer_syntax, one.pieces))
            for one in islice(stock.stream(), _MESSAGES)
        ]
        before, begun = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        for number in range(count):
            connection.sendall(messages[number % _MESSAGES])
            connection.recv(1 << 12)
        after, seconds = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - begun
        connection.sendall(conversation.release())
        connection.recv(1 << 12)
    return Cost(
        "bare loop, 1 association",
        small,
        count,
        count / seconds,
        (after.ru_utime - before.ru_utime) * 1e3 / count,
        (after.ru_stime - before.ru_stime) * 1e3 / count,
    )


def own(port: int, count: int, associations: int, *, small: bool, processes: int = 1) -> Cost:
    """The sender as scenarios use it, everything included that it does while the clock runs."""
    work = StoreWork(kind="store", small=small, associations=associations, instances=count)
    with Fleet(Address("127.0.0.1", port), processes=processes) as fleet:
        report = fleet.run(Phase(Scenario(title="sender", duration=FOREVER, warm_up=0.0, work=[work]), 1, FOREVER))
    tally = report.tallies[0]
    if tally.faults or tally.done != count:
        raise RuntimeError(f"{tally.done} of {count} were taken: {dict(tally.faults)}")
    where = f"{associations} association{'s' * (associations != 1)}"
    return Cost(
        f"own sender, {where}{f', {processes} processes' * (processes > 1)}",
        small,
        count,
        tally.rate,
        report.user * 1e3 / count,
        report.system * 1e3 / count,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench sender`."""
    parser.add_argument("--associations", default="1,8", help="how many at once, each measured")
    parser.add_argument("--slices", type=int, default=3000, help="CT slices of 527 KB in each run")
    parser.add_argument("--small", type=int, default=10_000, help="instances of 10 KB in each run; 0: none")
    parser.add_argument("--processes", type=int, default=1, help="sender processes")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, in turn")


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    costs: list[Cost] = []
    counts = [int(count) for count in options.associations.split(",")]
    with Sink() as sink:
        for repeat in range(options.repeats):
            for small, instances in ((False, options.slices), (True, options.small)):
                if not instances:
                    continue
                costs.append(bare(sink.port, instances, small=small))
                costs += [
                    own(sink.port, instances, count, small=small, processes=options.processes) for count in counts
                ]
            progress(f"{repeat + 1}/{options.repeats}")
    print(summary_table(costs))
    if options.json:
        write_json(options.json, "sender", {"repeats": options.repeats}, [asdict(cost) for cost in costs])
    return 0


def summary_table(costs: Sequence[Cost]) -> str:
    """One row for each way and size: medians, and the least of all repeats."""
    groups: dict[tuple[bool, str], list[Cost]] = {}
    for cost in costs:
        groups.setdefault((cost.small, cost.way), []).append(cost)
    rows: list[list[object]] = [
        [
            way,
            "10 KB" if small else "CT slice",
            figure(middle([one.per_second for one in group])),
            *(f"{middle([getattr(one, name) for one in group]):.3f}" for name in ("user_ms", "system_ms")),
            f"{middle([one.user_ms + one.system_ms for one in group]):.3f}",
            f"{min(one.user_ms + one.system_ms for one in group):.3f}",
        ]
        for (small, way), group in groups.items()
    ]
    return table(["sender", "instance", "instances/s", "user ms", "kernel ms", "CPU ms", "CPU ms, least"], rows)
