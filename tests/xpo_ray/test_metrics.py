"""Metrics of a window, by hand."""

import math
from typing import Any

import pytest
import torch

from tests import tables
from xpo_ray.examples import Example, example, pairs_of
from xpo_ray.logprobs import ResponseLogProbs
from xpo_ray.metrics import WindowMetrics
from xpo_ray.objectives import window_loss
from xpo_ray.spec.algorithm import DpoObjective

BETA, KAPPA = 0.5, 0.1


def rows() -> list[dict[str, Any]]:
    """Three prompts: a pair of two draws with a bonus, a tie that keeps its bonus, and one that was dropped."""
    table = tables.scored(
        [[2], [3], [4]],
        [
            [tables.candidate("policy", [5, 6, 1]), tables.candidate("reference", [7, 8], ended=False)],
            [tables.candidate("policy", [9, 1]), tables.candidate("reference", [10, 11, 12, 1])],
            [tables.candidate("policy", [13]), tables.candidate("reference", [14, 1])],
        ],
        [tables.pair(0, 1, 1), tables.tie(0, 1, 1), tables.dropped()],
        [[-4.0, -5.0], [None, -7.5], [None, None]],
    )
    made: list[dict[str, Any]] = table.to_pylist()
    return made


def examples() -> list[Example]:
    return [e for row in rows() if (e := example(row)) is not None]


def out(logps: list[float], entropies: list[float], tokens: list[int]) -> ResponseLogProbs:
    return ResponseLogProbs(torch.tensor(logps), torch.tensor(tokens), torch.tensor(entropies))


ALL = out([-3.0, -6.0, -8.0], [1.0, 2.0, 4.5], [3, 2, 4])
"""The policy's: draw and comparator of the first prompt, comparator of the second. Δ_w = 1, Δ_l = −1, z = 2."""


def added(metrics: WindowMetrics, chosen: list[Example], logps: ResponseLogProbs) -> None:
    pairs, comparators = pairs_of(chosen, logps.logp_S, logps.tokens_S)
    loss = window_loss(DpoObjective(), BETA, KAPPA, pairs, comparators, pairs_total=1, comparators_total=2)
    metrics.add(loss, pairs, comparators, logps, chosen)


def values() -> dict[str, float]:
    metrics = WindowMetrics(BETA, rows())
    metrics.grad_norm = 3.5
    added(metrics, examples(), ALL)
    return metrics.values()


def test_losses_are_those_of_the_window() -> None:
    got = values()
    preference, bonus = math.log1p(math.exp(-BETA * 2.0)), KAPPA * (-6.0 - 8.0) / 2
    assert got["loss/preference"] == pytest.approx(preference)
    assert got["loss/bonus"] == pytest.approx(bonus)
    assert got["loss"] == pytest.approx(preference + bonus)
    assert (got["grad_norm"], got["tokens"]) == (3.5, 9.0)


def test_rewards_and_log_probs_are_means_over_pairs_of_the_policy_alone() -> None:
    got = values()
    assert (got["rewards/chosen"], got["rewards/rejected"]) == (0.5, -0.5)
    assert (got["rewards/margins"], got["rewards/accuracies"]) == (1.0, 1.0)
    assert (got["logps/chosen"], got["logps/rejected"], got["logps/comparator"]) == (-3.0, -6.0, -7.0)


def test_entropy_is_the_mean_over_responses() -> None:
    assert values()["entropy"] == 2.5


def test_kl_is_estimated_on_draws_whose_sampler_is_known() -> None:
    got = values()
    assert got["kl/reference_policy"] == pytest.approx(((-5.0 + 6.0) + (-7.5 + 8.0)) / 2)
    assert got["kl/policy_reference"] == pytest.approx(-3.0 + 4.0)


def test_draws_are_counted_over_all_prompts_dropped_ones_too() -> None:
    got = values()
    assert got["draws/eos_rate"] == pytest.approx(5 / 6)
    assert got["draws/length"] == pytest.approx((3 + 2 + 2 + 4 + 1 + 2) / 6)


def test_outcomes_are_shares_of_the_prompts() -> None:
    got = values()
    assert (got["pairs"], got["tie_rate"], got["drop_rate"]) == (1.0, 1 / 3, 1 / 3)


def test_micro_batches_add_up_to_the_window() -> None:
    metrics = WindowMetrics(BETA, rows())
    metrics.grad_norm = 3.5
    first, second = examples()
    added(metrics, [second], out([-8.0], [4.5], [4]))
    added(metrics, [first], out([-3.0, -6.0], [1.0, 2.0], [3, 2]))
    assert metrics.values() == pytest.approx(values())


def test_the_datasets_answers_are_no_draws() -> None:
    offline = tables.scored(
        [[2]],
        [[tables.candidate("chosen", [5, 1]), tables.candidate("rejected", [6, 1])]],
        [tables.pair(0, 1)],
        [[-4.0, -5.0]],
    ).to_pylist()
    metrics = WindowMetrics(BETA, offline)
    chosen = [e for row in offline if (e := example(row)) is not None]
    added(metrics, chosen, out([-3.0, -6.0], [1.0, 2.0], [2, 2]))
    got = metrics.values()
    assert not [name for name in got if name.startswith(("kl/", "draws/", "logps/comparator"))]


def test_what_has_no_count_is_absent_from_an_empty_window() -> None:
    got = WindowMetrics(BETA, []).values()
    assert got == {
        "loss": 0.0,
        "loss/preference": 0.0,
        "loss/bonus": 0.0,
        "tokens": 0.0,
        "grad_norm": 0.0,
        "pairs": 0.0,
        "tie_rate": 0.0,
        "drop_rate": 0.0,
    }
