"""The JSON contract: what is sent, and what each answer says; made by hand."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpo_ray.judges import Comparison, Message, Response
from xpo_ray.judges.remote.contract import body, read
from xpo_ray.judges.remote.outcomes import Refused, Unreadable
from xpo_ray.judges.remote.verdict import Verdict

PAIR = Comparison((Message(role="user", content="why?"),), (Response("because"), Response("no", ended=False)))
README = Path(__file__).parents[4] / "README.md"
TWO = [PAIR, Comparison((Message(role="user", content="how?"),), (Response("so"), Response("thus")))]


def answer(*judgements: Any, version: Any = 1) -> bytes:
    return json.dumps({"version": version, "judgements": list(judgements)}).encode()


def test_the_request_is_the_documented_one() -> None:
    sent = body([PAIR])
    assert {k: v for k, v in sent.items() if k != "id"} == {
        "version": 1,
        "comparisons": [
            {
                "id": "0",
                "prompt": [{"role": "user", "content": "why?"}],
                "responses": [{"text": "because", "ended": True}, {"text": "no", "ended": False}],
            }
        ],
    }
    assert body([PAIR])["id"] == sent["id"] != body(TWO)["id"]


def test_judgements_may_come_in_any_order_and_of_any_kind() -> None:
    told = answer({"id": "1", "wins": [[0.5, 0.9], [None, 0.5]]}, {"id": "0", "scores": [1, None]})
    assert read(told, TWO) == [Verdict(scores=(1.0, None)), Verdict(wins=((None, 0.9), (None, None)))]


def test_what_the_endpoint_cannot_judge_fails_with_its_reason_for_good() -> None:
    told = read(answer({"id": "0", "failed": "too long"}, {"id": "1", "scores": [0, 1]}), TWO)
    assert told[0] == Verdict(reason="the endpoint could not judge it: 'too long'")
    assert told[1] == Verdict(scores=(0.0, 1.0))


@pytest.mark.parametrize(
    ("judgement", "reason"),
    [
        (None, "no judgement with this comparison's id"),
        ({"id": "0"}, "expected one"),
        ({"id": "0", "scores": [1, 2], "wins": [[0, 1], [1, 0]]}, "expected one"),
        ({"id": "0", "scores": [1.0]}, "expected a list of 2 numbers, got 1 items"),
        ({"id": "0", "scores": "high"}, "got str 'high'"),
        ({"id": "0", "scores": ["1", "2"]}, "scores[0] is '1'; expected a number or null"),
        ({"id": "0", "scores": [True, 1]}, "scores[0] is True"),
        ({"id": "0", "scores": [None, float("nan")]}, "no finite number"),
        ({"id": "0", "wins": [[None, 0.5]]}, "expected 2 rows"),
        ({"id": "0", "wins": [[None, 0.5], [0.5]]}, "wins[1]: expected a list of 2 numbers"),
        ({"id": "0", "wins": [[None, 1.5], [None, None]]}, "wins[0][1] is 1.5; a probability"),
        ({"id": "0", "wins": [[None, None], [None, None]]}, "no finite number"),
    ],
)
def test_a_judgement_that_does_not_fit_fails_alone_and_may_be_asked_for_again(judgement: Any, reason: str) -> None:
    told = [judgement] if judgement is not None else []
    first, second = read(answer(*told, {"id": "1", "scores": [0, 1]}), TWO)
    assert (first.scores, first.wins, first.lacking) == (None, None, True)
    assert first.reason is not None
    assert reason in first.reason
    assert second == Verdict(scores=(0.0, 1.0))


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[1, 2]",
        b"<html>",
        b"\xff\xfe",
        b'{"version": 1}',
        b'{"version": 1, "version": 1, "judgements": []}',
        b"[" * 100_000,
        answer("a"),
        answer({"id": 0, "scores": [1, 2]}),
        answer({"id": "7", "scores": [1, 2]}),
        answer({"id": "0", "scores": [1, 2]}, {"id": "0", "scores": [2, 1]}),
        answer({"id": ["0"], "scores": [1, 2]}),
    ],
)
def test_an_answer_that_is_no_such_object_is_not_used_at_all(said: bytes) -> None:
    with pytest.raises(Unreadable):
        read(said, TWO)


def test_the_readmes_example_is_what_is_sent_and_read() -> None:
    shown = re.search(r"curl \S+/judge .*? -d '(.*?)'\n# (.*?)\n", README.read_text(), re.DOTALL)
    assert shown is not None
    sent, answered = json.loads(shown[1]), shown[2].encode()
    prompt = (Message(role="user", content="Why?"),)
    comparison = Comparison(prompt, (Response("So."), Response("Because.")))
    assert {**body([comparison]), "id": sent["id"]} == sent
    assert [verdict.scores for verdict in read(answered, [comparison])] == [(3.0, 8.0)]


def test_an_answer_of_another_format_names_the_setting() -> None:
    with pytest.raises(
        Refused, match=r'has no "version": 1; an endpoint that gives `rewards` needs judge\.format trl or'
    ):
        read(b'{"rewards": [1, 2]}', TWO)


@pytest.mark.parametrize("version", [2, "1", None, True])
def test_another_version_is_refused(version: Any) -> None:
    with pytest.raises(Refused, match="this is version 1"):
        read(answer(version=version), TWO)


@settings(deadline=None)
@given(st.lists(st.lists(st.text(max_size=20), min_size=1, max_size=4), min_size=1, max_size=4))
def test_any_texts_reach_the_endpoint_as_they_are(texts: list[list[str]]) -> None:
    comparisons = [Comparison((Message(role="user", content=t[0]),), tuple(map(Response, t))) for t in texts]
    sent = json.loads(json.dumps(body(comparisons)))
    assert [[r["text"] for r in c["responses"]] for c in sent["comparisons"]] == texts


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "scores", "wins"]), inner),
)


@settings(deadline=None)
@given(st.lists(JSON, max_size=3))
def test_whatever_is_answered_becomes_verdicts_of_the_right_size_or_is_not_used(judgements: list[Any]) -> None:
    try:
        told = read(answer(*judgements), TWO)
    except Unreadable:
        return
    for verdict in told:
        assert (verdict.scores is not None) + (verdict.wins is not None) + (verdict.reason is not None) == 1
        assert verdict.scores is None or len(verdict.scores) == 2
