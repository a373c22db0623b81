"""Events become points: names, steps, means and rates by hand, and each point once however often a step is done."""

import pytest

from tests.xpo_ray.exports.journal import BEGUN, DRAWN, FINISHED, JUDGED, STARTED, STEPS_UNTIL, evaluation, shard, step
from xpo_ray.exports.exporter import Point
from xpo_ray.exports.points import Translator
from xpo_ray.reporting import Event, RunFinished


def points(*events: Event) -> list[Point]:
    """Of events that come one second apart."""
    translator = Translator(STEPS_UNTIL.__getitem__)
    found = (translator.point(100.0 + i, event) for i, event in enumerate(events))
    return [p for p in found if p is not None]


def test_a_step_stands_at_its_total_step_with_the_trainers_metrics() -> None:
    (point,) = points(step(3))
    assert (point.step, point.at) == (3, 100.0)
    assert point.values["train/loss"] == pytest.approx(0.3)
    assert point.values["train/iteration"] == 2
    assert point.values["throughput/train_tokens_per_s"] == 200.0


def test_an_evaluation_stands_where_its_model_was_published_and_what_is_missing_is_left_out() -> None:
    base, first = points(evaluation(0), step(3), evaluation(1))[0::2]
    assert (base.step, first.step) == (0, 2)
    assert first.values == {
        "evaluation/reward": 2.0,
        "evaluation/gain": 0.5,
        "evaluation/iteration": 1.0,
        "evaluation/seconds": 3.0,
    }
    assert "evaluation/gain" not in base.values


def test_shards_since_the_step_before_are_summed_up_at_the_next() -> None:
    drawn, judged = shard("candidates", DRAWN), shard("preferences", JUDGED)
    first, second = points(STARTED, BEGUN, drawn, drawn, judged, step(1), step(2))
    assert {k: v for k, v in first.values.items() if k.startswith(("draw/", "judge/"))} == {
        "draw/responses": 16.0,
        "draw/length": 10.0,
        "draw/eos_rate": 0.75,
        "judge/prompts": 8.0,
        "judge/tie_rate": 0.125,
        "judge/drop_rate": 0.125,
        "judge/failure_rate": 0.125,
    }
    assert first.values["throughput/draw_tokens_per_s"] == 160.0 / 4.0  # of the seconds since the iteration began
    assert first.values["throughput/draw_prompts_per_s"] == 16.0 / 4.0
    assert first.values["throughput/judge_seconds_per_shard"] == 2.0
    assert not [name for name in second.values if name.startswith(("draw/", "judge/"))]


def test_what_a_judge_counts_is_summed_up_beside_its_prompts() -> None:
    judged = shard("preferences", {**JUDGED, "judge_requests": 24.0, "judge_cost": 0.5})
    first, second = points(STARTED, BEGUN, judged, judged, step(1), step(2))
    assert (first.values["judge/requests"], first.values["judge/cost"], first.values["judge/prompts"]) == (
        48.0,
        1.0,
        16.0,
    )
    assert "judge/cost" not in second.values


def test_adopted_shards_and_held_out_shards_are_no_draws() -> None:
    (point,) = points(BEGUN, shard("candidates", DRAWN, fresh=False), shard("held-out", {}), step(1))
    assert not [name for name in point.values if name.startswith("draw/")]


def test_of_a_step_and_an_evaluation_that_come_again_only_the_first_counts() -> None:
    again = points(step(1), step(2), evaluation(0), STARTED, step(2, 9.0, replayed=True), step(3), evaluation(0))
    assert [p.step for p in again] == [1, 2, 0, 3]
    assert again[1].values["train/loss"] == pytest.approx(0.2)


def test_the_status_is_that_of_the_newest_attempt() -> None:
    translator = Translator(STEPS_UNTIL.__getitem__)
    seen = []
    for event in (STARTED, RunFinished("failed", 1.0, 0), STARTED, FINISHED):
        translator.point(0.0, event)
        seen.append(translator.status)
    assert seen == ["running", "failed", "running", "succeeded"]
