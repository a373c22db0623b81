"""Held-out metrics by hand, intervals against scipy."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binomtest, norm

from xpo_ray.evaluation.metrics import Z95, held_out_metrics, implicit_rewards, kl_estimates, wilson
from xpo_ray.evaluation.table import JUDGED


def judged(*rows: dict[str, Any]) -> pa.Table:
    """Rows that differ from a judged one with nothing special about it."""
    usual: dict[str, Any] = {
        "row": 0,
        "prompt_id": "p",
        "prompt": [],
        "prompt_ids": [2],
        "response": "text",
        "ids": [5, 1],
        "ended": True,
        "logp": -2.0,
        "chosen_logp": None,
        "rejected_logp": None,
        "base_logp": -2.0,
        "score": 1.0,
        "base_score": 1.0,
        "previous_score": 1.0,
        "base_win": 0.5,
        "previous_win": 0.5,
    }
    return pa.Table.from_pylist([usual | row for row in rows], schema=JUDGED)


def metrics(*rows: dict[str, Any], base: pa.Table | None = None, own: bool = True) -> dict[str, float | None]:
    return held_out_metrics(judged(*rows), base, beta=0.1, dtype="float32", own_distribution=own)


def test_z95_is_the_normal_quantile() -> None:
    assert pytest.approx(norm.ppf(0.975)) == Z95


def test_reward_is_the_mean_score_with_a_normal_interval_and_gain_is_paired() -> None:
    got = metrics(
        {"score": 1.0, "base_score": 0.5}, {"score": 2.0, "base_score": 1.0}, {"score": 6.0, "base_score": 3.0}
    )
    sem = math.sqrt(((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2) / 2 / 3)
    assert got["reward"] == 3.0
    assert (got["reward/low"], got["reward/high"]) == pytest.approx((3.0 - Z95 * sem, 3.0 + Z95 * sem))
    assert got["gain"] == pytest.approx((0.5 + 1.0 + 3.0) / 3)


def test_a_response_without_a_score_is_counted_and_never_a_zero() -> None:
    got = metrics(
        {"score": 4.0, "base_score": 1.0}, {"score": None, "base_score": 1.0}, {"score": 2.0, "base_score": None}
    )
    assert (got["prompts"], got["unjudged"]) == (3.0, 1.0)
    assert (got["reward"], got["gain"]) == (3.0, 3.0)


def test_win_rates_count_ties_half_and_have_wilson_intervals() -> None:
    got = metrics(
        {"base_win": 1.0, "previous_win": 0.0},
        {"base_win": 0.5, "previous_win": None},
        {"base_win": 0.0, "previous_win": None},
        {"base_win": 1.0, "previous_win": None},
    )
    assert got["win_rate/base"] == 0.625
    assert (got["win_rate/base/low"], got["win_rate/base/high"]) == wilson(2.5, 4)
    assert got["win_rate/previous"] == 0.0


@pytest.mark.parametrize(("wins", "trials"), [(0, 1), (1, 1), (0, 20), (7, 20), (20, 20), (511, 1000)])
def test_wilson_intervals_are_scipys(wins: int, trials: int) -> None:
    theirs = binomtest(wins, trials).proportion_ci(method="wilson")
    assert wilson(wins, trials) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_length_and_endings_are_of_the_responses() -> None:
    got = metrics({"ids": [5, 6, 1]}, {"ids": [5], "ended": False}, {"ids": [5, 1]}, {"ids": [5, 1]})
    assert (got["length"], got["eos_rate"], got["truncation_rate"]) == (2.0, 0.75, 0.25)


def test_kl_estimates_are_schulmans() -> None:
    ratios = [0.5, -0.25, 2.0]
    got = kl_estimates(np.array(ratios))
    third = [math.exp(-r) - 1 + r for r in ratios]
    assert got["kl/k1"] == pytest.approx(0.75)
    assert got["kl/k3"] == pytest.approx(sum(third) / 3)
    assert got["kl/k1_sem"] == pytest.approx(float(np.std(ratios, ddof=1)) / math.sqrt(3))
    assert got["kl/k3_sem"] == pytest.approx(float(np.std(third, ddof=1)) / math.sqrt(3))


def test_both_estimates_find_the_kl_of_two_known_distributions_and_k3_is_never_negative() -> None:
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.4, 0.4, 0.2])
    drawn = np.random.default_rng(0).choice(3, size=40_000, p=p)
    ratio = np.log(p[drawn] / q[drawn])
    got = kl_estimates(ratio)
    exact = float((p * np.log(p / q)).sum())
    for name in ("kl/k1", "kl/k3"):
        value, sem = got[name], got[f"{name}_sem"]
        assert value is not None
        assert sem is not None
        assert abs(value - exact) < 4 * sem
    assert (kl_estimates(np.linspace(-5, 5, 101)[:, None][50])["kl/k3"] or 0.0) >= 0.0
    assert all((kl_estimates(np.array([r]))["kl/k3"] or 0.0) >= 0.0 for r in (-3.0, -1e-9, 1e-9, 3.0))


def test_kl_is_of_own_draws_against_the_base_and_absent_where_they_come_from_another_distribution() -> None:
    got = metrics({"logp": -2.0, "base_logp": -2.5}, {"logp": -4.0, "base_logp": -3.5})
    assert got["kl/k1"] == pytest.approx(0.0)
    assert not [name for name in metrics({}, own=False) if name.startswith("kl/")]


def test_a_response_that_the_base_finds_impossible_gives_a_finite_number() -> None:
    k3 = metrics({"logp": -2000.0, "base_logp": -1.0})["kl/k3"]
    assert k3 is not None
    assert math.isfinite(k3)


def test_implicit_rewards_are_scaled_differences_to_the_base_on_the_pairs() -> None:
    now = judged(
        {"chosen_logp": -10.0, "rejected_logp": -12.0},  # Δ: 1 − (−2) = 3
        {"chosen_logp": -10.0, "rejected_logp": -9.0},  # 1 − 1 = 0
        {"chosen_logp": -12.0, "rejected_logp": -9.0},  # −1 − 1 = −2
        {},
    )
    base = judged(*({"chosen_logp": -11.0, "rejected_logp": -10.0} for _ in range(3)), {})
    got = implicit_rewards(now, base, beta=0.1, dtype="float32")
    assert got["implicit_accuracy"] == pytest.approx(1.5 / 3)
    assert got["implicit_margin"] == pytest.approx(0.1 * (3 + 0 - 2) / 3)
    assert (got["implicit_accuracy/low"], got["implicit_accuracy/high"]) == pytest.approx(wilson(1.5, 3))


def test_the_base_itself_has_no_implicit_rewards() -> None:
    assert "implicit_accuracy" not in metrics({})
    assert metrics({}, base=judged({}))["implicit_accuracy"] is None


def test_a_metric_without_anything_to_stand_on_is_none() -> None:
    none = {"score": None, "base_score": None, "base_win": None, "previous_win": None}
    got = metrics(none, none)
    assert (got["reward"], got["gain"], got["win_rate/base"], got["win_rate/previous"]) == (None,) * 4
    assert got["unjudged"] == 2.0
    assert metrics({"score": 2.0})["reward/low"] is None


def test_no_held_out_prompts_give_no_numbers() -> None:
    got = metrics()
    assert got.pop("prompts") == 0.0
    assert set(got.values()) == {None}
