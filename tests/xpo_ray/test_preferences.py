"""From judgements to preferences, on prompts and tables made by hand."""

import math
from collections import Counter
from dataclasses import fields, replace
from typing import Any

import pyarrow as pa
import pytest

from xpo_ray.algorithms import Comparator, Pairing, Row
from xpo_ray.errors import JudgeError
from xpo_ray.judges.judgement import Judgement
from xpo_ray.preferences import (
    IDENTICAL,
    TIED,
    Counts,
    Preference,
    comparisons,
    given,
    mean_win,
    pair,
    prefer,
    shard_counts,
    strengths_of,
)
from xpo_ray.seeds import seed_of
from xpo_ray.shards import CANDIDATES, PREFERENCE, PREFERENCES
from xpo_ray.spec.algorithm import DpoObjective

SELM = Row(
    draws=(),
    dataset_candidates=True,
    pairing="best_worst",
    ties="mask",
    reference="previous",
    data="fresh",
    beta=0.1,
    objective=DpoObjective(),
    comparator="reference_draw",
    kappa=1e-4,
    optimizer="reset",
    schedule_span="iteration",
)
TRIPLE = ("reference", "chosen", "rejected")
CYCLE = ((0.5, 0.9, 0.2), (0.1, 0.5, 0.8), (0.8, 0.2, 0.5))
"""0 beats 1, 1 beats 2, 2 beats 0; means over others 0.55, 0.45, 0.5."""


def judged(
    judgement: Judgement,
    row: Row = SELM,
    origins: tuple[str, ...] = TRIPLE,
    texts: tuple[str, ...] | None = None,
    tie_margin: float = 0.0,
    seed: int = 0,
) -> Preference:
    texts = texts or tuple(f"text {i}" for i in range(len(origins)))
    return pair(row, judgement, origins, texts, tie_margin=tie_margin, seed=seed)


def by_scores(*scores: float | None) -> Judgement:
    return Judgement("rm", scores=scores)


def by_wins(*wins: tuple[float | None, ...]) -> Judgement:
    return Judgement("pairrm", wins=wins)


def draws(count: int) -> tuple[str, ...]:
    return ("policy",) * count


def indices(preference: Preference) -> tuple[int | None, int | None]:
    return preference.chosen, preference.rejected


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def candidate(origin: str, text: str, ended: bool = True) -> dict[str, Any]:
    return {"origin": origin, "sample": 0, "version": 0, "text": text, "ids": [1, 2], "ended": ended}


def table(*prompts: list[dict[str, Any]], first_row: int = 0) -> pa.Table:
    rows = [
        {
            "row": first_row + i,
            "prompt_id": f"p{i}",
            "prompt": [{"role": "user", "content": f"question {i}"}],
            "prompt_ids": [i],
            "candidates": candidates,
        }
        for i, candidates in enumerate(prompts)
    ]
    return pa.Table.from_pylist(rows, schema=CANDIDATES)


def triple(*texts: str) -> list[dict[str, Any]]:
    return [candidate(origin, text) for origin, text in zip(TRIPLE, texts, strict=True)]


def test_best_is_chosen_and_worst_is_rejected_by_score() -> None:
    preference = judged(by_scores(0.1, -2.0, 3.0))
    assert indices(preference) == (2, 1)
    assert (preference.outcome, preference.label, preference.weight, preference.reason) == ("pair", 1.0, 1.0, None)


def test_a_score_of_zero_is_a_score() -> None:
    assert indices(judged(by_scores(0.0, -1.0, -2.0))) == (0, 2)


def test_the_first_of_equal_best_and_the_last_of_equal_worst_are_taken() -> None:
    assert indices(judged(by_scores(1.0, 2.0, 1.0, 2.0), origins=draws(4))) == (1, 2)


def test_best_and_worst_are_two_candidates_even_where_all_are_equal() -> None:
    preference = judged(by_scores(1.0, 1.0, 1.0), replace(SELM, ties="first"))
    assert indices(preference) == (0, 2)
    assert preference.outcome == "pair"


def test_best_and_worst_by_wins_have_the_greatest_and_least_mean_over_others() -> None:
    assert strengths_of(by_wins(*CYCLE)) == {0: 0.55, 1: 0.45, 2: 0.5}
    assert indices(judged(by_wins(*CYCLE))) == (0, 1)


def test_scores_decide_the_strength_where_a_judge_gives_scores_and_wins() -> None:
    both = Judgement("both", scores=(1.0, 2.0), wins=((0.5, 0.9), (0.1, 0.5)))
    preference = judged(both, origins=draws(2))
    assert indices(preference) == (1, 0)
    assert preference.wins_chosen == pytest.approx((0.1 + 0.5) / 2)


