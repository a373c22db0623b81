import math
from itertools import permutations

import pytest

from tests.xpo_ray.judges.pairrm.slow import rank_by_blender
from xpo_ray.judges.pairrm.ranking import max_logits, ranks, win_probabilities

LOGITS = [[0.0, 1.0, -0.5], [0.25, 0.0, 2.0], [-1.0, 0.5, 0.0]]


def test_scores_are_mean_differences_over_all_n_by_hand() -> None:
    assert max_logits(LOGITS) == pytest.approx(
        ((1 - 0.25 - 0.5 + 1) / 3, (0.25 - 1 + 2 - 0.5) / 3, (-1 + 0.5 + 0.5 - 2) / 3)
    )
    assert max_logits([[0.0, 0.7], [-0.1, 0.0]]) == pytest.approx((0.4, -0.4)), "their difference is C01 - C10"
    assert math.fsum(max_logits(LOGITS)) == pytest.approx(0.0, abs=1e-12)


def test_scores_and_ranks_are_those_of_the_loop_over_all_ordered_pairs() -> None:
    scores, places = rank_by_blender(LOGITS)
    assert max_logits(LOGITS) == pytest.approx(scores)
    assert list(ranks(max_logits(LOGITS))) == places == [1, 2, 3]


def test_ranks_follow_the_responses_in_every_order() -> None:
    expected = ranks(max_logits(LOGITS))
    for order in permutations(range(3)):
        shuffled = [[LOGITS[i][j] for j in order] for i in order]
        assert ranks(max_logits(shuffled)) == tuple(expected[i] for i in order)


def test_equal_scores_share_a_rank_and_the_next_one_counts_them() -> None:
    assert ranks((0.5, 2.0, 0.5, -1.0)) == (2, 1, 2, 4)
    assert ranks(()) == ()


def test_equal_responses_tie_exactly_though_their_sums_are_taken_in_another_order() -> None:
    awkward = [0.1, 0.7, 1e9, -1e9]
    n = 6
    logits = [[0.0] * n for _ in range(n)]
    for k, value in enumerate(awkward, start=2):
        for same in (0, 1):
            logits[same][k], logits[k][same] = value, -value / 3
    scores = max_logits(logits)
    assert scores[0] == scores[1]
    assert ranks(scores)[0] == ranks(scores)[1]


def test_a_liking_for_one_side_cancels() -> None:
    biased = [[c + (5.0 if i != j else 0.0) for j, c in enumerate(row)] for i, row in enumerate(LOGITS)]
    assert max_logits(biased) == pytest.approx(max_logits(LOGITS))
    assert win_probabilities(biased)[0] == pytest.approx(win_probabilities(LOGITS)[0])


def test_win_probabilities_average_both_orders_and_sum_to_one() -> None:
    wins = win_probabilities(LOGITS)
    assert wins[0][1] == pytest.approx(1 / (1 + math.exp(-(1.0 - 0.25) / 2)))
    for i in range(3):
        assert wins[i][i] == 0.5
        for j in range(3):
            assert wins[i][j] + wins[j][i] == pytest.approx(1.0)


def test_of_two_responses_sigma_of_the_scores_is_the_probability_by_the_sum_of_both_orders() -> None:
    scores = max_logits([[0.0, 0.9], [-0.3, 0.0]])
    assert scores[0] - scores[1] == pytest.approx(0.9 + 0.3)
