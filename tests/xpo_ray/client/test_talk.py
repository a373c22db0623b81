"""Retries and refusals as lists of replies: no connection is needed to decide."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from xpo_ray.client import Refused, ServiceUnreachable
from xpo_ray.client.calls import (
    command_run,
    delete_run,
    get_run,
    register_dataset,
    register_model,
    submit,
    try_webhook,
    upload_dataset,
)
from xpo_ray.client.talk import TRIES, Broken, Call, Reply, Request, Wait, pause_of
from xpo_ray.wire.data import NewDataset, NewModel, RegisteredFiles
from xpo_ray.wire.runs import Submission

BUSY = Reply(503, {}, b"busy")


def hold(call: Call[Any], replies: list[Reply | Broken], sent: list[Request]) -> Any:
    """The answer of a talk that gets these replies; what it sends is noted."""
    talk = call.talk()
    step = next(talk)
    while True:
        try:
            if isinstance(step, Wait):
                step = talk.send(None)
            else:
                sent.append(step)
                step = talk.send(replies.pop(0))
        except StopIteration as end:
            return end.value


def test_a_submission_is_sent_again_under_the_same_key_of_its_own() -> None:
    sent: list[Request] = []
    refusal = Reply(422, {}, b"{}")
    with pytest.raises(Refused):
        hold(submit(Submission(spec={})), [Broken("reset"), BUSY, refusal], sent)
    keys = {request.headers["Idempotency-Key"] for request in sent}
    assert len(sent) == 3
    assert len(keys) == 1
    assert submit(Submission(spec={})).request.headers["Idempotency-Key"] not in keys


@pytest.mark.parametrize(
    "make",
    [
        lambda: upload_dataset("a", []),
        lambda: register_dataset(NewDataset(name="a", source=RegisteredFiles(kind="files", path="/a"))),
        lambda: register_model(NewModel(name="a", path="/a")),
    ],
)
def test_an_upload_or_a_registration_whose_answer_was_lost_is_sent_again_under_its_key(
    make: Callable[[], Call[Any]],
) -> None:
    sent: list[Request] = []
    with pytest.raises(Refused):
        hold(make(), [Broken("reset"), Reply(422, {}, b"{}")], sent)
    assert len(sent) == 2
    assert sent[0].headers["Idempotency-Key"] == sent[1].headers["Idempotency-Key"]
    assert make().request.headers["Idempotency-Key"] != sent[0].headers["Idempotency-Key"]


def test_an_upload_that_a_quota_refuses_is_not_sent_again() -> None:
    sent: list[Request] = []
    with pytest.raises(Refused):
        hold(upload_dataset("a", []), [BUSY, Reply(429, {"retry-after": "60"}, b"{}")], sent)
    assert len(sent) == 2


def test_another_post_is_never_sent_again() -> None:
    sent: list[Request] = []
    with pytest.raises(ServiceUnreachable, match="is not known"):
        hold(try_webhook("wh_1"), [Broken("reset")], sent)
    assert len(sent) == 1


def test_a_command_whose_answer_was_lost_is_given_again_because_an_obeyed_one_is_answered_alike() -> None:
    sent: list[Request] = []
    with pytest.raises(Refused):
        hold(command_run("run_1", "pause"), [Broken("reset"), Reply(404, {}, b"{}")], sent)
    assert [r.path for r in sent] == ["/v1/runs/run_1/pause"] * 2


def test_tries_end() -> None:
    sent: list[Request] = []
    with pytest.raises(ServiceUnreachable):
        hold(get_run("run_1"), [Broken("refused")] * TRIES, sent)
    assert len(sent) == TRIES


def test_a_delete_whose_answer_was_lost_has_succeeded_when_nothing_is_there_any_more() -> None:
    gone = Reply(404, {}, b"{}")
    assert hold(delete_run("run_1"), [Broken("reset"), gone], []) is None
    with pytest.raises(Refused):
        hold(delete_run("run_1"), [gone], [])


def test_waits_double_with_jitter_and_the_service_may_ask_for_more() -> None:
    assert [pause_of(BUSY, n, lambda: 1.0) for n in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert pause_of(BUSY, 1, lambda: 0.0) == 0.25
    assert pause_of(Reply(429, {"retry-after": "7"}, b""), 1) == 7.0
    assert pause_of(Reply(500, {}, b""), 1) is None


def test_a_refusal_says_field_code_and_request() -> None:
    problem = {"title": "t", "status": 422, "detail": "too large", "code": "spec_invalid", "request_id": "req_1"}
    body = json.dumps({**problem, "field": "spec.seed"}).encode()
    with pytest.raises(Refused, match=r"spec\.seed: too large") as caught:
        hold(get_run("run_1"), [Reply(422, {}, body)], [])
    assert (caught.value.code, caught.value.status, caught.value.request_id) == ("spec_invalid", 422, "req_1")
