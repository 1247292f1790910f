"""A PACS elsewhere: what it allows is asked and said, the rest of a scenario left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt

from bench.__main__ import main
from bench.cores import summary_table
from bench.encoding import EXPLICIT_LITTLE
from bench.headers import CT_IMAGE_STORAGE
from bench.ingest import Outcome
from bench.messages import STUDY_ROOT_FIND, VERIFICATION
from bench.pacs import allowed
from bench.peers import Elsewhere, Fastarchive
from bench.scenario import StoreWork, load

SCENARIO = """
title = "A little of everything"
duration = 1.6
warm_up = 0.2

[[work]]
kind = "store"
small = true
modalities = ["CT", "MR"]
arrival = "steady"
rate = 20
per_series = 5

[[work]]
kind = "find"
arrival = "steady"
rate = 5

[[work]]
kind = "get"
arrival = "steady"
rate = 2

[[work]]
kind = "move"
arrival = "steady"
rate = 1
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO)
    return path


def test_what_a_pacs_does_not_allow_is_left_out(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def nobody(_event: Any) -> Any:
        return iter([(0x0000, None)])

    entity = AE("LITTLE")
    for context in (VERIFICATION, CT_IMAGE_STORAGE, STUDY_ROOT_FIND):
        entity.add_supported_context(context, EXPLICIT_LITTLE)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, nobody)])
    assert server is not None
    try:
        peer = Elsewhere(f"LITTLE@127.0.0.1:{server.server_address[1]}")
        left = allowed(load(str(scenario)), peer, "BENCH", sink=True)
    finally:
        server.shutdown()
    assert [one.kind for one in left.work] == ["store", "find"]
    assert isinstance(left.work[0], StoreWork)
    assert left.work[0].modalities == ["CT"]
    said = capsys.readouterr().err
    assert "C-ECHO yes; 1 of 2 storage SOP classes; C-FIND yes; C-GET no; C-MOVE no" in said
    assert "left out: get" in said


def test_a_pacs_is_measured_by_host_and_port(
    tmp_path: Path, scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report"
    with Fastarchive(tmp_path / "archive", workers=1) as archive:
        address = f"FASTARCHIVE@{archive.host}:{archive.dicom_port}"
        arguments = ["pacs", address, "--scenario", str(scenario), "--report", str(report), "--calling", "ME"]
        assert main([*arguments, "--directory", str(tmp_path)]) == 0, capsys.readouterr()
    (result,) = json.loads((report / "result.json").read_text())["results"]
    assert result["peer"] == address
    assert (result["missing"], result["failed"]) == (0, False)
    assert result["acknowledged"] > 20
    (phase,) = result["phases"]
    assert {one["kind"]: one["faults"] for one in phase["figures"]} == {"store": {}, "find": {}, "get": {}}
    assert "all found" in (report / "report.md").read_text()


def test_a_pacs_that_is_not_there_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pacs", "NOBODY@127.0.0.1:1"]) == 2
    assert main(["pacs", "NOBODY"]) == 2
    assert main(["ingest", "--peers", "", "--also", "NOBODY"]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert first.startswith("bench: NOBODY@127.0.0.1:1 can't be measured: ")
    assert second == third == "bench: 'NOBODY' is not AET@HOST:PORT"


def test_cores_are_told_beside_the_fewest() -> None:
    def one(peer: str, cores: int, rate: float) -> Outcome:
        return Outcome(peer, 8, True, 10, 10, 0, 1.0, rate, 4.0, 100.0, 3.0, 4.0, "own", cores)

    text = summary_table([one("a", 2, 300), one("a", 1, 200), one("b", 1, 100), one("b", 2, 150)])
    rows = [[cell.strip() for cell in line.split("|")[1:7]] for line in text.splitlines()[2:]]
    assert rows == [
        ["a", "1", "200", "", "4.00", "0.80"],
        ["a", "2", "300", "1.50 ×", "4.00", "1.20"],
        ["b", "1", "100", "", "4.00", "0.40"],
        ["b", "2", "150", "1.50 ×", "4.00", "0.60"],
    ]
