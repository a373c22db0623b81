"""Judges behind endpoints as members of an ensemble, and behind the cache: what is sent, counted, and raised."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from tests.xpo_ray.judges.remote.chatting import longer, preferring, scoring, shown
from tests.xpo_ray.judges.remote.endpoint import Endpoint, Reply, judged, serving
from xpo_ray.errors import JudgeError, JudgeUnreachable
from xpo_ray.judges import Comparison, Judge, Message, Response, open_judge
from xpo_ray.judges.checks import check_judge, content_digest
from xpo_ray.judges.judgement import counts_of, remarks_of
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


def test_with_min_members_the_others_go_on_without_a_member_that_is_out_of_reach_and_say_so(
    endpoint: Endpoint, opening: Opening
) -> None:
    with serving(lambda _: Reply(503, "maintenance")) as away:
        judge = opening(ensemble(http(endpoint), http(away), http(endpoint), min_members=2, normalise="none"))
        said = judge.judge([asked("a", "bb"), asked("ccc", "d")])
        assert [told.scores for told in said] == [(1.0, 2.0), (3.0, 1.0)]
        assert {told.judge.count("http:") for told in said} == {2}
        assert counts_of(judge)["without_member"] == 2.0
        ((code, message),) = remarks_of(judge).items()
        assert code == "judge_member_1_away"
        assert "as judge.min_members 2 allows: judge.members.1.judge (http): judge http:" in message
        assert "answered 503: 'maintenance'" in message
        judge.judge([asked("a", "bb")])
        assert remarks_of(judge) == {}
        away.behaviour = judged
        time.sleep(QUICK["cool_down_s"])
        (back,) = judge.judge([asked("a", "bb")])
    assert back.judge.count("http:") == 3
    assert counts_of(judge)["without_member"] == 1.0


def test_fewer_members_than_min_members_within_reach_is_out_of_reach(endpoint: Endpoint, opening: Opening) -> None:
    with serving(lambda _: Reply(503, "maintenance")) as away:
        judge = opening(ensemble(http(away), http(endpoint), http(away), min_members=2))
        with pytest.raises(JudgeUnreachable, match=r"^judge\.members\.2\.judge \(http\): judge http:.*answered 503"):
            judge.judge([asked("a", "b")])


def test_a_call_that_ended_out_of_reach_does_not_silence_the_next_one_that_goes_on_without_a_member(
    endpoint: Endpoint, opening: Opening
) -> None:
    down = Reply(503, "maintenance")
    endpoint.behaviour = lambda _: down
    with serving(lambda _: down) as away, serving(judged) as other:
        judge = opening(ensemble(http(endpoint), http(away), http(other), min_members=2))
        with pytest.raises(JudgeUnreachable):
            judge.judge([asked("a", "b")])
        assert remarks_of(judge) == {}
        endpoint.behaviour = judged
        time.sleep(QUICK["cool_down_s"])
        judge.judge([asked("a", "b")])
        assert set(remarks_of(judge)) == {"judge_member_1_away"}


def test_a_prompt_that_waits_for_a_member_out_of_reach_is_not_dropped_and_one_that_never_can_is(
    endpoint: Endpoint, opening: Opening
) -> None:
    def refusing(body: dict[str, Any]) -> Reply:
        poison = any("poison" in c["prompt"][0]["content"] for c in body["comparisons"])
        return Reply(400, "no") if poison else judged(body)

    endpoint.behaviour = refusing
    prompts = [asked("a", "b", prompt=each) for each in ("one", "poison", "three")]
    with serving(refusing) as second, serving(lambda _: Reply(503, "maintenance")) as away:
        of_two = opening(ensemble(http(endpoint), http(away), http(second), min_members=2))
        assert [told.failed for told in of_two.judge(prompts)] == [False, True, False]
        of_one = opening(ensemble(http(endpoint), http(away), min_members=1))
        with pytest.raises(
            JudgeUnreachable, match=r"1 of 3 prompts .* than judge\.min_members 1, as judge\.members\.1"
        ):
            of_one.judge(prompts)


def test_a_member_that_cannot_be_opened_is_named(opening: Opening, endpoint: Endpoint, tmp_path: Path) -> None:
    raw = ensemble(http(endpoint), llm(endpoint, token_env="NO_SUCH_TOKEN"))
    for attempt in (lambda: opening(raw), lambda: check_judge(spec_of(raw), tmp_path)):
        with pytest.raises(
            JudgeError, match=r"^judge\.members\.1\.judge \(llm\): judge\.token_env NO_SUCH_TOKEN: this"
        ):
            attempt()
    raw = ensemble(http(endpoint, format="openrlhf", chat_template="./gone.jinja"), llm(endpoint))
    with pytest.raises(JudgeError, match=r"^evaluation\.judge\.members\.0\.judge \(http\): judge\.chat_template"):
        check_judge(spec_of(raw), tmp_path, "evaluation.judge")


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
    assert (counts["judge_known_answers"], counts["judge_requests"]) == (2.0, 1.0)
    assert sorted(shown(body) for body in endpoint.bodies) == [["a"], ["bb"], ["ccc"], ["dddd"]]


def test_a_members_template_decides_the_result_by_its_content(endpoint: Endpoint, tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("{{prompt}} {{first}} {{second}} {{answer}}")
    judge = spec_of(ensemble(http(endpoint), llm(endpoint, template=str(file))))
    before = content_digest(judge, tmp_path)
    file.write_text("Now: {{prompt}} {{first}} {{second}} {{answer}}")
    assert before is not None
    assert content_digest(judge, tmp_path) != before
