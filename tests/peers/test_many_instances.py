"""Many small instances, imported, asked for, and the index deleted and rebuilt: the scale scenario of the harness."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.scale import Scale, measure

COUNT = 3000


@pytest.fixture(scope="module")
def scale(tmp_path_factory: pytest.TempPathFactory) -> Scale:
    place: Path = tmp_path_factory.mktemp("scale")
    return measure(place, COUNT, per_series=5, each=40, workers=2)


def test_every_question_is_answered_right(scale: Scale) -> None:
    assert {one.kind: one.wrong for one in scale.answered} == {one.kind: 0 for one in scale.answered}
    assert len(scale.answered) >= 8


def test_questions_take_milliseconds(scale: Scale) -> None:
    """Far from the machine's best, so that a busy machine doesn't fail the test; what grows with the archive does."""
    slow = {one.kind: one.whole_p50_ms for one in scale.answered if one.answers < 100 and one.whole_p50_ms > 50}
    assert slow == {}


def test_a_rebuilt_index_gives_the_same_answers(scale: Scale) -> None:
    assert scale.same
    assert sum(one.wrong for one in scale.answered_after) == 0
