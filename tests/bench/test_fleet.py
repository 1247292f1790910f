"""Sender processes against the acceptor that drops everything: shares, merged figures, what was acknowledged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.conversation import Accepted, Answered, Conversation, Ended
from bench.engine import Address
from bench.fleet import Fleet, Phase
from bench.headers import CT_IMAGE_STORAGE
from bench.messages import Context
from bench.scenario import Scenario, StoreWork
from bench.sender import bare, own, summary_table
from bench.sink import Sink, Swallowing


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Sink() as started:
        yield started


def storing(associations: int, instances: int) -> Phase:
    work = StoreWork(kind="store", small=True, associations=associations, instances=instances, per_series=5)
    return Phase(Scenario(title="test", warm_up=0.0, work=[work]), seed=4, seconds=60.0)


def test_several_processes_share_the_work_and_their_figures_are_merged(sink: Sink) -> None:
    with Fleet(Address("127.0.0.1", sink.port), processes=3) as fleet:
        for phase, associations in ((1, 5), (2, 2)):
            report = fleet.run(storing(associations, 41))
            (tally,) = report.tallies
            assert (tally.done, tally.items, dict(tally.faults)) == (41, 41, {})
            assert tally.latency.count == tally.service.count == 41
            assert sum(interval.done for interval in tally.course.values()) == 41
            assert 0 < tally.first <= tally.last
            assert report.processor == report.user + report.system > 0
            acknowledged = list(fleet.acknowledged())
            assert len(set(acknowledged)) == len(acknowledged) == 41 * phase


def test_a_sender_is_told_beside_the_bare_loop(sink: Sink) -> None:
    costs = [bare(sink.port, 30, small=True), own(sink.port, 30, 2, small=True)]
    first, second = summary_table(costs).splitlines()[2:]
    assert first.startswith("| bare loop, 1 association ")
    assert second.startswith("| own sender, 2 associations ")
    assert all(cost.per_second > 0 and cost.user_ms + cost.system_ms > 0 for cost in costs)


@pytest.mark.parametrize("piece", [1, 7, 500, 1 << 20])
def test_the_sink_answers_however_the_bytes_are_cut(piece: int) -> None:
    swallowing, conversation = Swallowing(), Conversation([Context(CT_IMAGE_STORAGE)])

    def exchange(sent: bytes) -> list[object]:
        replies = b"".join(swallowing.receive(sent[start : start + piece]) for start in range(0, len(sent), piece))
        return list(conversation.receive(replies))

    (accepted,) = exchange(conversation.hello)
    assert isinstance(accepted, Accepted)
    for size in (1, 300_000):
        request = conversation.store(CT_IMAGE_STORAGE, "1.2.3", accepted.syntaxes[1], [bytes(size)])
        (answered,) = exchange(b"".join(request))
        assert isinstance(answered, Answered)
        assert answered.response.status == 0
    (ended,) = exchange(conversation.release())
    assert ended == Ended()
    assert swallowing.closed
