"""A window as a step sees it: whether it trains, and of whose draws a KL can be told."""

from dataclasses import replace
from typing import Any

import pytest

from tests import tables
from xpo_ray.algorithms import Draw, algorithm_row
from xpo_ray.generation.engine import own_distributions
from xpo_ray.schedule import Slice, Window
from xpo_ray.spec.algorithm import OnlineDpoAlgorithm, SelmAlgorithm, XpoAlgorithm
from xpo_ray.spec.training import SamplingSpec
from xpo_ray.steps import StepOrder, WindowExamples

ROW = algorithm_row(XpoAlgorithm(kind="xpo"))
BOTH = frozenset({"policy", "reference"})


def window(preference: dict[str, Any], *, kappa: float = 0.1, iteration: int = 1, step: int = 1) -> WindowExamples:
    """One prompt with a draw of the policy and one of the reference, both of version 0."""
    candidates = [[tables.candidate("policy", [5, 1]), tables.candidate("reference", [6, 1])]]
    table = tables.scored([[2]], candidates, [preference], [[-1.0, -2.0]])
    order = StepOrder(Window(iteration, step, 1, (Slice(1, 0, (0,)),)), step, 1e-3, kappa, ROW, BOTH)
    return WindowExamples.of(order, [table])


@pytest.mark.parametrize(
    ("preference", "kappa", "trains", "alone"),
    [
        (tables.pair(0, 1), 0.0, True, True),
        (tables.tie(0, 1, 1), 0.1, False, True),
        (tables.tie(0, 1, 1), 0.0, False, False),
        (tables.tie(0, 1), 0.1, False, False),
        (tables.dropped(), 0.1, False, False),
    ],
    ids=["pair", "bonus alone", "kappa 0", "no comparator", "dropped"],
)
def test_a_window_trains_with_a_pair_or_with_the_bonus_where_it_may_stand_alone(
    preference: dict[str, Any], kappa: float, trains: bool, alone: bool
) -> None:
    one = window(preference, kappa=kappa)
    assert (one.trains(bonus_alone=False), one.trains(bonus_alone=True)) == (trains, alone)


@pytest.mark.parametrize(("iteration", "step", "sources"), [(1, 1, BOTH), (1, 2, {"reference"}), (2, 1, {"reference"})])
def test_the_policys_draws_give_a_kl_only_while_it_is_the_one_that_drew(
    iteration: int, step: int, sources: set[str]
) -> None:
    assert window(tables.pair(0, 1, 1), iteration=iteration, step=step).metrics("float32").kl_of == sources


def test_who_draws_greedily_or_with_cuts_does_not_draw_from_the_models_own_distribution() -> None:
    assert own_distributions(ROW, SamplingSpec()) == BOTH
    for cut in ({"temperature": 0.7}, {"top_p": 0.9}, {"top_k": 5}, {"min_new_tokens": 1}):
        assert own_distributions(ROW, SamplingSpec.model_validate(cut)) == frozenset()
    assert (
        own_distributions(algorithm_row(SelmAlgorithm(kind="selm", decoding="greedy")), SamplingSpec()) == frozenset()
    )
    mixed = replace(
        algorithm_row(OnlineDpoAlgorithm(kind="online_dpo")), draws=(Draw("policy"), Draw("policy", 1, "greedy"))
    )
    assert own_distributions(mixed, SamplingSpec()) == frozenset()
