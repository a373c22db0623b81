"""TRL's and OpenRLHF's formats, by hand."""

import pytest

from xpo_ray.judges import Comparison, Message, Response
from xpo_ray.judges.remote.outcomes import Unreadable
from xpo_ray.judges.remote.prompt_text import plain
from xpo_ray.judges.remote.rewards import openrlhf_body, read, trl_body
from xpo_ray.judges.remote.verdict import Verdict

SYSTEM, USER = Message(role="system", content="be brief"), Message(role="user", content="why?")
ASKED = [Comparison((SYSTEM, USER), (Response("because"), Response("no"))), Comparison((USER,), (Response("so"),))]


def test_openrlhf_gets_queries_that_begin_with_their_prompts() -> None:
    assert openrlhf_body(ASKED, plain) == {
        "query": ["be brief\n\nwhy?\n\nbecause", "be brief\n\nwhy?\n\nno", "why?\n\nso"],
        "prompts": ["be brief\n\nwhy?\n\n", "be brief\n\nwhy?\n\n", "why?\n\n"],
        "labels": [None, None, None],
    }


def test_trl_gets_the_arguments_of_a_reward_function() -> None:
    assert trl_body(ASKED) == {
        "prompts": [[SYSTEM, USER], [SYSTEM, USER], [USER]],
        "completions": [
            [{"role": "assistant", "content": "because"}],
            [{"role": "assistant", "content": "no"}],
            [{"role": "assistant", "content": "so"}],
        ],
    }


def test_rewards_are_dealt_out_to_their_comparisons() -> None:
    told = b'{"rewards": [0.5, -1, 2], "scores": [9, 9, 9], "extra_logs": {}}'
    assert read(told, ASKED, bare=False) == [Verdict(scores=(0.5, -1.0)), Verdict(scores=(2.0,))]


def test_null_and_nan_are_missing_and_a_comparison_without_any_is_a_failed_one() -> None:
    first, second = read(b"[null, 1.5, NaN]", ASKED, bare=True)
    assert first == Verdict(scores=(None, 1.5))
    assert (second.scores, second.lacking) == (None, True)


@pytest.mark.parametrize(
    "told",
    [b"[1, 2, 3]", b'{"rewards": [1, 2]}', b'{"rewards": [1, 2, "3"]}', b'{"scores": [1, 2, 3]}', b"{}", b"oops"],
)
def test_an_answer_of_another_form_or_with_too_few_rewards_is_not_used(told: bytes) -> None:
    with pytest.raises(Unreadable):
        read(told, ASKED, bare=False)
