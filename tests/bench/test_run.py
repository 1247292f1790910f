"""A whole run as its user starts it: archive, senders, check, tables, JSON and plots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.results import faults_of, growth_table
from bench.run import report_text
from bench.scenario import load

SCENARIO = """
title = "Everything, shortly"
seed = 3
duration = 3
warm_up = 0.5
prefill = 20

[[work]]
kind = "store"
small = true
associations = 3
arrival = "poisson"
rate = 20
per_series = 10

[[work]]
kind = "find"
associations = 2
arrival = "steady"
rate = 10
questions = ["study", "patient", "series", "images"]

[[work]]
kind = "get"
arrival = "steady"
rate = 4

[[work]]
kind = "move"
arrival = "steady"
rate = 2
"""


def test_mixed_work_against_fastarchive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(SCENARIO)
    report = tmp_path / "report"
    code = main(
        [
            "run",
            str(scenario),
            "--directory",
            str(tmp_path),
            "--report",
            str(report),
            "--workers",
            "1",
            "--processes",
            "2",
        ]
    )
    output = capsys.readouterr()
    assert code == 0, output
    (result,) = json.loads((report / "result.json").read_text())["results"]
    (phase,) = result["phases"]
    figures = {one["kind"]: one for one in phase["figures"]}
    assert all(one["done"] and not one["wrong"] and not one["faults"] for one in figures.values())
    assert figures["get"]["items_per_second"] > figures["get"]["per_second"]
    stored = sum(point["per_second"] for point in figures["store"]["course"])
    assert (result["missing"], result["acknowledged"]) == (0, 20 + round(stored))
    assert phase["processor_ms"] > 0
    assert phase["peak_memory_mb"] > 10
    assert (report / "report.md").read_text().startswith("# Everything, shortly")
    for name in ("course", "percentiles", "server"):
        assert (report / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "all found" in output.out


def test_a_wrong_scenario_is_told_and_nothing_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(SCENARIO.replace("rate = 20", "rates = 20"))
    assert main(["run", str(scenario), "--directory", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "work.0.rates: there is no such key" in error


def test_a_report_without_results_has_its_head() -> None:
    assert report_text(load("ingest"), 1, []).startswith("# CT ingest")
    assert growth_table([]) == ""
    assert faults_of([]) == ""
