import math
from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pytest
import torch

from xpo_ray.judges import Comparison, Response
from xpo_ray.judges.calls import Answer, Call
from xpo_ray.judges.worker import Judged, scores_of

CALL = Call(1, (Comparison(({"role": "user", "content": "q"},), (Response("a"), Response("bb"))),))
TWO = Call(2, CALL.comparisons * 2)


def test_whatever_turns_into_one_float_is_a_score() -> None:
    assert scores_of([True, 2, Decimal("0.5")], 3) == (1.0, 2.0, 0.5)
    assert scores_of(np.array([0.25, 1], dtype=np.float32), 2) == (0.25, 1.0)
    assert scores_of(torch.tensor([0.25, 1.0]), 2) == (0.25, 1.0)
    assert scores_of((np.float64(0.1), np.array(2), torch.tensor(3)), 3) == (0.1, 2.0, 3.0)
    assert scores_of((x / 2 for x in range(2)), 2) == (0.0, 0.5)


def test_zero_is_a_score_and_what_is_not_finite_is_none() -> None:
    assert scores_of([0.0, math.nan, math.inf, -math.inf], 4) == (0.0, None, None, None)
    with pytest.raises(ValueError, match="every score is NaN or infinite"):
        scores_of([math.nan, math.inf], 2)


@pytest.mark.parametrize(
    ("returned", "fault"),
    [
        (0.5, "returned float 0.5; expected a list of 2 scores"),
        (None, "returned NoneType None; expected a list"),
        ("12", "returned str '12'; expected a list"),
        ({"a": 1, "b": 2}, "returned dict .*; expected a list"),
        ({1.0, 2.0}, "returned set .*; expected a list"),
        ([1.0], "returned 1 items, list .*; expected 2 scores"),
        ([1.0, "2"], "returned str '2' for a score"),
        ([1.0, None], "returned NoneType None for a score; expected a number, or NaN for no score"),
        ([1.0, 1j], "returned complex 1j for a score"),
        ([1.0, 10**400], "returned int 10.* for a score"),
        (np.ones((2, 1)), "returned ndarray .* for a score"),
    ],
)
def test_what_is_no_list_of_numbers_says_what_was_got(returned: object, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        scores_of(returned, 2)


def test_the_function_gets_messages_and_texts_of_its_own() -> None:
    def score(prompt: list[dict[str, str]], responses: list[str]) -> list[int]:
        assert prompt == [{"role": "user", "content": "q"}]
        prompt.clear()
        responses.reverse()
        return [len(text) for text in responses]

    judged = Judged(score, batched=False, timeout_s=1.0)
    assert judged.answers(CALL) == judged.answers(CALL) == (Answer((2.0, 1.0)),)


def test_a_batched_function_gets_lists_of_both_and_a_fault_stays_with_its_prompt() -> None:
    def score(prompts: list[object], responses: list[list[str]]) -> Iterator[list[float]]:
        assert len(prompts) == len(responses) == 2
        yield [1.0, 2.0]
        yield [1.0]

    good, bad = Judged(score, batched=True, timeout_s=1.0).answers(TWO)
    assert good == Answer((1.0, 2.0))
    assert bad.scores is None
    assert "returned 1 items" in str(bad.reason)


def test_a_batched_function_that_loses_a_prompt_fails_for_all() -> None:
    answers = Judged(lambda _prompts, _responses: [[1.0, 2.0]], batched=True, timeout_s=1.0).answers(TWO)
    assert [answer.scores for answer in answers] == [None, None]
    assert "expected 2 lists of scores, one per prompt" in str(answers[0].reason)


def test_a_sync_function_may_run_a_loop_of_its_own_or_return_an_awaitable() -> None:
    import asyncio

    async def later() -> list[float]:
        await asyncio.sleep(0)
        return [1.0, 2.0]

    assert Judged(lambda _p, _r: asyncio.run(later()), False, 1.0).answers(CALL) == (Answer((1.0, 2.0)),)
    assert Judged(lambda _p, _r: later(), False, 1.0).answers(CALL) == (Answer((1.0, 2.0)),)


def test_an_object_with_an_async_call_is_concurrent() -> None:
    class Scorer:
        async def __call__(self, _prompt: object, _responses: object) -> list[float]:
            return [1.0, 2.0]

    assert Judged(Scorer(), False, 1.0).concurrent
    assert not Judged(lambda _p, _r: [1.0, 2.0], False, 1.0).concurrent
