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


BOTH = frozenset({"policy", "reference"})


def test_log_ratios_are_means_over_the_draws_that_are_trained_on() -> None:
    got = values()
    assert got["log_ratio/reference_draws"] == pytest.approx(((-5.0 + 6.0) + (-7.5 + 8.0)) / 2)
    assert got["log_ratio/policy_draws"] == pytest.approx(-3.0 + 4.0)
    assert not [name for name in got if name.startswith("kl/")]


def kl_of(own: frozenset[str], *, whole: bool) -> dict[str, float]:
    """KL from two prompts whose reference draws all carry the bonus, and whose policy draws are all trained on if `whole`."""
    second = tables.pair(0, 1, 1) if whole else tables.tie(0, 1, 1)
    made = [row | {"preference": second} if i == 1 else row for i, row in enumerate(rows()[:2])]
    made[1]["reference_logps"][0] = -1.0 if whole else None
    metrics = WindowMetrics(BETA, made, kl_of=own)
    chosen = [e for row in made if (e := example(row)) is not None]
    logps = ALL if not whole else out([-3.0, -6.0, -2.0, -8.0], [1.0] * 4, [3, 2, 2, 4])
    pairs, comparators = pairs_of(chosen, logps.logp_S, logps.tokens_S)
    loss = window_loss(DpoObjective(), BETA, KAPPA, pairs, comparators, pairs_total=2, comparators_total=2)
    metrics.add(loss, pairs, comparators, logps, chosen)
    return {name: value for name, value in metrics.values().items() if name.startswith("kl/")}


def test_a_mean_log_ratio_is_a_kl_where_all_draws_are_trained_on_and_come_from_the_models_own_distribution() -> None:
    assert kl_of(BOTH, whole=True) == pytest.approx({"kl/reference_policy": 0.75, "kl/policy_reference": 0.0})
    assert set(kl_of(frozenset({"reference"}), whole=True)) == {"kl/reference_policy"}
    assert kl_of(frozenset(), whole=True) == {}


def test_over_the_judges_choice_among_the_draws_there_is_no_kl() -> None:
    assert set(kl_of(BOTH, whole=False)) == {"kl/reference_policy"}


def test_draws_that_are_empty_or_alike_are_seen() -> None:
    made = rows()
    for row in made:
        row["candidates"][0]["text"] = " "
    got = WindowMetrics(BETA, made).values()
    assert (got["draws/count"], got["draws/empty_rate"], got["draws/distinct_rate"]) == (6.0, 0.5, 4 / 6)


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
    assert not [name for name in got if name.startswith(("kl/", "log_ratio/", "draws/", "logps/comparator"))]


def test_what_has_no_count_is_absent_from_an_empty_window() -> None:
    got = WindowMetrics(BETA, []).values()
    assert got == {
        "tokens": 0.0,
        "skipped": 1.0,
        "pairs": 0.0,
        "tie_rate": 0.0,
        "drop_rate": 0.0,
    }
