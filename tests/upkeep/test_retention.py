"""Retention: only what a rule names goes, a hold outranks every rule, and the plan is told before."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fastarchive.archive import Archive
from fastarchive.cli import app
from fastarchive.server import retaining
from fastarchive.settings import load
from fastarchive.upkeep import deletion, retention
from fastarchive.upkeep.deletion import past_deletions
from fastarchive.upkeep.retention_rules import Quota, Rule, Rules, RulesError, read_rules
from tests.conflicting import named, store
from tests.server.instances import sop_instance_uid
from tests.upkeep.filled import study_uid


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Studies 0 to 3 of two instances each: CT of 2001 and 2003 from CT1, MR of 2005 from MR1, one that is both."""
    path = tmp_path / "data"
    kinds = [(b"CT", b"20010101", "CT1"), (b"CT", b"20030101", "CT1"), (b"MR", b"20050101", "MR1"), (b"CT", b"", "CT1")]
    with Archive.open(path) as archive:
        for study, (modality, date, title) in enumerate(kinds):
            for number in range(2):
                other = b"MR" if study == 3 and number else modality
                content = named("A^B", number=10 * study + number, t00080060=("CS", other), t00080020=("DA", date))
                store(archive, content, calling_ae=title)
    return path


def due(data: Path, *rules: Rule | Quota, held: tuple[int, ...] = (), days: float = 0) -> dict[str, list[int]]:
    """Numbers of the studies that go, by rule, so many days from now."""
    given = Rules(
        tuple(rule for rule in rules if isinstance(rule, Rule)),
        tuple(rule for rule in rules if isinstance(rule, Quota)),
    )
    studies = {study_uid(number): number for number in range(10)}
    with Archive.open(data, read_only=True) as archive:
        moment = datetime.now(UTC) + timedelta(days=days)
        plan = retention.make_plan(archive, given, {study_uid(number) for number in held}, now=moment)
    assert {studies[uid] for uid in plan.held} <= set(held)
    return {name: [studies[each.study.study] for each in candidates] for name, candidates in plan.due.items()}


def test_without_a_rule_nothing_goes(data: Path) -> None:
    assert due(data, days=10_000) == {}


def test_by_days_since_receipt(data: Path) -> None:
    rule = Rule(name="old", days=30)
    assert due(data, rule, days=29.9) == {}
    assert due(data, rule, days=30.1) == {"old": [0, 1, 2, 3]}


def test_by_days_since_the_study_date_and_never_without_one(data: Path) -> None:
    years = (datetime.now(UTC) - datetime(2003, 1, 1, tzinfo=UTC)).days
    assert due(data, Rule(name="old", days=years - 2, since="study-date")) == {"old": [0, 1]}
    assert due(data, Rule(name="old", days=years + 2, since="study-date")) == {"old": [0]}
    assert due(data, Rule(name="old", days=1, since="study-date")) == {"old": [0, 1, 2]}


def test_a_study_goes_only_if_all_of_it_is_within_the_rule(data: Path) -> None:
    assert due(data, Rule(name="CT", days=1, modalities=frozenset({"CT"})), days=2) == {"CT": [0, 1]}
    assert due(data, Rule(name="both", days=1, modalities=frozenset({"CT", "MR"})), days=2) == {"both": [0, 1, 2, 3]}
    assert due(data, Rule(name="MR1", days=1, calling_ae_titles=frozenset({"MR1"})), days=2) == {"MR1": [2]}
    with Archive.open(data) as archive:
        store(archive, named("A^B", number=9), calling_ae="WS")
    assert due(data, Rule(name="CT1", days=1, calling_ae_titles=frozenset({"CT1"})), days=2) == {"CT1": [1, 3]}


def test_a_hold_outranks_rules_and_quotas(data: Path) -> None:
    assert due(data, Rule(name="old", days=1), held=(1, 2), days=2) == {"old": [0, 3]}
    assert due(data, Quota(name="little", size=1), held=(0,)) == {"little": [1, 2, 3]}


def test_a_quota_lets_the_oldest_go_until_the_rest_fits(data: Path) -> None:
    with Archive.open(data, read_only=True) as archive:
        plan = retention.make_plan(archive, Rules((), (Quota(name="all", size=1),)), ())
        sizes = {each.study.study: each.bytes for each in plan.candidates}
    three = sum(sizes[study_uid(number)] for number in (1, 2, 3))
    assert due(data, Quota(name="q", size=three)) == {"q": [0]}
    assert due(data, Quota(name="q", size=three - 1)) == {"q": [0, 1]}
    assert due(data, Quota(name="q", size=three), held=(0,)) == {"q": [1]}
    assert due(data, Quota(name="q", size=sum(sizes.values()))) == {}
    assert due(data, Quota(name="MR", size=1, modalities=frozenset({"MR"}))) == {"MR": [2]}


def test_a_study_goes_by_the_first_rule_that_lets_it(data: Path) -> None:
    rules = (Rule(name="MR", days=1, modalities=frozenset({"MR"})), Rule(name="all", days=1))
    assert due(data, *rules, days=2) == {"MR": [2], "all": [0, 1, 3]}