def test_a_candidate_without_a_score_takes_no_part() -> None:
    assert indices(judged(by_scores(None, 1.0, 2.0))) == (2, 1)
    assert indices(judged(by_scores(5.0, None, 2.0))) == (0, 2)


def test_fewer_than_two_judged_candidates_drop_the_prompt() -> None:
    preference = judged(by_scores(None, 1.0, None))
    assert preference == Preference("dropped", reason="1 of 3 candidates were judged, a pair needs 2")


def test_wins_with_missing_entries_average_over_those_that_are_known() -> None:
    wins = by_wins((None, 0.9, None), (None, None, None), (0.4, 0.8, None))
    assert strengths_of(wins) == pytest.approx({0: (0.9 + 0.6) / 2, 1: (0.1 + 0.2) / 2, 2: (0.4 + 0.8) / 2})


def test_a_comparison_that_a_person_answered_in_one_direction_is_enough() -> None:
    preference = judged(by_wins((None, None, None), (None, None, None), (None, 1.0, None)))
    assert indices(preference) == (2, 1)
    assert (preference.wins_chosen, preference.wins_rejected) == (0.75, 0.25)


def test_wins_without_any_entry_drop_the_prompt() -> None:
    assert judged(by_wins(*[(None, None, None)] * 3)).outcome == "dropped"


def test_a_failed_judgement_drops_the_prompt_with_its_reason() -> None:
    preference = judged(Judgement("rm", reason="timeout after 60 s", tries=3))
    assert preference == Preference("dropped", reason="timeout after 60 s")
    assert (preference.chosen, preference.comparators, preference.weight) == (None, (), 0.0)


def test_equal_scores_are_a_tie_that_masks_the_pair_but_keeps_comparators() -> None:
    preference = judged(by_scores(1.0, 1.0, 1.0))
    assert (preference.outcome, preference.weight, preference.label) == ("tie", 0.0, 0.5)
    assert (preference.comparators, preference.reason) == ((0,), TIED)


@pytest.mark.parametrize(("margin", "outcome"), [(0.4, "pair"), (0.5, "tie"), (0.6, "tie")])
def test_a_difference_up_to_the_tie_margin_is_a_tie(margin: float, outcome: str) -> None:
    assert judged(by_scores(1.0, 1.25, 1.5), tie_margin=margin).outcome == outcome


def test_ties_drop_leaves_neither_pair_nor_comparators() -> None:
    preference = judged(by_scores(1.0, 1.0, 1.0), replace(SELM, ties="drop"))
    assert preference == Preference("dropped", reason=TIED)


def test_ties_first_lets_the_earlier_candidate_win() -> None:
    preference = judged(by_scores(1.0, 1.25), replace(SELM, ties="first"), draws(2), tie_margin=0.5)
    assert indices(preference) == (0, 1)
    assert (preference.outcome, preference.label, preference.weight, preference.reason) == ("pair", 1.0, 1.0, None)
    assert preference.wins_chosen == pytest.approx((0.5 + sigmoid(-0.25)) / 2)


@pytest.mark.parametrize("ties", ["mask", "first"])
def test_equal_texts_are_masked_whatever_their_scores(ties: Any) -> None:
    preference = judged(by_scores(3.0, 2.0, 1.0), replace(SELM, ties=ties), texts=("same", "other", "same"))
    assert (preference.outcome, preference.reason, preference.weight) == ("tie", IDENTICAL, 0.0)
    assert (indices(preference), preference.comparators) == ((0, 2), (0,))


def test_equal_texts_are_dropped_where_ties_are() -> None:
    preference = judged(by_scores(3.0, 2.0, 1.0), replace(SELM, ties="drop"), texts=("same", "other", "same"))
    assert preference == Preference("dropped", reason=IDENTICAL)


def test_duplicates_that_are_not_both_chosen_and_rejected_do_not_matter() -> None:
    assert judged(by_scores(3.0, 2.0, 3.0), texts=("same", "other", "same")).outcome == "pair"


def test_rounding_in_a_mean_of_wins_does_not_break_a_tie() -> None:
    thirds = by_wins((None, 0.1, 0.2, 0.3), (0.9, None, 0.3, 0.2), (0.8, 0.7, None, 0.1), (0.3, 0.2, 0.1, None))
    assert strengths_of(thirds)[0] == strengths_of(thirds)[3] == 0.2


