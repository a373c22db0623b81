"""One judgement from several: every figure worked out by hand."""

import math

import pytest

from xpo_ray.judges.combination import Vote, combined, disagreement, margin, ranked, standardised
from xpo_ray.judges.judgement import Judgement

LOG_3 = math.log(3)
ROOT = math.sqrt(1.5)
"""(2 − 1) / std of 0, 1, 2, whose variance is 2/3."""


def scoring(*scores: float | None, name: str = "s", tries: int = 1) -> Judgement:
    return Judgement(name, scores=scores, tries=tries)


def ranking(*wins: tuple[float | None, ...], name: str = "w") -> Judgement:
    return Judgement(name, wins=wins)


def test_standardised_scores_have_mean_0_and_deviation_1_whatever_their_scale() -> None:
    for scale, shift in ((1.0, 0.0), (1e-6, 5e-6), (1e300, 0.0), (-1.0, 3.0)):
        got = standardised({i: shift + scale * i for i in range(3)})
        assert list(got.values()) == pytest.approx([-math.copysign(ROOT, scale), 0.0, math.copysign(ROOT, scale)])


def test_equal_scores_standardise_to_0_even_where_the_last_bit_differs() -> None:
    assert standardised({0: 0.1 + 0.2, 1: 0.3}) == {0: 0.0, 1: 0.0}
    assert standardised({0: 7.0, 2: 7.0}) == {0: 0.0, 2: 0.0}
    assert standardised({0: 0.0, 1: 0.0}) == {0: 0.0, 1: 0.0}


def test_ranks_are_the_share_of_the_others_that_is_beaten_and_ties_are_half() -> None:
    assert ranked({0: 5.0, 1: -1.0, 2: 3.0}) == {0: 1.0, 1: 0.0, 2: 0.5}
    assert ranked({0: 2.0, 2: 2.0, 3: 1.0}) == {0: 0.75, 2: 0.75, 3: 0.0}


def test_one_candidate_alone_has_no_place_among_others() -> None:
    assert standardised({1: 4.0}) == ranked({1: 4.0}) == {}


def test_a_weighted_mean_of_standardised_scores() -> None:
    votes = [Vote(scoring(0.0, 10.0, 20.0), 3.0), Vote(scoring(2.0, 1.0, 0.0), 1.0)]
    got = combined(votes, 3, "standardise")
    assert got.scores == pytest.approx([-ROOT / 2, 0.0, ROOT / 2])
    assert (got.judge, got.wins, got.reason) == ("ensemble(s + s)", None, None)


def test_a_weighted_mean_of_ranks_does_not_see_how_far_apart_scores_are() -> None:
    votes = [Vote(scoring(0.0, 1.0, 1000.0), 1.0), Vote(scoring(0.3, 0.2, 0.1), 3.0)]
    assert combined(votes, 3, "rank").scores == (0.75, 0.5, 0.25)


def test_scores_as_they_are_keep_their_unit_and_weights_are_relative() -> None:
    votes = [Vote(scoring(1.0, 4.0), 2.0), Vote(scoring(4.0, -2.0), 1.0)]
    assert combined(votes, 2, "none").scores == pytest.approx((2.0, 2.0))
    tenfold = [Vote(v.judgement, 10 * v.weight) for v in votes]
    assert combined(tenfold, 2, "none").scores == pytest.approx((2.0, 2.0))


def test_opposite_members_of_equal_weight_are_an_exact_tie() -> None:
    scores = (0.1, 0.7, 0.35)
    votes = [Vote(scoring(*scores)), Vote(scoring(*(-s for s in scores)))]
    for normalise in ("none", "standardise"):
        assert combined(votes, 3, normalise).scores == (0.0, 0.0, 0.0)
    assert combined(votes, 3, "rank").scores == (0.5, 0.5, 0.5)


def test_win_probabilities_count_by_their_mean_over_the_others() -> None:
    wins = ((None, 0.9, 0.7), (0.1, None, 0.3), (0.3, 0.7, None))  # means 0.8, 0.2, 0.5
    assert combined([Vote(ranking(*wins))], 3, "rank").scores == (1.0, 0.0, 0.5)
    got = combined([Vote(ranking(*wins)), Vote(scoring(0.0, 1.0, 2.0))], 3, "standardise").scores
    assert got == pytest.approx(((ROOT - ROOT) / 2, -ROOT / 2, ROOT / 2))


def test_without_normalising_scores_meet_win_probabilities_by_bradley_and_terry() -> None:
    votes = [Vote(ranking((0.5, 0.25), (0.75, 0.5)), 1.0), Vote(scoring(LOG_3, 0.0), 3.0)]  # σ(log 3) = 3/4
    got = combined(votes, 2, "none")
    assert got.scores is None
    assert got.wins is not None
    assert [list(row) for row in got.wins] == [pytest.approx([0.5, 0.625]), pytest.approx([0.375, 0.5])]


