"""Several judges as one: who is asked about what, whose verdict stands, what fails, and what is counted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from xpo_ray.errors import JudgeError
from xpo_ray.judges import open_judge
from xpo_ray.judges.ensemble import Ensemble
from xpo_ray.judges.judgement import Comparison, Judgement, Message, Response
from xpo_ray.spec.judge import EnsembleJudge

Rule = Callable[[str], float | None]


@dataclass
class Scorer:
    """A judge with a rule for a single text; it fails on texts with `fails_on`, and remembers what it was asked."""

    name: str
    rule: Rule
    fails_on: str = "nothing has this"
    asked: list[tuple[str, ...]] = field(default_factory=list)
    closed: bool = False

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        return [self._one(tuple(r.text for r in c.responses)) for c in comparisons]

    def _one(self, texts: tuple[str, ...]) -> Judgement:
        self.asked.append(texts)
        if any(self.fails_on in text for text in texts):
            return Judgement(self.name, reason="out of order", tries=3)
        return Judgement(self.name, tuple(map(self.rule, texts)))

    def take_counts(self) -> dict[str, float]:
        return {"calls": float(len(self.asked))}

    def close(self) -> None:
        self.closed = True


def length(text: str) -> float:
    return float(len(text))


def vowels(text: str) -> float:
    return float(sum(letter in "aeiou" for letter in text))


def ensemble(*members: Scorer, weights: Sequence[float] = (), **settings: Any) -> Ensemble:
    named = [
        {"judge": {"kind": "python", "function": f"m:f{i}"}, "weight": weight}
        for i, weight in enumerate(weights or [1.0] * len(members))
    ]
    spec = EnsembleJudge.model_validate({"kind": "ensemble", "members": named, **settings})
    return Ensemble(spec, members)


def compare(*texts: str) -> Comparison:
    return Comparison((Message(role="user", content="hi"),), tuple(map(Response, texts)))


def test_all_members_judge_and_the_weighted_mean_stands() -> None:
    both = ensemble(Scorer("length", length), Scorer("vowels", vowels), weights=(1.0, 3.0), normalise="none")
    (said,) = both.judge([compare("strength", "aie")])
    assert said == Judgement("ensemble(length + vowels)", (11 / 4, 12 / 4), disagreement=1 / 4)


def test_disagreement_tells_prompts_apart_and_is_counted() -> None:
    both = ensemble(Scorer("length", length), Scorer("vowels", vowels), normalise="rank", weights=(1.0, 2.0))
    said = both.judge([compare("strength", "aie"), compare("bbb", "oaoao"), compare("b", "bb")])
    assert [j.disagreement for j in said] == pytest.approx([1 / 3, 0.0, 1 / 3])
    assert both.take_counts() == {"disagreed": 2.0, "calls": 6.0}
    both.judge([])
    assert both.take_counts() == {"disagreed": 0.0, "calls": 6.0}


def test_a_member_that_fails_fails_the_prompt_and_its_reason_is_told() -> None:
    both = ensemble(Scorer("length", length), Scorer("vowels", vowels, fails_on="!"))
    fine, failed = both.judge([compare("a", "bb"), compare("a!", "bb")])
    assert not fine.failed
    assert failed == Judgement(
        "ensemble(length + vowels)",
        reason="1 of 2 members judged it, min_members is 2: vowels: out of order",
        tries=3,
    )


def test_with_min_members_the_others_decide_and_the_verdict_names_them() -> None:
    three = ensemble(
        Scorer("length", length),
        Scorer("vowels", vowels, fails_on="!"),
        Scorer("minus", lambda text: -length(text), fails_on="!"),
        min_members=1,
        normalise="rank",
    )
    (said,) = three.judge([compare("a!", "bb!")])
    assert said == Judgement("ensemble(length)", (0.0, 1.0))
    (said,) = three.judge([compare("a", "bb")])
    assert said.judge == "ensemble(length + vowels + minus)"


def test_where_every_member_fails_the_judgement_fails_whatever_min_members_says() -> None:
    both = ensemble(Scorer("a", length, fails_on="!"), Scorer("b", vowels, fails_on="!"), min_members=1)
    (said,) = both.judge([compare("x!", "y")])
    assert said.reason == "0 of 2 members judged it, min_members is 1: a: out of order; b: out of order"


def cheap_and_dear(**dear: Any) -> tuple[Scorer, Scorer, Ensemble]:
    cheap, second = Scorer("cheap", length, fails_on="?"), Scorer("dear", vowels, **dear)
    return cheap, second, ensemble(cheap, second, combine="cheap_then_dear", unsure_below=2.0, normalise="none")


def test_only_what_the_cheap_judge_is_unsure_of_goes_to_the_dear_one_whose_verdict_stands() -> None:
    cheap, dear, both = cheap_and_dear()
    sure, unsure, edge = compare("bbbb", "a"), compare("bb", "a"), compare("bbb", "a")
    said = both.judge([sure, unsure, edge])
    assert said == [
        Judgement("ensemble(cheap)", (4.0, 1.0)),
        Judgement("ensemble(dear)", (0.0, 1.0), disagreement=0.5),
        Judgement("ensemble(cheap)", (3.0, 1.0)),
    ]
    assert (len(cheap.asked), dear.asked) == (3, [("bb", "a")])
    assert both.take_counts() == {"asked_dear": 1.0, "disagreed": 1.0, "calls": 4.0}


def test_the_dear_judge_is_not_called_where_the_cheap_one_is_sure_of_all() -> None:
    _, dear, both = cheap_and_dear()
    both.judge([compare("bbbb", "a")])
    assert dear.asked == []


def test_a_cheap_judge_that_fails_does_not_send_everything_to_the_dear_one() -> None:
    _, dear, both = cheap_and_dear()
    (said,) = both.judge([compare("b?", "a")])
    assert said == Judgement("ensemble(cheap)", reason="the cheap judge failed: cheap: out of order", tries=3)
    assert dear.asked == []


def test_a_dear_judge_that_fails_leaves_no_verdict() -> None:
    _, _, both = cheap_and_dear(fails_on="!")
    (said,) = both.judge([compare("b", "!")])
    assert said.reason == "the dear judge failed: dear: out of order"
    assert said.failed


def test_one_score_of_two_is_no_sureness_and_a_response_alone_needs_no_dear_judge() -> None:
    cheap = Scorer("cheap", lambda text: None if text == "odd" else length(text))
    dear = Scorer("dear", vowels)
    both = ensemble(cheap, dear, combine="cheap_then_dear", unsure_below=2.0, normalise="none")
    said = both.judge([compare("odd", "bbbbbb"), compare("b")])
    assert [j.judge for j in said] == ["ensemble(dear)", "ensemble(cheap)"]
    assert dear.asked == [("odd", "bbbbbb")]


def test_a_verdict_does_not_depend_on_what_else_is_in_the_shard() -> None:
    """So it is the same on every replica, and after the loss of one."""
    all_ = [compare("a", "bbb", "oo"), compare("eee", "b", "cc"), compare("x", "yy", "aaaaaaaaaaaaaaaa")]
    for settings in ({}, {"normalise": "rank"}, {"combine": "cheap_then_dear", "unsure_below": 2.5}):
        together = ensemble(Scorer("length", length), Scorer("vowels", vowels), **settings).judge(all_)
        for comparison, said in zip(all_, together, strict=True):
            alone = ensemble(Scorer("length", length), Scorer("vowels", vowels), **settings)
            assert alone.judge([comparison]) == [said]


def test_members_end_with_the_ensemble() -> None:
    members = (Scorer("a", length), Scorer("b", vowels))
    ensemble(*members).close()
    assert all(member.closed for member in members)


def test_nothing_to_judge_is_nothing() -> None:
    assert ensemble(Scorer("a", length), Scorer("b", vowels)).judge([]) == []
    assert cheap_and_dear()[2].judge([]) == []


TWO = """
def score(prompt, responses):
    return [float(len(r)) for r in responses]


