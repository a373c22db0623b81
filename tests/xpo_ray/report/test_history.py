"""Journals in one pass: what is done again counts once, what was adopted is no work."""

from dataclasses import asdict
from typing import Any

import numpy as np

from tests.xpo_ray.report.folders import evaluated, step
from xpo_ray.report.history import History
from xpo_ray.reporting import Event, IterationStarted, RunFinished, RunResumed, RunStarted, ShardDone, Warned


def told(*events: tuple[int, float, Event]) -> History:
    """The history of (attempt, time, event) triples."""
    lines: list[dict[str, Any]] = [
        {"attempt": attempt, "at": at, "type": type(event).__name__, **asdict(event)} for attempt, at, event in events
    ]
    return History.of(lines)


def test_a_replayed_step_overwrites_the_first_try_and_is_marked() -> None:
    history = told(
        (1, 0.0, RunStarted("run_x", 1, 2, 4)),
        (1, 1.0, step(1, loss=0.7)),
        (1, 2.0, step(2, loss=0.6)),
        (2, 9.0, RunStarted("run_x", 2, 2, 4)),
        (2, 9.5, RunResumed("c", 1, 3)),
        (2, 10.0, step(2, loss=0.5, replayed=True)),
        (2, 11.0, step(3, iteration=2, loss=0.4, novel=1.0)),
    )
    assert history.steps.numbers().tolist() == [1, 2, 3]
    assert history.steps.column("loss").tolist() == [0.7, 0.5, 0.4]
    assert history.steps.column("replayed").tolist() == [0, 1, 0]
    assert np.isnan(history.steps.column("novel")).tolist() == [True, True, False]
    assert np.isnan(history.steps.column("absent")).all()
    assert history.replayed == 1
    assert [(a.steps, a.resumed_from, a.adopted_tables) for a in history.attempts] == [(2, None, 0), (2, "c", 3)]


def test_steps_are_ordered_even_when_a_metric_comes_late() -> None:
    history = told((1, 0.0, step(2)), (1, 1.0, step(1, late=3.0)))
    assert history.steps.numbers().tolist() == [1, 2]
    late = history.steps.column("late")
    assert late[0] == 3.0
    assert np.isnan(late[1])


def test_a_pause_between_attempts_is_no_time_under_way() -> None:
    history = told(
        (1, 100.0, RunStarted("run_x", 1, 1, 1)),
        (1, 104.0, step(1)),
        (2, 900.0, RunStarted("run_x", 2, 1, 1)),
        (2, 901.0, RunFinished("failed", 1.0, 0, error="Boom: it broke")),
    )
    assert history.seconds == 5.0
    assert [a.status for a in history.attempts] == ["unfinished", "failed"]
    assert history.attempts[1].error == "Boom: it broke"


def test_work_is_counted_by_stage_and_adopted_tables_are_no_work() -> None:
    history = told(
        (1, 10.0, ShardDone(1, 0, "candidates", 8, 2.0, True, {"tokens": 50.0})),
        (1, 11.0, ShardDone(1, 1, "candidates", 8, 2.0, True, {"tokens": 30.0})),
        (1, 12.0, ShardDone(1, 2, "candidates", 8, 0.0, False, {})),
        (1, 13.0, step(1, tie_rate=0.2, drop_rate=0.0)),
    )
    draw, train = history.stages["candidates"], history.stages["train"]
    assert (draw.prompts, draw.tokens, draw.spans) == (16, 80, [(8.0, 10.0), (9.0, 11.0)])
    assert (train.prompts, train.tokens) == (10, 40)  # 8 pairs are 80 % of the window


def test_outcomes_add_up_by_iteration_and_a_shard_that_was_judged_twice_counts_once() -> None:
    def counted(pairs: float) -> dict[str, float]:
        return {"prompts": 8.0, "pairs": pairs}

    history = told(
        (1, 1.0, ShardDone(1, 0, "preferences", 8, 1.0, True, counted(7.0))),
        (1, 2.0, ShardDone(1, 1, "preferences", 8, 1.0, True, counted(6.0))),
        (2, 3.0, ShardDone(1, 1, "preferences", 8, 1.0, True, counted(6.0))),
        (2, 4.0, ShardDone(2, 0, "preferences", 8, 1.0, True, counted(8.0))),
    )
    assert {t: dict(c) for t, c in history.judged.items()} == {
        1: {"prompts": 16, "pairs": 13},
        2: {"prompts": 8, "pairs": 8},
    }


def test_of_an_evaluation_that_was_read_back_the_numbers_are_the_last_and_the_time_the_longest() -> None:
    history = told((1, 10.0, evaluated(0, 1.0)), (2, 20.0, EVALUATED_AGAIN))
    assert history.evaluations[0]["reward"] == 2.0
    held_out = history.stages["held-out"]
    assert held_out.spans == [(9.0, 10.0)]
    assert (held_out.prompts, held_out.tokens) == (3, 9)


EVALUATED_AGAIN = type(evaluated(0, 2.0))(0, evaluated(0, 2.0).metrics, 0.01)


def test_iterations_and_warnings_are_kept() -> None:
    history = told(
        (1, 1.0, IterationStarted(1, 8, 1, 2, 0.005, 1e-4)), (1, 2.0, Warned("runaway_length", "responses grow"))
    )
    assert history.iterations[1]["kappa"] == 0.005
    assert [e["code"] for e in history.notable] == ["runaway_length"]