def test_best_random_draws_the_rejected_evenly_among_the_others() -> None:
    row = replace(SELM, pairing="best_random")
    judgement = by_scores(0.0, None, 3.0, 1.0, 2.0)
    drawn = [judged(judgement, row, draws(5), seed=seed_of(7, "pairing", 1, i)) for i in range(3000)]
    assert {preference.chosen for preference in drawn} == {2}
    counts = Counter(preference.rejected for preference in drawn)
    assert set(counts) == {0, 3, 4}
    assert all(abs(count - 1000) < 4 * math.sqrt(3000 * 1 / 3 * 2 / 3) for count in counts.values())


def test_best_second_takes_the_strongest_of_the_others_and_the_earlier_of_equals() -> None:
    row = replace(SELM, pairing="best_second")
    assert indices(judged(by_scores(0.0, None, 3.0, 1.0, 2.0), row, draws(5))) == (2, 4)
    assert indices(judged(by_scores(2.0, 3.0, 2.0), row)) == (1, 0)
    assert judged(by_scores(3.0, 3.0, 1.0), row).outcome == "tie"
    assert indices(judged(by_wins((0.5, 0.9, 0.4), (0.1, 0.5, 0.2), (0.6, 0.8, 0.5)), row)) == (2, 0)  # means 0.7, 0.65


def test_best_random_depends_on_the_seed_alone() -> None:
    row = replace(SELM, pairing="best_random")
    first, second = (judged(by_scores(0.0, 1.0, 2.0), row, seed=seed_of(1, "pairing", 1, 5)) for _ in range(2))
    assert first == second


def test_max_margin_takes_the_pair_with_the_surest_win() -> None:
    wins = by_wins((0.5, 0.7, 0.7), (0.3, 0.5, 0.95), (0.3, 0.05, 0.5))
    assert indices(judged(wins, replace(SELM, pairing="max_margin"))) == (1, 2)
    assert indices(judged(wins)) == (0, 2)


def test_max_margin_finds_a_winner_in_a_cycle_where_all_means_are_equal() -> None:
    cycle = by_wins((None, 0.8, 0.2), (0.2, None, 0.8), (0.8, 0.2, None))
    assert judged(cycle).outcome == "tie"
    surest = judged(cycle, replace(SELM, pairing="max_margin"))
    assert (surest.outcome, indices(surest)) == ("pair", (0, 1))


def test_max_margin_ties_where_the_surest_win_is_a_toss_up() -> None:
    even = by_wins((0.5, 0.5), (0.5, 0.5))
    assert judged(even, replace(SELM, pairing="max_margin"), draws(2)).outcome == "tie"
    nearly = by_wins((0.5, 0.55), (0.45, 0.5))
    row = replace(SELM, pairing="max_margin")
    assert judged(nearly, row, draws(2), tie_margin=0.09).outcome == "pair"
    assert judged(nearly, row, draws(2), tie_margin=0.1).outcome == "tie"


def test_max_margin_by_scores_is_best_against_worst() -> None:
    scores = by_scores(0.5, 2.0, -1.0)
    assert judged(scores, replace(SELM, pairing="max_margin")) == judged(scores)


def test_given_takes_the_datasets_pair_unjudged() -> None:
    row = replace(SELM, pairing="given", comparator="none")
    preference = judged(given(table(triple("a", "b", "c")))[0], row)
    assert preference == Preference("pair", chosen=1, rejected=2, label=1.0, weight=1.0)


def test_given_pairs_of_equal_texts_are_masked() -> None:
    row = replace(SELM, pairing="given")
    preference = judged(Judgement("dataset"), row, texts=("draw", "same", "same"))
    assert (preference.outcome, preference.reason, preference.comparators) == ("tie", IDENTICAL, (0,))


@pytest.mark.parametrize(
    ("comparator", "expected"),
    [("none", ()), ("reference_draw", (1,)), ("policy_draw", (0, 2)), ("both", (0, 1, 2))],
)
def test_comparators_are_the_draws_that_the_row_names_whatever_their_rank(
    comparator: Comparator, expected: tuple[int, ...]
) -> None:
    row = replace(SELM, comparator=comparator)
    origins = ("policy", "reference", "policy", "chosen")
    assert judged(by_scores(4.0, 3.0, 2.0, 1.0), row, origins).comparators == expected
    assert judged(by_scores(1.0, 2.0, 3.0, None), row, origins).comparators == expected


