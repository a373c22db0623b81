"""Held-out scores: who is judged beside whom, both orders averaged, failures left null."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from xpo_ray.evaluation.scores import add_scores
from xpo_ray.evaluation.table import BASED, JUDGED, JUDGED_COLUMNS
from xpo_ray.judges.cache import CachedScores
from xpo_ray.judges.judgement import Comparison, Judgement

Scores = tuple[float | None, float | None, float | None, float | None, float | None]


def responses(*texts: str) -> pa.Table:
    rows = [
        {
            "row": i,
            "prompt_id": f"p{i}",
            "prompt": [{"role": "user", "content": f"question {i}"}],
            "prompt_ids": [2],
            "response": text,
            "ids": [5],
            "ended": not text.endswith("…"),
            "logp": -1.0,
            "base_logp": -1.0,
        }
        for i, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=BASED)


@dataclass
class Length:
    """Scores a response by its length, with `bias` for the one that stands first; fails on the text 'fail'."""

    bias: float = 0.0
    seen: list[Comparison] = field(default_factory=list)

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        self.seen += comparisons
        return [self._one(c) for c in comparisons]

    def _one(self, comparison: Comparison) -> Judgement:
        texts = [r.text for r in comparison.responses]
        if "fail" in texts:
            return Judgement("length", reason="asked to")
        return Judgement("length", scores=tuple(len(t) + self.bias * (i == 0) for i, t in enumerate(texts)))

    def close(self) -> None:
        pass


@dataclass
class Ranker(Length):
    """Gives win probabilities: the longer one wins with 0.8, and the one that stands before the other has `bias` more."""

    def _one(self, comparison: Comparison) -> Judgement:
        texts = [r.text for r in comparison.responses]
        if "fail" in texts and texts[0] == "fail":
            return Judgement("ranker", reason="asked to")
        wins = tuple(tuple(self._win(texts, i, j) for j in range(len(texts))) for i in range(len(texts)))
        return Judgement("ranker", wins=wins)

    def _win(self, texts: list[str], i: int, j: int) -> float:
        better = 0.5 if len(texts[i]) == len(texts[j]) else 0.8 if len(texts[i]) > len(texts[j]) else 0.2
        return better + (self.bias if i < j else -self.bias if i > j else 0.0)


def scores(table: pa.Table) -> list[Scores]:
    assert table.schema == JUDGED
    return list(zip(*(table[name].to_pylist() for name in JUDGED_COLUMNS), strict=True))


def test_the_base_is_judged_alone_and_once() -> None:
    judge = Length()
    assert scores(add_scores(judge, responses("abc", "a"), None, None)) == [
        (3.0, None, None, None, None),
        (1.0, None, None, None, None),
    ]
    assert [len(c.responses) for c in judge.seen] == [1, 1]


def test_a_response_stands_beside_one_rival_at_a_time_in_both_orders() -> None:
    judge = Length()
    add_scores(judge, responses("mine…"), responses("base"), responses("previous"))
    assert [[r.text for r in c.responses] for c in judge.seen] == [
        ["mine…", "base"],
        ["base", "mine…"],
        ["mine…", "previous"],
        ["previous", "mine…"],
    ]
    assert [r.ended for r in judge.seen[0].responses] == [False, True]
    assert judge.seen[0].prompt == ({"role": "user", "content": "question 0"},)


def test_where_the_previous_iterate_is_the_base_it_is_judged_once() -> None:
    judge = Length()
    base = add_scores(judge, responses("base"), None, None)
    judge.seen.clear()
    assert scores(add_scores(judge, responses("mine…"), base, base)) == [(5.0, 4.0, 4.0, 1.0, 1.0)]
    assert len(judge.seen) == 2


def test_scores_and_wins_of_both_rivals() -> None:
    got = add_scores(Length(), responses("abc"), responses("a"), responses("abcd"))
    assert scores(got) == [(3.0, 1.0, 4.0, 1.0, 0.0)]


def test_a_preference_for_the_first_place_is_averaged_out() -> None:
    got = add_scores(Length(bias=10.0), responses("abc", "ab"), responses("abc", "a"), None)
    assert scores(got) == [(8.0, 8.0, None, 0.5, None), (7.0, 6.0, None, 1.0, None)]


def test_win_probabilities_of_both_orders_are_averaged() -> None:
    got = scores(add_scores(Ranker(bias=0.15), responses("abc"), responses("a"), responses("abcde")))
    ((score, base, previous, base_win, previous_win),) = got
    assert (score, base, previous) == (None, None, None)
    assert base_win == pytest.approx(0.8)
    assert previous_win == pytest.approx(0.2)


def test_the_previous_iterate_alone_is_found_in_its_place() -> None:
    assert scores(add_scores(Length(), responses("abc"), None, responses("abcd"))) == [(3.0, None, 4.0, None, 0.0)]
    ((_, _, _, base_win, previous_win),) = scores(add_scores(Ranker(), responses("abc"), None, responses("a")))
    assert base_win is None
    assert previous_win == pytest.approx(0.8)


def test_a_failed_judgement_leaves_nulls_and_the_others_stand() -> None:
    got = add_scores(Length(), responses("fail", "abc"), responses("a", "a"), None)
    assert scores(got) == [(None, None, None, None, None), (3.0, 1.0, None, 1.0, None)]


def test_a_judgement_that_failed_in_one_order_counts_for_nothing() -> None:
    assert scores(add_scores(Ranker(), responses("abc"), responses("fail"), None)) == [(None,) * 5]


def test_an_entry_that_is_missing_in_one_order_leaves_its_columns_null() -> None:
    class Moody(Length):
        def _one(self, comparison: Comparison) -> Judgement:
            first, *rest = (float(len(r.text)) for r in comparison.responses)
            return Judgement("moody", scores=(None, *rest) if comparison.responses[0].text == "abc" else (first, *rest))

    assert scores(add_scores(Moody(), responses("abc"), responses("a"), None)) == [(None, 1.0, None, None, None)]


def test_without_a_judge_there_are_no_scores() -> None:
    assert scores(add_scores(None, responses("a", "b"), responses("a", "b"), None)) == [(None,) * 5] * 2


def test_the_other_columns_stay_as_they_were() -> None:
    based = responses("a", "b")
    assert add_scores(Length(), based, None, None).drop_columns(list(JUDGED_COLUMNS)).equals(based)


def test_with_a_cache_of_single_scores_only_new_responses_are_judged() -> None:
    judge = Length()
    cached = CachedScores(judge, 100)
    base = add_scores(cached, responses("a", "bb"), None, None)
    first = add_scores(cached, responses("abc", "abcd"), base, base)
    judge.seen.clear()
    second = add_scores(cached, responses("abcde", "abc"), base, first)
    assert scores(second) == scores(add_scores(Length(), responses("abcde", "abc"), base, first))
    assert [[r.text for r in c.responses] for c in judge.seen] == [["abcde"], ["abc"]]
