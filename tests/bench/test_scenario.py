"""Scenario files: the examples are right, and mistakes are named with their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.arrival import Arrival
from bench.scenario import EXAMPLES, RetrieveWork, Scenario, ScenarioError, Soak, StoreWork, load, parse


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.toml")))
def test_every_example_can_be_loaded_by_its_name(name: str) -> None:
    assert load(name).title


def store(**keys: Any) -> dict[str, Any]:
    return {"kind": "store", **keys}


def scenario(*work: dict[str, Any], **keys: Any) -> Scenario:
    return parse({"title": "a test", "work": list(work), **keys}, "file.toml")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"work": [store()]}, "file.toml: title: is missing"),
        ({"title": "x", "work": []}, "work: list should have at least 1 item"),
        ({"title": "x", "work": [store(speed=3)]}, "work.0.speed: there is no such key"),
        ({"title": "x", "work": [{"kind": "stoer"}]}, "work.0: input tag 'stoer'"),
        (
            {"title": "x", "work": [store(associations=0)]},
            r"work.0.associations: .*greater than or equal to 1.*given: 0",
        ),
        ({"title": "x", "work": [store(rate=3)]}, "work.0: rate says when to begin, a closed loop doesn't"),
        ({"title": "x", "work": [store(arrival="steady")]}, 'work.0: arrival = "steady" needs a rate'),
        ({"title": "x", "work": [store(arrival="often")]}, "work.0.arrival: .*'closed', 'steady'.*given: 'often'"),
        ({"title": "x", "work": [store(arrival="steady", rate=1, think=1)]}, "think is for closed loops"),
        ({"title": "x", "work": [store(arrival="bursts", rate=90, associations=2)]}, "never reach rate = 90"),
        ({"title": "x", "work": [store(modalities=["XA"])]}, "work.0.modalities.0: .*given: 'XA'"),
        ({"title": "x", "work": [{"kind": "find", "questions": ["who"]}, store()]}, "work.0.questions.0: "),
        ({"title": "x", "work": [{"kind": "get"}]}, "a store work is needed"),
        ({"title": "x", "duration": 3, "warm_up": 3, "work": [store()]}, "leaves nothing of duration"),
        ({"title": "x", "mode": {"kind": "step"}, "work": [store()]}, "needs an open arrival and a rate"),
        ({"title": "x", "mode": {"kind": "share"}, "work": [store()]}, 'mode "share" sets rates'),
        ({"title": "x", "mode": {"kind": "soak", "memory": 3}, "work": [store()]}, "mode.memory: there is no such key"),
    ],
)
def test_mistakes_are_named(document: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        parse(document, "file.toml")


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(ScenarioError) as refused:
        parse({"work": [store(a=1), store(b=2)]}, "file.toml")
    assert len(str(refused.value).splitlines()) == 3


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"neither a file nor one of .*ingest"):
        load("nosuch")
    (tmp_path / "bad.toml").write_text("title = ")
    with pytest.raises(ScenarioError, match=r"bad\.toml: Invalid value"):
        load(str(tmp_path / "bad.toml"))


def test_keys_can_be_replaced_from_the_command_line() -> None:
    changed = load("soak", ["duration=90", "work.0.rate=7.5", "mode.interval=1", "title=short", "work.0.small=false"])
    assert (changed.duration, changed.title, changed.work[0].rate) == (90, "short", 7.5)
    assert isinstance(changed.mode, Soak)
    assert changed.mode.interval == 1
    assert isinstance(changed.work[0], StoreWork)
    assert not changed.work[0].small
    for wrong in ("duration", "work.9.rate=1", "work.x.rate=1", "title.x=1"):
        with pytest.raises(ScenarioError, match=r"KEY=VALUE|no such place"):
            load("soak", [wrong])


def test_rates_scale_and_ceilings_are_closed() -> None:
    made = scenario(
        store(arrival="steady", rate=10),
        store(arrival="poisson", rate=5),
        store(think=1.0),
        {"kind": "get", "arrival": "steady", "rate": 2},
    )
    assert made.store_rate == 15
    doubled = made.scaled(2)
    assert [work.rate for work in doubled.work] == [20, 10, None, 2]
    closed = made.closed()
    assert [work.arrival for work in closed.work] == [Arrival.CLOSED] * 3 + [Arrival.STEADY]
    assert [work.think for work in closed.work] == [0.0] * 4
    assert isinstance(closed.work[3], RetrieveWork)
