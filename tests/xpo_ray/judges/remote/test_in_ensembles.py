"""Judges behind endpoints as members of an ensemble, and behind the cache: what is sent, counted, and raised."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from tests.xpo_ray.judges.remote.chatting import longer, preferring, scoring, shown
from tests.xpo_ray.judges.remote.endpoint import Endpoint, Reply, judged, serving
from xpo_ray.errors import JudgeUnreachable
from xpo_ray.judges import Comparison, Judge, Message, Response, open_judge
from xpo_ray.judges.checks import content_digest
from xpo_ray.judges.judgement import counts_of
from xpo_ray.spec.judge import JudgeSpec

Opening = Callable[[dict[str, Any]], Judge]
QUICK = {"retries": 0, "timeout_s": 5.0, "cool_down_s": 0.2, "patience_s": 0.3}


def spec_of(raw: dict[str, Any]) -> JudgeSpec:
    return TypeAdapter[JudgeSpec](JudgeSpec).validate_python(raw)


@pytest.fixture
def opening(tmp_path: Path) -> Iterator[Opening]:
    """A judge from raw fields, closed after the test."""
    with ExitStack() as opened:

        def made(raw: dict[str, Any]) -> Judge:
            judge = open_judge(spec_of(raw), tmp_path)
            opened.callback(judge.close)
            return judge

        yield made


def asked(*texts: str, prompt: str = "why?") -> Comparison:
    return Comparison((Message(role="user", content=prompt),), tuple(map(Response, texts)))


def ensemble(*members: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {"kind": "ensemble", "members": [{"judge": member} for member in members], **settings}


def http(endpoint: Endpoint, **fields: Any) -> dict[str, Any]:
    return {"kind": "http", "url": endpoint.url, **QUICK, **fields}


def llm(endpoint: Endpoint, **fields: Any) -> dict[str, Any]:
    return {"kind": "llm", "url": endpoint.url, "model": "big", **QUICK, **fields}


def test_a_language_model_is_asked_about_what_an_endpoint_is_unsure_of_and_their_counts_are_added(
    endpoint: Endpoint, opening: Opening
) -> None:
    with serving(preferring(longer)) as dear:
        judge = opening(ensemble(http(endpoint), llm(dear), combine="cheap_then_dear", unsure_below=1.5))
        sure, unsure = judge.judge([asked("a", "aaaa"), asked("bbb", "bb")])
        assert [shown(body) for body in sorted(dear.bodies, key=str)] == [["bb", "bbb"], ["bbb", "bb"]]
        counts = counts_of(judge)
    assert not sure.failed
    assert unsure.judge == "ensemble(llm:big)"
    assert (counts["asked_dear"], counts["judge_requests"]) == (1.0, 1.0 + 2.0)
    assert (counts["judge_input_tokens"], counts["judge_output_tokens"]) == (200.0, 20.0)


def test_a_member_that_is_out_of_reach_is_no_failure_of_the_ensemble(endpoint: Endpoint, opening: Opening) -> None:
    with serving(lambda _: Reply(503, "maintenance")) as away:
        judge = opening(ensemble(http(endpoint), http(away)))
        with pytest.raises(JudgeUnreachable, match="answered 503"):
            judge.judge([asked("a", "b")])


def test_the_ensembles_share_of_failures_says_when_a_member_is_out_of_reach(
    endpoint: Endpoint, opening: Opening
) -> None:
    def poisoned(body: dict[str, Any]) -> Reply:
        return Reply(503, "no") if body["comparisons"][0]["prompt"][0]["content"] == "poison" else judged(body)

    prompts = [asked("a", "b", prompt=each) for each in ("poison", "two", "three", "four")]
    with serving(poisoned) as shaky:
        alone = http(shaky, batch_size=1, concurrency=1, breaker_failures=9)
        patient = opening(ensemble(http(endpoint), alone))
        assert [told.failed for told in patient.judge(prompts)] == [True, False, False, False]
        strict = opening(ensemble(http(endpoint), alone, max_failed_fraction=0.2))
        with pytest.raises(JudgeUnreachable, match="for 1 of 4 prompts"):
            strict.judge(prompts)


def test_a_score_of_a_language_model_is_kept_beside_other_responses(endpoint: Endpoint, opening: Opening) -> None:
    endpoint.behaviour = scoring(lambda text: float(len(text)))
    judge = opening(llm(endpoint, mode="scored", cache_entries=10))
    assert [told.scores for told in judge.judge([asked("a", "bb"), asked("bb", "ccc")])] == [(1.0, 2.0), (2.0, 3.0)]
    counts_of(judge)
    (told,) = judge.judge([asked("ccc", "a", "dddd")])
    assert told.scores == (3.0, 1.0, 4.0)
    counts = counts_of(judge)
    assert (counts["cached_responses"], counts["judge_requests"]) == (2.0, 1.0)
    assert sorted(shown(body) for body in endpoint.bodies) == [["a"], ["bb"], ["ccc"], ["dddd"]]


def test_a_members_template_decides_the_result_by_its_content(endpoint: Endpoint, tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("{{prompt}} {{first}} {{second}} {{answer}}")
    judge = spec_of(ensemble(http(endpoint), llm(endpoint, template=str(file))))
    before = content_digest(judge, tmp_path)
    file.write_text("Now: {{prompt}} {{first}} {{second}} {{answer}}")
    assert before is not None
    assert content_digest(judge, tmp_path) != before