def test_mean_wins_from_scores_are_bradley_terry_with_itself_at_one_half() -> None:
    preference = judged(by_scores(1.0, 3.0, 0.0))
    assert preference.wins_chosen == pytest.approx((0.5 + sigmoid(2.0) + sigmoid(3.0)) / 3)
    assert preference.wins_rejected == pytest.approx((0.5 + sigmoid(-1.0) + sigmoid(-3.0)) / 3)


def test_mean_wins_from_a_matrix_count_itself_at_one_half() -> None:
    preference = judged(by_wins(*CYCLE))
    assert preference.wins_chosen == pytest.approx((0.5 + 0.9 + 0.2) / 3)
    assert preference.wins_rejected == pytest.approx((0.1 + 0.5 + 0.8) / 3)


def test_mean_wins_leave_out_candidates_without_a_score() -> None:
    assert mean_win(by_scores(1.0, None, 0.0), 0) == pytest.approx((0.5 + sigmoid(1.0)) / 2)


def test_mean_wins_of_far_apart_scores_do_not_overflow() -> None:
    preference = judged(by_scores(1e6, -1e6), origins=draws(2))
    assert (preference.wins_chosen, preference.wins_rejected) == (0.75, 0.25)


@pytest.mark.parametrize(
    "judgement",
    [
        by_scores(1.0, 2.0),
        by_wins((0.5, 0.5), (0.5, 0.5)),
        by_wins((0.5, 0.5), (0.5, 0.5), (0.5, 0.5)),
        by_scores(1.0, 2.0, math.nan),
        by_scores(1.0, 2.0, math.inf),
        by_wins((0.5, 1.2, 0.5), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ],
)
def test_a_judgement_that_does_not_fit_the_candidates_is_refused(judgement: Judgement) -> None:
    with pytest.raises(JudgeError, match=f"judge {judgement.judge} "):
        judged(judgement)


def test_prefer_adds_judgements_and_preferences_in_the_declared_schema() -> None:
    shard = table(triple("a", "b", "c"), triple("a", "b", "c"), triple("a", "b", "c"))
    judgements = [by_scores(3.0, 2.0, 1.0), Judgement("rm", reason="hung", tries=3), by_scores(1.0, None, 1.0)]
    out = prefer(shard, judgements, SELM, tie_margin=0.0, seed=0, iteration=1)
    assert out.schema.equals(PREFERENCES)
    assert out.select(CANDIDATES.names).equals(shard)
    stored = out["judgement"].to_pylist()
    assert [judgement["status"] for judgement in stored] == ["judged", "failed", "judged"]
    assert (stored[1]["reason"], stored[1]["tries"], stored[2]["scores"]) == ("hung", 3, [1.0, None, 1.0])
    preferences = out["preference"].to_pylist()
    assert [preference["outcome"] for preference in preferences] == ["pair", "dropped", "tie"]
    assert [preference["comparators"] for preference in preferences] == [[0], [], [0]]
    assert [preference["chosen"] for preference in preferences] == [0, None, 0]


def test_preferences_have_the_fields_of_the_schema() -> None:
    assert [field.name for field in fields(Preference)] == [field.name for field in PREFERENCE]


def test_prefer_keeps_win_matrices_with_their_gaps() -> None:
    wins = ((None, 0.75), (0.25, None))
    shard = table([candidate("policy", "a"), candidate("reference", "b")])
    out = prefer(shard, [by_wins(*wins)], SELM, tie_margin=0.0, seed=0, iteration=1)
    assert out["judgement"][0].as_py()["wins"] == [[None, 0.75], [0.25, None]]


def test_prefer_marks_given_pairs_and_counts_their_judge_as_the_dataset() -> None:
    shard = table(triple("a", "b", "c"))
    row = replace(SELM, pairing="given", comparator="none")
    out = prefer(shard, given(shard), row, tie_margin=0.0, seed=0, iteration=1)
    judgement = out["judgement"][0].as_py()
    assert (judgement["status"], judgement["judge"], judgement["tries"]) == ("given", "dataset", 0)
    assert shard_counts(out) == Counts(prompts=1, pairs=1, ties=0, dropped=0, identical=0)


def test_the_seed_of_a_prompt_depends_on_its_row_and_not_on_its_shard() -> None:
    row = replace(SELM, pairing="best_random")
    prompts = [[candidate("policy", f"text {i}") for i in range(8)] for _ in range(40)]
    judgements = [by_scores(*map(float, range(8)))] * 40
    shard = table(*prompts)
    together = prefer(shard, judgements, row, tie_margin=0.0, seed=5, iteration=2)
    halves = [
        prefer(part, judgements[:20], row, tie_margin=0.0, seed=5, iteration=2) for part in (shard[:20], shard[20:])
    ]
    assert pa.concat_tables(halves).equals(together)
    later = prefer(shard, judgements, row, tie_margin=0.0, seed=5, iteration=3)
    assert not later.equals(together)
    expected = [seed_of(5, "pairing", 2, i) % 7 for i in range(40)]
    assert [preference["rejected"] for preference in together["preference"].to_pylist()] == expected


def test_another_number_of_judgements_than_prompts_is_refused() -> None:
    with pytest.raises(AssertionError, match="1 judgements, 2 prompts"):
        prefer(table(triple(*"abc"), triple(*"abc")), [by_scores(1, 2, 3)], SELM, tie_margin=0, seed=0, iteration=1)


def test_comparisons_hold_messages_and_texts_in_the_order_of_candidates() -> None:
    prompts = [[candidate("policy", "a"), candidate("policy", "b", ended=False)], [], triple("c", "d", "e")]
    shard = pa.concat_tables([table(prompts[0]), table(*prompts, first_row=1)])
    found = comparisons(shard)
    assert [[response.text for response in comparison.responses] for comparison in found] == [
        ["a", "b"],
        ["a", "b"],
        [],
        ["c", "d", "e"],
    ]
    assert [response.ended for response in found[0].responses] == [True, False]
    assert found[3].prompt == ({"role": "user", "content": "question 2"},)
    assert comparisons(shard[2:]) == found[2:]


def test_comparisons_of_an_empty_shard_are_none() -> None:
    assert comparisons(CANDIDATES.empty_table()) == []
    assert given(CANDIDATES.empty_table()) == []


def test_counts_tell_pairs_ties_drops_and_identical_texts_apart() -> None:
    shard = table(triple(*"abc"), triple(*"abc"), triple("a", "b", "a"), triple(*"abc"))
    judgements = [by_scores(3.0, 2.0, 1.0), by_scores(1.0, 1.0, 1.0), by_scores(3.0, 2.0, 1.0), Judgement("rm")]
    masked = prefer(shard, judgements, SELM, tie_margin=0.0, seed=0, iteration=1)
    assert shard_counts(masked) == Counts(prompts=4, pairs=1, ties=2, dropped=1, identical=1)
    dropped = prefer(shard, judgements, replace(SELM, ties="drop"), tie_margin=0.0, seed=0, iteration=1)
    assert shard_counts(dropped) == Counts(prompts=4, pairs=1, ties=0, dropped=3, identical=1)


@pytest.mark.parametrize("pairing", ["best_worst", "best_second", "best_random", "max_margin", "given"])
@pytest.mark.parametrize("ties", ["mask", "drop", "first"])
def test_an_empty_shard_stays_empty(pairing: Pairing, ties: Any) -> None:
    row = replace(SELM, pairing=pairing, ties=ties)
    out = prefer(CANDIDATES.empty_table(), [], row, tie_margin=0.0, seed=0, iteration=1)
    assert out.schema.equals(PREFERENCES)
    assert shard_counts(out) == Counts(0, 0, 0, 0, 0)


def computed(*scores: float | None) -> Judgement:
    """By a judge whose scores are sure up to a thousandth of their size."""
    return Judgement("rm", scores=scores, rounding=1e-3)


def test_a_difference_within_the_judges_own_rounding_is_a_tie_and_one_beyond_is_none() -> None:
    assert judged(computed(1.0, 1.0009), origins=draws(2)).outcome == "tie"
    assert judged(computed(1.0, 1.01), origins=draws(2)).outcome == "pair"
    assert judged(computed(100.0, 100.09), origins=draws(2)).outcome == "tie"
    assert judged(by_scores(1.0, 1.0009), origins=draws(2)).outcome == "pair"


def test_best_and_worst_up_to_rounding_follow_the_order_of_candidates() -> None:
    assert indices(judged(computed(1.0, 1.0005, 0.0, 0.0005), origins=draws(4))) == (0, 3)
    assert indices(judged(computed(0.0, 0.0006, 0.0012), origins=draws(3))) == (
        1,
        0,
    )  # each is equal to its neighbour alone
    assert indices(judged(computed(1.0, 1.0005), origins=draws(2))) == (0, 1)


def test_the_rounding_that_was_used_is_recorded_with_the_judgement() -> None:
    shard = table([candidate("policy", "a"), candidate("reference", "b")])
    made = prefer(shard, [computed(1.0, 2.0)], SELM, tie_margin=0.0, seed=0, iteration=1)
    assert made["judgement"].to_pylist()[0]["rounding"] == 1e-3
