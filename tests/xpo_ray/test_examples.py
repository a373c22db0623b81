"""Rows as the trainer reads them: what is trained on, once each, and the pairs among the flat log-probs."""

import math
from typing import Any

import pyarrow as pa
import pytest
import torch

from tests import tables
from xpo_ray.examples import Example, example, pairs_of, trained_candidates
from xpo_ray.logprobs import PromptGroup


def rows() -> list[dict[str, Any]]:
    """A pair of two draws with a bonus, a tie that keeps its bonus, and a dropped prompt."""
    table: pa.Table = tables.scored(
        [[2], [3], [4]],
        [
            [tables.candidate("policy", [5, 6, 1]), tables.candidate("reference", [7, 8], ended=False)],
            [tables.candidate("policy", [9, 1]), tables.candidate("reference", [10, 11, 12, 1])],
            [tables.candidate("policy", [13]), tables.candidate("reference", [14, 1])],
        ],
        [tables.pair(0, 1, 1), tables.tie(0, 1, 1), tables.dropped()],
        [[-4.0, -5.0], [None, -9.0], [None, None]],
    )
    made: list[dict[str, Any]] = table.to_pylist()
    return made


def examples() -> list[Example]:
    return [e for row in rows() if (e := example(row)) is not None]


@pytest.mark.parametrize(
    ("preference", "used"),
    [
        (tables.pair(0, 2, 1), [0, 1, 2]),
        (tables.pair(2, 0), [0, 2]),
        (tables.pair(1, 0, 0, 1), [0, 1]),
        (tables.tie(0, 2, 1), [1]),
        (tables.tie(0, 2), []),
        (tables.dropped(), []),
    ],
)
def test_each_candidate_that_a_loss_reads_is_named_once(preference: dict[str, Any], used: list[int]) -> None:
    assert trained_candidates(preference) == used


def test_a_row_becomes_an_example_with_each_trained_response_once() -> None:
    paired, tied = examples()
    assert paired.group == PromptGroup([2], ([5, 6, 1], [7, 8]))
    assert (paired.chosen, paired.rejected, paired.comparators) == (0, 1, (1,))
    assert (paired.reference_logps, paired.origins) == ((-4.0, -5.0), ("policy", "reference"))
    assert (paired.label, paired.weight, paired.wins) == (1.0, 1.0, (0.75, 0.25))
    assert tied.group == PromptGroup([3], ([10, 11, 12, 1],))
    assert (tied.chosen, tied.rejected, tied.comparators, tied.weight) == (None, None, (0,), 0.0)


def test_a_row_of_which_nothing_is_trained_on_is_no_example() -> None:
    assert example(rows()[2]) is None
    assert example(rows()[1] | {"preference": tables.tie(0, 1)}) is None


def test_pairs_and_comparators_are_picked_out_of_the_flat_log_probs() -> None:
    pairs, comparators = pairs_of(examples(), torch.tensor([-3.0, -6.0, -8.0]), torch.tensor([3, 2, 4]))
    assert (pairs.logp_chosen_B.tolist(), pairs.logp_rejected_B.tolist()) == ([-3.0], [-6.0])
    assert (pairs.reference_chosen_B.tolist(), pairs.reference_rejected_B.tolist()) == ([-4.0], [-5.0])
    assert (pairs.tokens_chosen_B.tolist(), pairs.tokens_rejected_B.tolist()) == ([3.0], [2.0])
    assert comparators.tolist() == [-6.0, -8.0]


def test_an_example_holds_its_responses_in_candidate_order_whoever_won() -> None:
    row = rows()[0] | {"preference": tables.pair(1, 0, 0, 1)}
    made = example(row)
    assert made is not None
    assert made.group.responses == ([5, 6, 1], [7, 8])
    assert (made.chosen, made.rejected, made.comparators) == (1, 0, (0, 1))


def test_a_pair_without_win_probabilities_has_nans() -> None:
    made = example(rows()[0] | {"preference": tables.pair(0, 1, wins_chosen=None, wins_rejected=None)})
    assert made is not None
    assert all(math.isnan(w) for w in made.wins)


def test_the_gradient_flows_to_pairs_and_comparators_but_not_to_the_reference() -> None:
    logps = torch.tensor([-3.0, -6.0, -8.0], requires_grad=True)
    pairs, comparators = pairs_of(examples(), logps, torch.tensor([3, 2, 4]))
    torch.autograd.backward(pairs.z_B.sum() + 10 * comparators.sum())
    assert logps.grad is not None
    assert logps.grad.tolist() == [1.0, 9.0, 10.0]
    assert not pairs.reference_chosen_B.requires_grad


def test_ties_alone_give_no_pairs() -> None:
    pairs, comparators = pairs_of(examples()[1:], torch.tensor([-8.0]), torch.tensor([4]))
    assert pairs.weight_B.shape == (0,)
    assert comparators.tolist() == [-8.0]
