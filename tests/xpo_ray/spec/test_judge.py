"""What a judge's own time limits let a shard take, and which fields of remote judges go together."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from xpo_ray.spec.base import decisive
from xpo_ray.spec.judge import JudgeSpec
from xpo_ray.spec.remote_judge import HttpJudge, LlmJudge

HTTP: dict[str, Any] = {
    "kind": "http",
    "url": "http://localhost:9000/judge",
    "batch_size": 4,
    "concurrency": 4,
    "retries": 1,
    "timeout_s": 10.0,
    "patience_s": 20.0,
}
PYTHON = {"kind": "python", "function": "vowels:score", "timeout_s": 10.0, "retries": 2}


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        (PYTHON, 3 * 8 * 10.0),
        ({**PYTHON, "retries": 0}, 8 * 10.0),
        ({**PYTHON, "batched": True}, (3 + 8) * 10.0),
        ({"kind": "reward_model", "path": "./reward"}, 0.0),
        ({"kind": "pairrm", "path": "./PairRM-hf"}, 0.0),
        # 2 tries of 10 s, up to 30 s between them: one round of 2 batches, two of single prompts, 20 s of patience for each
        (HTTP, (2 * 10 + 30 + 20) + (2 * (2 * 10 + 30) + 20)),
        # 8 prompts of 8 candidates, 56 requests each, 4 at a time
        ({**HTTP, "kind": "llm", "model": "m", "batch_size": None}, 112 * (2 * 10 + 30) + 20),
    ],
)
def test_every_try_of_every_prompt_may_run_into_its_limit(raw: dict[str, Any], seconds: float) -> None:
    judge = TypeAdapter[JudgeSpec](JudgeSpec).validate_python({k: v for k, v in raw.items() if v is not None})
    assert judge.longest_s(8) == seconds


@pytest.mark.parametrize(
    "url",
    [
        "localhost:9000",
        "ftp://host/judge",
        "http:///judge",
        "http://user:secret@host/judge",
        "http://host/judge#part",
        "http://host:port/judge",
        "http://host:0/judge",
        "http://host:99999/judge",
        "http://host/a b",
        "http://höst/judge",
        "http://a..b/judge",
        f"http://{'a' * 64}.example/judge",
        "",
    ],
)
def test_what_is_no_plain_http_address_is_refused_with_the_form_that_is(url: str) -> None:
    with pytest.raises(ValidationError, match=r"http\(s\)://host\[:port\]/path") as caught:
        HttpJudge.model_validate({"kind": "http", "url": url})
    assert "secret" not in str(caught.value.errors()[0]["msg"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"lowest": 5, "highest": 5}, "lowest 5 is not below highest 5"),
        ({"price_per_million_input": 1.0}, "go together"),
        ({"extra": {"messages": [], "stream": True}}, "extra has messages, stream, which the judge sets itself"),
        ({"token_env": "MY TOKEN"}, "token_env"),
        ({"extra": {"x": {1, 2}}}, "extra"),
    ],
)
def test_fields_of_a_language_model_that_contradict_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        LlmJudge.model_validate({"kind": "llm", "url": "http://localhost/v1", "model": "m", **fields})


def test_the_address_the_format_and_what_is_asked_decide_the_result_and_how_it_is_called_does_not() -> None:
    http = HttpJudge.model_validate(HTTP)
    assert set(decisive(http)) == {"tie_margin", "url", "kind", "format", "chat_template"}
    llm = LlmJudge.model_validate({"kind": "llm", "url": "http://localhost/v1", "model": "m"})
    asked = {"model", "mode", "structured", "lowest", "highest", "max_tokens", "extra"}
    assert set(decisive(llm)) == {"tie_margin", "url", "kind"} | asked


def test_only_a_format_that_sends_texts_has_a_chat_template() -> None:
    assert HttpJudge.model_validate({**HTTP, "format": "openrlhf", "chat_template": "./x.jinja"})
    with pytest.raises(ValidationError, match="xpo_ray sends messages, leave it out"):
        HttpJudge.model_validate({**HTTP, "chat_template": "./x.jinja"})
    with pytest.raises(ValidationError, match=r"an endpoint has no tokenizer here; give `plain` or the path"):
        HttpJudge.model_validate({**HTTP, "format": "openrlhf", "chat_template": "tokenizer"})


def test_a_judges_processes_need_the_variable_with_its_token() -> None:
    assert HttpJudge.model_validate(HTTP).secrets() == ()
    assert HttpJudge.model_validate({**HTTP, "token_env": "MINE"}).secrets() == ("MINE",)
    assert TypeAdapter[JudgeSpec](JudgeSpec).validate_python(PYTHON).secrets() == ()
    members = [{"judge": {**HTTP, "token_env": name}} for name in ("ONE", "OTHER", "ONE")]
    ensemble = {"kind": "ensemble", "members": [*members, {"judge": PYTHON}]}
    assert TypeAdapter[JudgeSpec](JudgeSpec).validate_python(ensemble).secrets() == ("ONE", "OTHER")


@pytest.mark.parametrize(("mode", "requests"), [("pairwise", [0, 2, 6, 12]), ("scored", [1, 2, 3, 4])])
def test_requests_for_a_prompt_are_those_of_all_pairs_in_both_orders_or_of_each_response(
    mode: str, requests: list[int]
) -> None:
    judge = LlmJudge.model_validate({"kind": "llm", "url": "http://localhost/v1", "model": "m", "mode": mode})
    assert [judge.requests(k) for k in (1, 2, 3, 4)] == requests