def vowels(prompt, responses):
    return [float(sum(c in "aeiou" for c in r)) for r in responses]
"""


def members(*functions: str, **settings: Any) -> EnsembleJudge:
    named = [{"judge": {"kind": "python", "function": f"my_rewards:{f}", **settings}} for f in functions]
    return EnsembleJudge.model_validate({"kind": "ensemble", "members": named, "normalise": "none"})


def test_an_ensemble_of_python_judges_opens_from_its_spec(write: Callable[..., Path], tmp_path: Path) -> None:
    write(TWO)
    judge = open_judge(members("score", "vowels"), tmp_path)
    try:
        (said,) = judge.judge([compare("strength", "aie")])
    finally:
        judge.close()
    assert said.scores == (4.5, 3.0)
    assert said.judge == "ensemble(python:my_rewards:score + python:my_rewards:vowels)"


def test_members_keep_their_own_answers(write: Callable[..., Path], tmp_path: Path) -> None:
    write(TWO)
    judge = open_judge(members("score", "vowels", cache_entries=10), tmp_path)
    try:
        first = judge.judge([compare("a", "bb")])
        assert judge.judge([compare("a", "bb")]) == first
        assert isinstance(judge, Ensemble)
        assert judge.take_counts()["cached_responses"] == 4.0
    finally:
        judge.close()


def test_a_member_that_cannot_be_opened_ends_those_before_it(write: Callable[..., Path], tmp_path: Path) -> None:
    write(f"import os\nopen({str(tmp_path / 'pids')!r}, 'a').write(f'{{os.getpid()}}\\n')\n{TWO}")
    with pytest.raises(JudgeError, match="has no vowel; did you mean vowels"):
        open_judge(members("score", "vowel"), tmp_path)
    pids = (tmp_path / "pids").read_text().split()
    assert [Path("/proc", pid).exists() for pid in pids] == [False, False]
