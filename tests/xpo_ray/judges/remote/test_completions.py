"""Bodies of chat completions by hand, and answers: what is read, and that nothing is guessed."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpo_ray.judges import Message
from xpo_ray.judges.remote.completions import Completion, body, completion, endpoint_of, score, winner
from xpo_ray.judges.remote.outcomes import Unreadable
from xpo_ray.spec import LlmJudge

ASKED = [Message(role="user", content="which?")]


def spec(**settings: Any) -> LlmJudge:
    return LlmJudge.model_validate({"kind": "llm", "url": "http://localhost/v1", "model": "m", **settings})


def answer(text: Any, finish: str = "stop", usage: Any = None, **message: Any) -> bytes:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://h:8000/v1", "http://h:8000/v1/chat/completions"),
        ("http://h/v1/", "http://h/v1/chat/completions"),
        ("http://h/v1/chat/completions", "http://h/v1/chat/completions"),
        ("http://h/x?api-version=3", "http://h/x/chat/completions?api-version=3"),
    ],
)
def test_the_address_is_below_the_base(url: str, endpoint: str) -> None:
    assert endpoint_of(url) == endpoint


def test_the_body_asks_for_a_schema_at_temperature_0() -> None:
    asked = body(spec(max_tokens=50), ASKED)
    form = asked.pop("response_format")
    assert asked == {"model": "m", "messages": ASKED, "temperature": 0, "max_tokens": 50}
    assert form["json_schema"]["strict"] is True
    assert form["json_schema"]["schema"]["properties"]["winner"]["enum"] == ["A", "B", "tie"]
    assert list(form["json_schema"]["schema"]["properties"]) == ["reason", "winner"]


def test_extra_is_laid_over_the_body_and_null_takes_a_field_out() -> None:
    extra = {"max_tokens": None, "max_completion_tokens": 9, "temperature": None, "reasoning_effort": "low"}
    assert body(spec(structured="none", extra=extra), ASKED) == {
        "model": "m",
        "messages": ASKED,
        "max_completion_tokens": 9,
        "reasoning_effort": "low",
    }


def test_the_text_and_the_tokens_are_read() -> None:
    told = answer("hi", usage={"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9})
    assert completion(told) == Completion("hi", None, 7, 2)
    assert completion(answer("hi", usage={"prompt_tokens": "7"})) == Completion("hi", None, None, None)


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        (answer("hi", "length"), "cut at max_tokens"),
        (answer("hi", "content_filter"), "refused to answer"),
        (answer(None, refusal="I would rather not"), "I would rather not"),
        (answer(None), "has no text"),
        (answer([{"type": "text"}]), "has no text"),
    ],
)
def test_an_answer_that_is_cut_refused_or_empty_does_not_count(told: bytes, fault: str) -> None:
    assert fault in (completion(told).fault or "")


@pytest.mark.parametrize("told", [b"", b"[]", b"{}", b'{"choices": []}', b'{"choices": [1]}', b'{"choices": {}}', b"x"])
def test_what_is_no_chat_completion_is_not_read(told: bytes) -> None:
    with pytest.raises(Unreadable):
        completion(told)


@pytest.mark.parametrize(
    ("structured", "text", "said"),
    [
        ("json_schema", '{"reason": "x", "winner": "A"}', 1.0),
        ("json_object", ' {"winner": "B"}\n', 0.0),
        ("json_schema", '{"reason": "\\"winner\\": \\"A\\"", "winner": "tie"}', 0.5),
        ("none", "A is longer.\n\nVERDICT: B\n", 0.0),
        ("none", "VERDICT: TIE", 0.5),
    ],
)
def test_a_winner_is_read(structured: str, text: str, said: float) -> None:
    assert winner(spec(structured=structured), text) == said


@pytest.mark.parametrize(
    ("structured", "text"),
    [
        ("json_schema", "A"),
        ("json_schema", '{"winner": "a"}'),
        ("json_schema", '{"winner": "A", "winner": "B"}'),
        ("json_schema", '{"winner": ["A"]}'),
        ("json_schema", '{"verdict": "A"}'),
        ("json_schema", 'Sure! {"winner": "A"}'),
        ("json_schema", '```json\n{"winner": "A"}\n```'),
        ("json_schema", "VERDICT: A"),
        ("none", "I prefer A."),
        ("none", "VERDICT: A or B"),
        ("none", "VERDICT: A\nVERDICT: B"),
        ("none", "VERDICT: A\nbut I am not sure"),
        ("none", ""),
        ("none", '{"winner": "A"}'),
    ],
)
def test_what_is_not_exactly_as_asked_for_is_never_guessed_from(structured: str, text: str) -> None:
    with pytest.raises(Unreadable):
        winner(spec(structured=structured), text)


@pytest.mark.parametrize(
    ("structured", "text", "said"),
    [
        ("json_schema", '{"reason": "x", "score": 7}', 7.0),
        ("json_object", '{"score": 1.5}', 1.5),
        ("none", "good\nSCORE: 9.5", 9.5),
    ],
)
def test_a_score_is_read(structured: str, text: str, said: float) -> None:
    assert score(spec(mode="scored", structured=structured), text) == said


@pytest.mark.parametrize(
    "text",
    ['{"score": 11}', '{"score": 0}', '{"score": "7"}', '{"score": true}', '{"score": null}', '{"score": NaN}', "7/10"],
)
def test_a_score_outside_the_range_or_of_another_type_is_never_taken(text: str) -> None:
    with pytest.raises(Unreadable):
        score(spec(mode="scored"), text)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_other_text_is_refused_and_nothing_else_is_raised(text: str) -> None:
    for structured in ("json_schema", "none"):
        for of, read in ((spec(structured=structured), winner), (spec(structured=structured, mode="scored"), score)):
            with pytest.raises(Unreadable):
                read(of, text)


@settings(deadline=None)
@given(st.sampled_from(["A", "B", "tie"]), st.text(max_size=40))
def test_a_reason_never_changes_the_verdict(said: str, reason: str) -> None:
    told = json.dumps({"reason": reason, "winner": said})
    assert winner(spec(), told) == {"A": 1.0, "B": 0.0, "tie": 0.5}[said]
