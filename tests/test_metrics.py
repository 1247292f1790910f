"""Metrics: names under Prometheus' rules, labels that cannot grow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from fastarchive.metrics import OTHER, STORE_OUTCOMES, Metrics, exposition


def test_ae_titles_that_are_not_configured_share_one_label_value() -> None:
    metrics = Metrics({"CT1"})
    assert metrics.ae_label("CT1") == "CT1"
    for title in ("SOMEBODY", "", "PATIENT^NAME"):
        assert metrics.ae_label(title) == OTHER
        metrics.count_instance("stored", title, 10)
    text = exposition(metrics).decode()
    assert 'fastarchive_store_instances_total{calling_ae="other",outcome="stored"} 3.0' in text
    assert "fastarchive_store_received_bytes_total 30.0" in text
    assert "SOMEBODY" not in text


def test_known_outcomes_are_exposed_as_zero_from_the_start() -> None:
    text = exposition(Metrics(("CT1",))).decode()
    for outcome in STORE_OUTCOMES:
        assert f'fastarchive_store_instances_total{{calling_ae="CT1",outcome="{outcome}"}} 0.0' in text


def test_every_metric_has_the_prefix_and_a_help_text_and_its_unit() -> None:
    registry = CollectorRegistry()
    Metrics((), registry)
    families = list(registry.collect())
    assert len(families) > 15
    for family in families:
        assert family.name.startswith("fastarchive_"), family.name
        assert family.documentation.endswith("."), family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds"), family.name


def test_two_processes_add_up_in_multi_process_mode(tmp_path: Path) -> None:
    write = (
        "from fastarchive.metrics import Metrics; m = Metrics({'CT1'}); m.count_instance('stored', 'CT1', 7);"
        "m.store_sync.observe(0.01); m.flush()"
    )
    read = "from fastarchive.metrics import Metrics, exposition; print(exposition(Metrics()).decode())"
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", write], env=environ, check=True, timeout=30)
    text = subprocess.run(
        [sys.executable, "-c", read], env=environ, check=True, timeout=30, capture_output=True, text=True
    ).stdout
    assert 'fastarchive_store_instances_total{calling_ae="CT1",outcome="stored"} 2.0' in text
    assert 'fastarchive_store_stage_seconds_count{stage="sync"} 2.0' in text
