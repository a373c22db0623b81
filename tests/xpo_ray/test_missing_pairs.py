"""Causes of missing pairs, told from rows alone."""

from typing import Any

import pytest

from tests import tables
from xpo_ray.missing_pairs import likely_causes, missing_pairs
from xpo_ray.preferences import IDENTICAL


def row(texts: list[str], preference: dict[str, Any], **judgement: Any) -> dict[str, Any]:
    candidates = [tables.candidate("policy", [5, 1]) | {"text": text} for text in texts]
    said = {"status": "judged", "scores": None, "wins": None, "judge": "by hand", "reason": None, "tries": 1}
    return {"candidates": candidates, "preference": preference, "judgement": said | judgement}


TIE, DROPPED = tables.tie(0, 1), tables.dropped()
CASES = {
    "judge_failed": row(["a", "b"], DROPPED, status="failed"),
    "empty": row(["", " \n"], TIE, scores=[1.0, 1.0]),
    "same_text": row(["a", "a"], TIE, status="given"),
    "equal_scores": row(["a", "b"], TIE, scores=[1.0, 1.0]),
    "within_margin": row(["a", "b"], TIE, scores=[1.0, 1.5]),
    "one_judged": row(["a", "b"], DROPPED, scores=[1.0, None]),
}


@pytest.mark.parametrize("cause", CASES)
def test_each_cause_is_told_from_the_row(cause: str) -> None:
    assert missing_pairs([CASES[cause]]) == {f"no_pair/{cause}": 1.0}


def test_counts_add_up_to_the_prompts_without_a_pair() -> None:
    pair = row(["a", "b"], tables.pair(0, 1), scores=[2.0, 1.0])
    assert sum(missing_pairs([*CASES.values(), pair]).values()) == len(CASES)
    assert missing_pairs([pair]) == {}


def test_a_judge_with_one_score_for_everything_is_told_from_one_that_cannot_tell_two_responses_apart() -> None:
    constant = [row(["a", "b"], TIE, scores=[0.0, 0.0])] * 2
    by_prompt = [row(["a", "b"], TIE, scores=[float(i), float(i)]) for i in range(2)]
    assert missing_pairs(constant) == {"no_pair/one_score": 2.0}
    assert missing_pairs(by_prompt) == {"no_pair/equal_scores": 2.0}


def test_the_same_chosen_and_rejected_are_seen_among_other_candidates_and_where_ties_are_dropped() -> None:
    assert missing_pairs([row(["a", "a", "b"], DROPPED | {"reason": IDENTICAL}, scores=[1.0, 1.0, 2.0])]) == {
        "no_pair/same_text": 1.0
    }


def test_win_probabilities_are_looked_at_as_scores_are() -> None:
    even = row(["a", "b"], TIE, wins=[[0.5, 0.5], [0.5, 0.5]])
    close = row(["a", "b"], TIE, wins=[[0.5, 0.51], [0.49, 0.5]])
    assert missing_pairs([even]) == {"no_pair/equal_scores": 1.0}
    assert missing_pairs([close]) == {"no_pair/within_margin": 1.0}


def test_the_most_frequent_cause_comes_first_in_words() -> None:
    said = likely_causes({"no_pair/one_judged": 1.0, "no_pair/one_score": 7.0, "loss": 1.0})
    first, second = said.split("; ")
    assert (
        first == "the judge gave one and the same score to every response of every prompt: it is constant (7 prompts)"
    )
    assert second.endswith("(1 prompt)")
