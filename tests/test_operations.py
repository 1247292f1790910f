"""The files of ops/: what they name exists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from fastarchive import settings
from fastarchive.metrics import STORE_STAGES, Metrics

OPERATIONS = Path(__file__).parents[1] / "ops"
NAME = re.compile(r"\bfastarchive_[a-z_]+\b")


@pytest.fixture(scope="module")
def samples() -> dict[str, frozenset[str]]:
    """Every sample name the code can expose, with its labels."""
    registry = CollectorRegistry()
    known: dict[str, frozenset[str]] = {}
    for metric in vars(Metrics(registry=registry)).values():
        if not isinstance(metric, MetricWrapperBase):
            continue
        for family in metric.describe():
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
            for suffix in suffixes:
                known[family.name + suffix] = frozenset(metric._labelnames)
    # The stages are bound to names one by one, so their parent is found through the registry.
    for family in registry.collect():
        for sample in family.samples:
            known.setdefault(sample.name, frozenset(sample.labels) - {"le"})
    return known


def expressions() -> dict[str, list[str]]:
    """The PromQL expressions of each file."""
    board = json.loads((OPERATIONS / "grafana" / "fastarchive.json").read_text())
    panels: list[dict[str, Any]] = board["panels"]
    rules = (OPERATIONS / "prometheus" / "rules.yml").read_text()
    folded = re.sub(r">-\n\s+", "", rules)
    return {
        "dashboard": [target["expr"] for panel in panels for target in panel.get("targets", [])],
        "rules": re.findall(r"expr: (.+(?:\n {10}(?! ).+)*)", folded),
    }


@pytest.mark.parametrize("file", ["dashboard", "rules"])
def test_every_metric_named_exists(file: str, samples: dict[str, frozenset[str]]) -> None:
    named = {name for expression in expressions()[file] for name in NAME.findall(expression)}
    assert len(named) > 5
    assert named <= set(samples)


@pytest.mark.parametrize("file", ["dashboard", "rules"])
def test_every_label_named_exists(file: str, samples: dict[str, frozenset[str]]) -> None:
    for expression in expressions()[file]:
        for name, selector in re.findall(r"(fastarchive_[a-z_]+)\{([^}]*)\}", expression):
            labels = set(re.findall(r"(\w+)=", selector))
            assert labels <= samples[name] | {"instance"}, expression


def test_stages_named_exist() -> None:
    for expressions_of_file in expressions().values():
        for expression in expressions_of_file:
            assert set(re.findall(r'stage="([^"]+)"', expression)) <= set(STORE_STAGES)


def test_options_of_the_unit_exist() -> None:
    unit = (OPERATIONS / "systemd" / "fastarchive.service").read_text()
    options = set(re.findall(r"(--[a-z-]+)", unit.partition("ExecStart=")[2].splitlines()[0]))
    assert options <= {"--config"} | {settings.option_name(name) for name in settings.fields()}
