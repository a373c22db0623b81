"""Decisions, fed with what happened."""

import math
from itertools import combinations

import pytest

from xpo_ray.decisions import (
    GiveUp,
    Restart,
    after_death,
    best_iteration,
    canary_agrees,
    checkpoint_due,
    evaluation_due,
    flat_loss,
    judge_gave_up,
    next_stage,
    out_of_reach,
    runaway_length,
)
from xpo_ray.shards import STAGES

LOG_2 = math.log(2)


def test_a_shard_walks_through_the_stages_in_their_order() -> None:
    walked = [next_stage(set(STAGES[:n])) for n in range(4)]
    assert walked == ["candidates", "preferences", "scored", None]


def test_a_later_stage_stands_for_the_earlier_ones() -> None:
    for count in (1, 2, 3):
        for committed in combinations(STAGES, count):
            furthest = max(STAGES.index(s) for s in committed)
            assert next_stage(set(committed)) == (STAGES[furthest + 1] if furthest < 2 else None)


def test_deaths_are_answered_with_longer_and_longer_pauses_until_the_limit() -> None:
    answers = [after_death(deaths, max_restarts=3) for deaths in (1, 2, 3, 4)]
    assert answers == [Restart(0.25), Restart(0.5), Restart(1.0), GiveUp()]


def test_a_pause_is_never_longer_than_ten_seconds_and_no_restarts_means_none() -> None:
    assert after_death(50, max_restarts=100) == Restart(10.0)
    assert after_death(2000, max_restarts=5000) == Restart(10.0)
    assert after_death(1, max_restarts=0) == GiveUp()


@pytest.mark.parametrize(
    ("prompts", "failed", "allowed", "gave_up"),
    [(8, 4, 0.5, False), (8, 5, 0.5, True), (8, 0, 0.0, False), (8, 1, 0.0, True), (8, 8, 1.0, False)],
)
def test_a_judge_gave_up_when_more_than_the_allowed_share_failed(
    prompts: int, failed: int, allowed: float, gave_up: bool
) -> None:
    assert judge_gave_up(prompts, failed, allowed) is gave_up


@pytest.mark.parametrize(
    ("since", "every", "border", "online", "last", "due"),
    [
        (5, None, True, False, False, True),  # every border of an iterative run
        (5, None, False, False, False, False),
        (1, 2, False, False, False, False),
        (2, 2, False, False, False, True),
        (1, 50, True, True, False, False),  # online: a border after each step
        (50, 50, True, True, False, True),
        (50, 50, False, True, False, False),
        (1, 50, True, True, True, True),  # the end of a run
        (0, 50, True, True, True, False),  # nothing new
        (0, None, True, False, False, False),
    ],
)
def test_a_checkpoint_is_due_at_borders_at_the_cadence_and_at_the_end(
    since: int, every: int | None, border: bool, online: bool, last: bool, due: bool
) -> None:
    assert checkpoint_due(since, every, border=border, online=online, last=last) is due


@pytest.mark.parametrize(
    ("total", "before", "online", "last", "due"),
    [(3, 0, False, False, True), (49, 0, True, False, False), (50, 0, True, False, True), (51, 50, True, True, True)],
)
def test_an_evaluation_is_due_after_each_iteration_or_at_the_cadence_of_an_online_run(
    total: int, before: int, online: bool, last: bool, due: bool
) -> None:
    assert evaluation_due(total, before, 50, online=online, last=last) is due


def test_a_canary_agrees_up_to_the_rounding_of_its_dtype() -> None:
    assert canary_agrees(-2.00005, -2.0, "float32")
    assert not canary_agrees(-2.0002, -2.0, "float32")
    assert canary_agrees(-2.04, -2.0, "bfloat16")
    assert not canary_agrees(-2.06, -2.0, "bfloat16")
    assert canary_agrees(-6.1, -6.0, "bfloat16")
    assert not canary_agrees(-6.13, -6.0, "bfloat16")
    assert not canary_agrees(math.nan, -2.0, "bfloat16")
    assert not canary_agrees(-math.inf, -math.inf, "float32")


def test_a_loss_that_stays_at_log_2_without_margins_is_flat() -> None:
    assert flat_loss([LOG_2] * 20, [0.0] * 20)
    assert flat_loss([0.3] * 5 + [LOG_2] * 20, [2.0] * 5 + [0.0] * 20)
    assert not flat_loss([LOG_2] * 19, [0.0] * 19)
    assert not flat_loss([LOG_2] * 19 + [0.69], [0.0] * 20)
    assert not flat_loss([LOG_2] * 20, [0.0] * 19 + [0.01])


def test_the_loss_of_another_objective_is_flat_where_it_stays_too() -> None:
    assert flat_loss([25.0] * 20, [0.0] * 20)  # ipo at beta 0.1
    assert not flat_loss([25.0 - 0.1 * i for i in range(20)], [0.0] * 20)


def test_length_has_run_away_when_it_grew_by_half_and_most_responses_are_cut() -> None:
    assert runaway_length([10.0, 12.0, 16.0], truncated=0.6)
    assert not runaway_length([10.0, 15.0], truncated=0.6)
    assert not runaway_length([10.0, 16.0], truncated=0.5)
    assert not runaway_length([40.0], truncated=1.0)


def test_the_best_iteration_has_the_best_reward_and_is_the_earlier_of_equals() -> None:
    assert best_iteration({1: 0.2, 2: 0.5, 3: 0.5}, last=3) == 2
    assert best_iteration({1: -0.5, 2: None, 3: -0.7}, last=3) == 1


def test_without_rewards_the_last_iteration_is_the_best() -> None:
    assert best_iteration({}, last=3) == 3
    assert best_iteration({1: None, 2: None}, last=3) == 3


@pytest.mark.parametrize(
    ("failed", "lost", "down", "waits"),
    [
        (8, 8, True, True),
        (1, 1, True, True),
        (8, 8, False, True),
        (8, 4, False, True),
        (8, 3, False, False),
        (4, 4, False, False),
        (8, 0, True, False),
        (0, 1, True, True),
    ],
)
def test_a_shard_waits_for_an_endpoint_that_is_down_or_to_blame_for_most_failures(
    failed: int, lost: int, down: bool, waits: bool
) -> None:
    assert out_of_reach(8, failed, lost, 0.5, down=down) is waits