def test_a_candidate_that_one_member_did_not_judge_has_no_score() -> None:
    votes = [Vote(scoring(1.0, 2.0, 3.0)), Vote(scoring(None, 5.0, 4.0))]
    assert combined(votes, 3, "none").scores == (None, 3.5, 3.5)
    assert combined(votes, 3, "rank").scores == (None, 0.75, 0.5)
    wins = combined([*votes, Vote(ranking((0.5, 1.0, 1.0), (0.0, 0.5, 1.0), (0.0, 0.0, 0.5)))], 3, "none").wins
    assert wins is not None
    assert wins[0] == (0.5, None, None)
    assert wins[1][2] == pytest.approx((1 / (1 + math.e) + 1 / (1 + math.exp(-1)) + 1.0) / 3)


def test_where_no_candidate_was_judged_by_all_there_is_a_reason_and_no_score() -> None:
    votes = [Vote(scoring(1.0, None, name="a", tries=2)), Vote(scoring(None, 1.0, name="b"))]
    got = combined(votes, 2, "none")
    assert (got.failed, got.judge, got.tries) == (True, "ensemble(a + b)", 2)
    assert got.reason == "none of the 2 candidates has a score that every member gave"
    alone = combined([Vote(scoring(1.0))], 1, "standardise")
    assert (
        alone.reason == "none of the 1 candidates has a normalised score, for which every member must have scored two"
    )


def test_disagreement_is_the_share_of_weight_that_does_not_put_the_best_above_the_worst() -> None:
    votes = [
        Vote(scoring(3.0, 2.0, 1.0), 3.0),
        Vote(scoring(1.0, 5.0, 2.0), 1.0),
        Vote(scoring(1.0, 9.0, 1.0), 2.0),
    ]
    verdict = scoring(1.0, 0.5, 0.0)
    assert disagreement(verdict, votes[:1] * 2) == 0.0
    assert disagreement(verdict, votes[:2]) == pytest.approx(1 / 4)
    assert disagreement(verdict, votes) == pytest.approx((1.0 + 2.0 / 2) / 6)


def test_disagreement_takes_two_candidates_and_two_voices_that_know_them() -> None:
    one = Vote(scoring(1.0, 0.0))
    assert disagreement(scoring(1.0, None), [one, one]) is None
    assert disagreement(scoring(1.0, 0.0), [one]) is None
    assert disagreement(scoring(1.0, 0.0), [one, Vote(scoring(None, 0.0))]) is None
    assert disagreement(Judgement("x", reason="failed"), [one, one]) is None


def test_a_margin_is_between_best_and_worst_in_the_judges_own_unit() -> None:
    assert margin(scoring(1.0, 4.5, None, 2.0)) == 3.5
    assert margin(ranking((None, 0.9), (0.1, None))) == pytest.approx(0.8)
    assert margin(scoring(1.0, None)) is None
    assert margin(Judgement("x", reason="failed")) is None


def rounded(*scores: float) -> Judgement:
    """Of a judge that computes, whose scores are sure up to a thousandth."""
    return Judgement("rm", scores=scores, rounding=1e-3)


def test_scores_within_a_members_own_rounding_are_equal_before_they_are_standardised_or_ranked() -> None:
    for normalise, equal in (("standardise", (0.0, 0.0)), ("rank", (0.5, 0.5))):
        assert combined([Vote(rounded(1.0, 1.0005))], 2, normalise).scores == equal  # type: ignore[arg-type]
        given = combined([Vote(scoring(1.0, 1.0005))], 2, normalise)  # type: ignore[arg-type]
        assert given.scores is not None
        assert given.scores[0] != given.scores[1]


def test_the_verdict_states_the_rounding_of_its_members_in_its_own_scale() -> None:
    votes = [Vote(rounded(0.0, 2.0), 1.0), Vote(scoring(1.0, 0.0), 3.0)]
    assert combined(votes, 2, "none").rounding == pytest.approx(2e-3 / 4)
    assert combined(votes, 2, "standardise").rounding == pytest.approx(2e-3 / 4)  # the deviation of 0 and 2 is 1
    assert combined(votes, 2, "rank").rounding == 0.0


def test_members_that_differ_within_their_rounding_do_not_disagree() -> None:
    verdict = scoring(1.0, 0.0)
    assert disagreement(verdict, [Vote(verdict), Vote(rounded(1.0, 1.0005))]) == 0.25
