"""The judge `http` at a real endpoint: batches, what becomes of failures, and when it is out of reach."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.xpo_ray.judges.remote.endpoint import Endpoint, Reply, judged
from xpo_ray.errors import JudgeError, JudgeUnreachable
from xpo_ray.judges import Comparison, Judge, Message, Response
from xpo_ray.judges.judgement import Metered

Asking = Callable[..., Judge]


def asked(count: int) -> list[Comparison]:
    """The i-th prompt has responses of i + 1 and i + 2 characters."""
    return [
        Comparison((Message(role="user", content=f"prompt {i}"),), (Response("x" * (i + 1)), Response("y" * (i + 2))))
        for i in range(count)
    ]


def prompts(body: dict[str, Any]) -> list[str]:
    return [c["prompt"][0]["content"] for c in body["comparisons"]]


def test_batches_come_back_as_one_judgement_for_each_comparison(asking: Asking, endpoint: Endpoint) -> None:
    judge = asking("http", batch_size=4)
    told = judge.judge(asked(10))
    assert [j.scores for j in told] == [(i + 1.0, i + 2.0) for i in range(10)]
    assert sorted(len(body["comparisons"]) for body in endpoint.bodies) == [2, 4, 4]
    assert (told[0].judge, told[0].tries) == (f"http:127.0.0.1:{endpoint.port}", 1)
    assert isinstance(judge, Metered)
    assert judge.take_counts() == {"judge_requests": 3.0, "judge_retries": 0.0}


@pytest.mark.parametrize("kind", ["refuses", "breaks", "mumbles", "forgets"])
def test_a_poisoned_prompt_fails_alone(asking: Asking, endpoint: Endpoint, kind: str) -> None:
    def poisoned(body: dict[str, Any]) -> Reply:
        if "prompt 2" not in prompts(body):
            return judged(body)
        if kind == "forgets":
            others = [c for c in body["comparisons"] if c["prompt"][0]["content"] != "prompt 2"]
            return judged({"comparisons": others})
        return {"refuses": Reply(422, "no"), "breaks": Reply(500), "mumbles": Reply(text="hmm")}[kind]

    endpoint.behaviour = poisoned
    told = asking("http", batch_size=4, retries=0).judge(asked(4))
    assert [j.failed for j in told] == [False, False, True, False]
    assert told[2].tries == 2
    assert told[2].reason
    assert told[3].scores == (4.0, 5.0)


def test_too_few_scores_are_a_failed_judgement_and_never_a_score(asking: Asking, endpoint: Endpoint) -> None:
    told = {"version": 1, "judgements": [{"id": "0", "scores": [1.0]}]}
    endpoint.behaviour = lambda _: Reply(text=json.dumps(told))
    (judgement,) = asking("http").judge(asked(1))
    assert (judgement.failed, judgement.tries) == (True, 2)
    assert "expected a list of 2 numbers, got 1 items" in (judgement.reason or "")


@pytest.mark.parametrize("said", ["garbage", "[]", '{"version": 2, "judgements": []}'])
def test_a_judge_that_answers_garbage_fails_and_is_not_out_of_reach(
    asking: Asking, endpoint: Endpoint, said: str
) -> None:
    endpoint.behaviour = lambda _: Reply(text=said)
    told = asking("http", batch_size=2).judge(asked(4))
    assert all(j.failed and j.reason for j in told)


def test_an_endpoint_that_stays_down_is_out_of_reach(asking: Asking, endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: Reply(503, "back soon")
    judge = asking("http", batch_size=1, breaker_failures=3, patience_s=0.5)
    reason = r"8 of 8 prompts of a shard: .* answered 503: 'back soon'"
    with pytest.raises(JudgeUnreachable, match=reason):
        judge.judge(asked(8))
    endpoint.behaviour = judged
    time.sleep(0.25)  # the cool-down
    assert [j.failed for j in judge.judge(asked(8))] == [False] * 8


def test_an_endpoint_that_takes_no_token_any_more_is_out_of_reach_and_a_single_prompt_that_it_forbids_is_not(
    asking: Asking, endpoint: Endpoint
) -> None:
    endpoint.behaviour = lambda _: Reply(401, "worn out")
    with pytest.raises(
        JudgeUnreachable, match=r"8 of 8 prompts of a shard: .* answered 401: 'worn out'; set judge\.token"
    ):
        asking("http", batch_size=1).judge(asked(8))
    endpoint.behaviour = lambda body: Reply(403, "no") if prompts(body) == ["prompt 2"] else judged(body)
    assert [j.failed for j in asking("http", batch_size=1).judge(asked(4))] == [False, False, True, False]


def test_all_tries_gone_at_an_overloaded_endpoint_is_out_of_reach_too(asking: Asking, endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: Reply(429)
    with pytest.raises(JudgeUnreachable, match="answered 429"):
        asking("http", batch_size=8).judge(asked(8))


def test_a_few_lost_prompts_while_others_are_answered_are_failed_judgements(asking: Asking, endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda body: Reply(500) if "prompt 5" in prompts(body) else judged(body)
    told = asking("http", batch_size=1, retries=0, concurrency=1).judge(asked(8))
    assert [i for i, j in enumerate(told) if j.failed] == [5]


@pytest.mark.parametrize(("format", "key"), [("trl", "completions"), ("openrlhf", "query")])
def test_the_formats_of_other_trainers_are_spoken(asking: Asking, endpoint: Endpoint, format: str, key: str) -> None:
    def rewards(body: dict[str, Any]) -> Reply:
        texts = [c[0]["content"] for c in body[key]] if key == "completions" else body[key]
        return Reply(text=json.dumps({"rewards": [float(t.count("x") + t.count("y")) for t in texts]}))

    endpoint.behaviour = rewards
    told = asking("http", format=format, batch_size=2).judge(asked(3))
    assert [j.scores for j in told] == [(i + 1.0, i + 2.0) for i in range(3)]


def test_nothing_is_asked_for_no_comparison(asking: Asking, endpoint: Endpoint) -> None:
    assert asking("http").judge([]) == []
    assert endpoint.bodies == []


def test_reasons_can_be_stored_whatever_the_endpoint_spells(asking: Asking, endpoint: Endpoint) -> None:
    half = "\ud800"
    told = [{"id": "0", "failed": half}, {"id": "1", "scores": [half, half]}, {"id": "2", "wins": half}]
    endpoint.behaviour = lambda _: Reply(text=json.dumps({"version": 1, "judgements": told}))
    for judgement in asking("http", batch_size=3).judge(asked(3)):
        assert judgement.failed
        assert (judgement.reason or "").encode()


def test_a_chat_template_makes_the_texts_for_openrlhf_and_a_prompt_that_it_refuses_fails_alone(
    asking: Asking, endpoint: Endpoint, tmp_path: Path
) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text(
        "{% for m in messages %}{% if 'prompt 1' in m['content'] %}{{ raise_exception('not that one') }}{% endif %}"
        "<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    endpoint.behaviour = lambda body: Reply(text=json.dumps({"rewards": [float(len(q)) for q in body["query"]]}))
    told = asking("http", format="openrlhf", chat_template=str(file)).judge(asked(3))
    assert endpoint.bodies[0]["query"][0] == "<|user|>prompt 0<|assistant|>x"
    assert endpoint.bodies[0]["prompts"][-1] == "<|user|>prompt 2<|assistant|>"
    assert [j.failed for j in told] == [False, True, False]
    assert (told[1].reason, told[1].tries) == ("judge.chat_template refuses the messages: not that one", 0)


@pytest.mark.parametrize(("text", "said"), [(None, "cannot be read"), ("{% if %}", "is no Jinja template")])
def test_a_chat_template_that_cannot_be_used_is_refused(
    asking: Asking, tmp_path: Path, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / "chat.jinja").write_text(text)
    with pytest.raises(JudgeError, match=rf"judge\.chat_template .*chat\.jinja: {said}"):
        asking("http", format="openrlhf", chat_template=str(tmp_path / "chat.jinja"))
