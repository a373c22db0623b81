"""Answers that are known: who is asked about what, what is never kept, and what goes first."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from xpo_ray.judges.cache import CachedJudgements, CachedScores, Recent
from xpo_ray.judges.judgement import Comparison, Judgement, Message, Response


@dataclass
class Lengths:
    """Scores responses by their length and counts what it is asked; fails on 'fail', has no score for '?'."""

    asked: list[tuple[str, ...]] = field(default_factory=list)
    closed: bool = False

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        return [self._one(tuple(r.text for r in c.responses)) for c in comparisons]

    def _one(self, texts: tuple[str, ...]) -> Judgement:
        self.asked.append(texts)
        if "fail" in texts:
            return Judgement("lengths", reason="asked to", tries=3)
        return Judgement("lengths", tuple(None if t == "?" else float(len(t)) for t in texts), tries=2)

    def take_counts(self) -> dict[str, float]:
        return {"calls": float(len(self.asked))}

    def close(self) -> None:
        self.closed = True


def compare(*texts: str, prompt: str = "hi", ended: bool = True) -> Comparison:
    return Comparison((Message(role="user", content=prompt),), tuple(Response(text, ended) for text in texts))


def test_an_equal_comparison_gets_the_same_judgement_and_the_judge_is_not_asked() -> None:
    judge = Lengths()
    cached = CachedJudgements(judge, 10)
    first = cached.judge([compare("a", "bb"), compare("ccc")])
    assert cached.judge([compare("ccc"), compare("a", "bb")]) == first[::-1]
    assert judge.asked == [("a", "bb"), ("ccc",)]
    assert cached.take_counts() == {"calls": 2.0, "cached_responses": 3.0}
    assert cached.take_counts() == {"calls": 2.0, "cached_responses": 0.0}


def test_another_order_company_prompt_or_ending_is_another_comparison() -> None:
    judge = Lengths()
    cached = CachedJudgements(judge, 10)
    asked = [
        compare("a", "b"),
        compare("b", "a"),
        compare("a"),
        compare("a", "b", prompt="ho"),
        compare("a", "b", ended=False),
    ]
    cached.judge(asked)
    assert len(judge.asked) == 5
    cached.judge(asked)
    assert len(judge.asked) == 5


def test_equal_comparisons_of_one_call_are_asked_for_once() -> None:
    for cache in (CachedJudgements, CachedScores):
        judge = Lengths()
        cached = cache(judge, 1)
        said = cached.judge([compare("a", "bb"), compare("a", "bb"), compare("fail"), compare("fail")])
        assert judge.asked == [("a", "bb"), ("fail",)]
        assert said[0] == said[1] == Judgement("lengths", (1.0, 2.0), tries=2)
        assert said[2] == said[3] == Judgement("lengths", reason="asked to", tries=3)


def test_a_failed_judgement_is_asked_for_again() -> None:
    for cache in (CachedJudgements, CachedScores):
        judge = Lengths()
        cached = cache(judge, 10)
        assert [cached.judge([compare("fail", "a")])[0].failed for _ in range(2)] == [True, True]
        assert len(judge.asked) == 2


def test_a_response_that_stood_in_another_comparison_is_not_scored_again() -> None:
    judge = Lengths()
    cached = CachedScores(judge, 10)
    cached.judge([compare("a", "bb")])
    (said,) = cached.judge([compare("ccc", "bb", "a", "ccc")])
    assert judge.asked == [("a", "bb"), ("ccc",)]
    assert said == Judgement("lengths", (3.0, 2.0, 1.0, 3.0), tries=2)
    assert cached.judge([compare("bb", "ccc")]) == [Judgement("lengths", (2.0, 3.0))]
    assert len(judge.asked) == 2
    assert cached.take_counts()["cached_responses"] == 5.0


def test_a_response_to_another_prompt_or_with_another_ending_is_another_one() -> None:
    judge = Lengths()
    cached = CachedScores(judge, 10)
    cached.judge([compare("a"), compare("a", prompt="ho"), compare("a", ended=False)])
    assert judge.asked == [("a",)] * 3


def test_a_missing_score_stays_missing_and_is_asked_for_again() -> None:
    judge = Lengths()
    cached = CachedScores(judge, 10)
    for _ in range(2):
        assert cached.judge([compare("a", "?")])[0].scores == (1.0, None)
    assert judge.asked == [("a", "?"), ("?",)]


def test_a_failure_among_new_responses_fails_the_whole_comparison_and_nothing_is_made_up() -> None:
    judge = Lengths()
    cached = CachedScores(judge, 10)
    cached.judge([compare("a")])
    assert cached.judge([compare("a", "fail")]) == [Judgement("lengths", reason="asked to", tries=3)]


def test_the_least_recently_used_answer_goes_first() -> None:
    recent = Recent[int](2)
    recent.put(b"a", 1)
    recent.put(b"b", 2)
    assert recent.get(b"a") == 1
    recent.put(b"c", 3)
    assert (recent.get(b"a"), recent.get(b"b"), recent.get(b"c"), len(recent)) == (1, None, 3, 2)


def test_a_call_larger_than_the_cache_is_answered_whole() -> None:
    for cache in (CachedJudgements, CachedScores):
        said = cache(Lengths(), 1).judge([compare("a" * n, "b" * n) for n in range(1, 6)])
        assert [j.scores for j in said] == [(n, n) for n in range(1, 6)]


def test_a_zero_is_a_score_that_is_known() -> None:
    judge = Lengths()
    cached = CachedScores(judge, 10)
    assert [cached.judge([compare("")])[0].scores for _ in range(2)] == [(0.0,), (0.0,)]
    assert judge.asked == [("",)]


def test_hits_of_two_caches_one_behind_the_other_add_up() -> None:
    cached = CachedJudgements(CachedScores(Lengths(), 10), 10)
    cached.judge([compare("a", "bb")])
    cached.judge([compare("a", "bb"), compare("bb", "ccc")])
    assert cached.take_counts()["cached_responses"] == 2.0 + 1.0


def test_the_judge_behind_ends_with_its_cache() -> None:
    judge = Lengths()
    CachedScores(judge, 1).close()
    assert judge.closed