def test_what_comes_while_a_plan_is_carried_out_stays(data: Path) -> None:
    with Archive.open(data) as archive:
        now = datetime.now(UTC) + timedelta(days=2)
        plan = retention.make_plan(archive, Rules((Rule(name="all", days=1),)), (), now=now)
        store(archive, named("A^B", number=5))
        assert retention.apply(archive, plan) == 3
        assert archive.status()["studies"] == 1
        assert archive.status()["instances"] == 3


def test_what_arrives_in_the_moment_of_the_deletion_is_not_deleted(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delete = deletion.delete
    with Archive.open(data) as archive:

        def late(*arguments: Any, **options: Any) -> Any:
            store(archive, named("A^B", number=5))
            return delete(*arguments, **options)

        monkeypatch.setattr(deletion, "delete", late)
        now = datetime.now(UTC) + timedelta(days=2)
        plan = retention.make_plan(archive, Rules((Rule(name="all", days=1),)), (), now=now)
        assert retention.apply(archive, plan) == 4
        assert [row["SOPInstanceUID"] for row in archive.find("IMAGE")] == [sop_instance_uid(5)]


RULES = """
[[rule]]
name = "old CT"
days = 0.000001
since = "study-date"
modalities = ["CT"]

[[quota]]
name = "MR"
size = "1KiB"
modalities = ["MR"]
"""


def command(*arguments: str | Path, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if "--json" in arguments else result.output


@pytest.mark.parametrize("running", [True, False])
def test_plan_and_apply(data: Path, tmp_path: Path, running: bool) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    archive = Archive.open(data, write_index=running)
    command("hold", "add", study_uid(1), "--data", data)
    plan = command("retention", "plan", "--rules", rules, "--data", data, "--json")
    assert {rule["name"]: [one["study"] for one in rule["studies"]] for rule in plan["rules"]} == {
        "old CT": [study_uid(0)],
        "MR": [study_uid(2)],
    }
    assert (plan["on_hold"], plan["deleted_studies"]) == ([study_uid(1)], 0)
    assert "--yes is needed" in command("retention", "apply", "--rules", rules, "--data", data, code=2)
    assert archive.status()["studies"] == 4
    told = command("retention", "apply", "--rules", rules, "--data", data, "--yes")
    assert study_uid(0) in told
    assert f"on hold, stays: {study_uid(1)}" in told
    assert sorted(row["StudyInstanceUID"] for row in archive.find("STUDY")) == [study_uid(1), study_uid(3)]
    archive.close()
    assert [one.reason for one in past_deletions(data)] == ["retention: old CT", "retention: MR"]
    listed = command("deletions", "--data", data, "--json")
    assert [(one["level"], one["study"]) for one in listed] == [("STUDY", study_uid(0)), ("STUDY", study_uid(2))]
    assert "retention: MR" in command("deletions", "--data", data)


def test_in_the_background_nothing_goes_by_a_wrong_rule(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES.replace("days", "day"))
    settings = load({"data": data, "retention": rules, "retention_hours": 1.0}, environ={})
    with caplog.at_level("INFO"), Archive.open(data) as archive:
        retaining.apply_rules(settings)
        assert archive.status()["studies"] == 4
        rules.write_text(RULES)
        retaining.apply_rules(settings)
        assert archive.status()["studies"] == 1
    assert [record.levelname for record in caplog.records if record.name == retaining.__name__] == ["ERROR", "INFO"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace("days = 0.000001", "days = -1"), "days = -1 is wrong"),
        (lambda text: text.replace("study-date", "birth"), "since = 'birth' is wrong"),
        (lambda text: text.replace('"1KiB"', '"much"'), "size = 'much' is wrong"),
        (lambda text: text.replace('["CT"]', '"CT"'), "modalities = 'CT' is wrong"),
        (lambda text: text.replace("modalities", "modality"), "modality is none of name, modalities"),
        (lambda text: text.replace('name = "MR"', 'name = "old CT"'), 'more than one rule is called "old CT"'),
        (lambda text: text.replace('name = "MR"', ""), "needs a name"),
        (lambda text: text.replace("[[quota]]", "[[rules]]"), "rules is neither [[rule]] nor [[quota]]"),
        (lambda text: text + "=", "is not TOML"),
    ],
)
def test_a_wrong_rule_is_told_and_nothing_is_planned(tmp_path: Path, change: Callable[[str], str], says: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(change(RULES))
    with pytest.raises(RulesError) as caught:
        read_rules(path)
    assert says in str(caught.value)


def test_without_rules_the_command_says_so(data: Path, tmp_path: Path) -> None:
    assert "there are no rules" in command("retention", "plan", "--data", data, code=2)
    assert "can't be read" in command("retention", "plan", "--rules", tmp_path / "none", "--data", data, code=2)
    command("retention", "dance", "--data", data, code=2)
