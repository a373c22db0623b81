"""Each rule of calling, against a real server that misbehaves: what is tried again, how often, and what is said of it."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.xpo_ray.judges.remote.endpoint import Endpoint, Reply
from xpo_ray.errors import JudgeError
from xpo_ray.judges.remote.caller import MOST_ANSWER_BYTES, Caller
from xpo_ray.judges.remote.outcomes import Answered, Failed, Refused, Request, Unreadable
from xpo_ray.spec import HttpJudge

QUICK = {"retries": 2, "timeout_s": 5.0, "cool_down_s": 0.2, "patience_s": 1.0, "breaker_failures": 50}
FINE = Reply(text='{"fine": true}')


def read(answer: bytes) -> bool:
    """Fine, or an answer that cannot be used."""
    try:
        found = json.loads(answer)
    except ValueError as error:
        raise Unreadable("not JSON") from error
    if "never" in found:
        raise Refused("it will never do")
    return bool(found["fine"])


@pytest.fixture
def calls(endpoint: Endpoint) -> Iterator[Any]:
    """calls(3, retries=0): the outcomes of so many requests by one caller with these settings."""
    endpoint.behaviour = lambda _: FINE
    made: list[Caller] = []

    def called(count: int = 1, url: str | None = None, **settings: Any) -> list[Answered[bool] | Failed]:
        if not made:
            at = url or endpoint.url
            spec = HttpJudge.model_validate({"kind": "http", "url": at, **QUICK, **settings})
            made.append(Caller(spec, at))
        return made[0].each([Request({"number": i}, read) for i in range(count)])

    called.made = made  # type: ignore[attr-defined]
    yield called
    for caller in made:
        caller.close()


def the(outcomes: list[Answered[bool] | Failed]) -> Failed:
    """The one outcome, which is a failure."""
    (outcome,) = outcomes
    assert isinstance(outcome, Failed)
    return outcome


def test_answers_come_in_the_order_of_the_requests(calls: Any, endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda body: Reply(text=json.dumps({"fine": body["number"] % 2 == 0}))
    assert [o.value for o in calls(20)] == [i % 2 == 0 for i in range(20)]


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_an_endpoint_that_fails_is_tried_again(calls: Any, endpoint: Endpoint, status: int) -> None:
    endpoint.waiting.extend([Reply(status), Reply(status)])
    assert calls() == [Answered(True, 3)]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_when_the_tries_are_used_up_it_is_out_of_reach(calls: Any, endpoint: Endpoint, status: int) -> None:
    endpoint.behaviour = lambda _: Reply(status, "overloaded")
    failed = the(calls())
    assert (failed.tries, failed.unreachable, failed.divisible) == (3, True, True)
    assert f"answered {status}: 'overloaded'" in failed.reason
    assert len(endpoint.bodies) == 3


@pytest.mark.parametrize(("status", "divisible"), [(400, True), (422, True), (413, True), (404, False)])
def test_another_refusal_is_never_tried_again(calls: Any, endpoint: Endpoint, status: int, divisible: bool) -> None:
    endpoint.behaviour = lambda _: Reply(status, "no")
    failed = the(calls())
    assert (failed.tries, failed.unreachable, failed.divisible) == (1, False, divisible)
    assert len(endpoint.bodies) == 1


@pytest.mark.parametrize(
    ("status", "variable", "remedy"),
    [
        (401, None, "set judge.token_env to the environment variable with its token"),
        (403, "MY_TOKEN", "put a token that the endpoint takes into MY_TOKEN"),
    ],
)
def test_an_endpoint_that_takes_no_token_is_not_tried_again_and_a_new_token_may_help(
    calls: Any, endpoint: Endpoint, status: int, variable: str | None, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "old")
    endpoint.behaviour = lambda _: Reply(status, "who are you?")
    failed = the(calls(token_env=variable))
    assert (failed.tries, failed.unreachable, calls.made[0].down) == (1, True, False)
    assert failed.reason.endswith(f"answered {status}: 'who are you?'; {remedy}")


def test_a_host_that_is_unknown_is_out_of_reach_and_the_field_is_told(calls: Any) -> None:
    failed = the(calls(url="http://nobody.invalid/judge", retries=0))
    assert failed.unreachable
    assert failed.reason.endswith("; check the host in judge.url")


def test_an_endpoint_without_tls_is_out_of_reach_by_https_and_the_remedy_is_told(
    calls: Any, endpoint: Endpoint
) -> None:
    failed = the(calls(url=endpoint.url.replace("http:", "https:"), retries=0))
    assert failed.unreachable
    assert failed.reason.endswith("; where the endpoint speaks no TLS, judge.url begins with http://")


def test_a_connection_that_is_cut_is_tried_again(calls: Any, endpoint: Endpoint) -> None:
    endpoint.waiting.append(Reply(cut=True))
    assert calls() == [Answered(True, 2)]


def test_where_nobody_listens_it_is_out_of_reach(calls: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        failed = the(calls(url=f"http://127.0.0.1:{free.getsockname()[1]}/judge", retries=1))
    assert (failed.tries, failed.unreachable) == (2, True)
    assert "ConnectError" in failed.reason


def test_a_slow_answer_is_given_up_at_the_time_limit_and_tried_again(calls: Any, endpoint: Endpoint) -> None:
    endpoint.waiting.append(Reply(text=FINE.text, delay_s=1.0))
    assert calls(timeout_s=0.3) == [Answered(True, 2)]


def test_an_answer_that_drips_is_given_up_at_the_time_limit_too(calls: Any, endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: Reply(text=" " * 40 + FINE.text, drip_s=0.05)
    failed = the(calls(timeout_s=0.3, retries=0))
    assert failed.unreachable
    assert "gave no whole answer within judge.timeout_s 0.3" in failed.reason


def test_the_pause_that_a_retry_after_asks_for_is_kept_by_all(calls: Any, endpoint: Endpoint) -> None:
    endpoint.waiting.append(Reply(429, headers={"Retry-After": "1"}))
    outcomes = calls(5, concurrency=1)
    assert [o.tries for o in outcomes] == [2, 1, 1, 1, 1]
    assert endpoint.at[1] - endpoint.at[0] >= 1.0


def test_a_pause_that_is_longer_than_the_patience_ends_the_tries(calls: Any, endpoint: Endpoint) -> None:
    endpoint.waiting.append(Reply(503, headers={"Retry-After": "3600"}))
    failed = the(calls(patience_s=2.0))
    assert (failed.tries, failed.unreachable) == (1, True)
    assert failed.reason.endswith("it asks for a pause of 3600 s, longer than judge.patience_s 2")


def test_a_redirect_is_not_followed(calls: Any, endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: Reply(307, headers={"Location": "http://169.254.169.254/latest"})
    failed = the(calls())
    assert (failed.tries, failed.unreachable, len(endpoint.bodies)) == (1, False, 1)
    assert "'http://169.254.169.254/latest', redirects are not followed" in failed.reason


def test_a_huge_answer_is_not_read_to_its_end(calls: Any, endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: Reply(text=b" " * (MOST_ANSWER_BYTES + 1))
    failed = the(calls())
    assert (failed.tries, failed.unreachable) == (1, False)
    assert "more than 8 MiB" in failed.reason


def test_a_compressed_answer_is_not_unpacked(calls: Any, endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: Reply(text="whatever", headers={"Content-Encoding": "gzip"})
    assert "as 'gzip', but identity was asked for" in the(calls()).reason


@pytest.mark.parametrize(
    "reply",
    [Reply(503, "whatever", {"Content-Encoding": "gzip"}), Reply(503, b" " * (MOST_ANSWER_BYTES + 1))],
    ids=["compressed", "huge"],
)
def test_a_failure_is_one_however_it_is_sent(calls: Any, endpoint: Endpoint, reply: Reply) -> None:
    endpoint.waiting.append(reply)
    assert calls() == [Answered(True, 2)]


def test_garbage_is_tried_again_and_is_no_outage(calls: Any, endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: Reply(text="<html>hello</html>")
    failed = the(calls(breaker_failures=1))
    assert (failed.tries, failed.unreachable, failed.divisible) == (3, False, True)
    assert failed.reason == "not JSON; it answered '<html>hello</html>'"
    assert not calls.made[0].down


def test_what_the_reader_refuses_is_final(calls: Any, endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: Reply(text='{"never": 1}')
    assert the(calls()) == Failed("it will never do", 1)


def test_no_more_requests_than_the_concurrency_are_under_way(calls: Any, endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: Reply(text=FINE.text, delay_s=0.05)
    assert len(calls(24, concurrency=3)) == 24
    assert endpoint.most_at_once == 3


def test_connections_stay_open(calls: Any, endpoint: Endpoint) -> None:
    calls(12, concurrency=2)
    calls(12)
    assert len(endpoint.connections) <= 2


def test_while_the_breaker_is_open_one_probe_for_each_cool_down_is_sent(calls: Any, endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: Reply(503)
    outcomes = calls(20, breaker_failures=4, concurrency=1, retries=1, cool_down_s=0.3, patience_s=1.0)
    assert all(isinstance(o, Failed) and o.unreachable and "answered 503" in o.reason for o in outcomes)
    opened, probes = endpoint.at[3], endpoint.at[4:]
    assert 1 <= len(probes) <= 4  # of the second that it waited
    assert all(later - earlier >= 0.3 for earlier, later in zip([opened, *probes], probes, strict=False))
    assert calls.made[0].down


def test_an_endpoint_that_comes_back_within_the_patience_loses_nothing(calls: Any, endpoint: Endpoint) -> None:
    since = time.monotonic()
    endpoint.behaviour = lambda _: FINE if time.monotonic() - since > 0.8 else Reply(503)
    outcomes = calls(20, breaker_failures=4, concurrency=4, retries=5, cool_down_s=0.2, patience_s=20.0)
    assert all(isinstance(o, Answered) for o in outcomes)
    assert not calls.made[0].down


def test_requests_and_further_tries_are_counted_once(calls: Any, endpoint: Endpoint) -> None:
    endpoint.waiting.append(Reply(500))
    calls(4, concurrency=1)
    assert calls.made[0].take_counts() == {"judge_requests": 5.0, "judge_retries": 1.0}
    assert calls.made[0].take_counts() == {"judge_requests": 0.0, "judge_retries": 0.0}


def test_the_environments_proxies_are_not_used(calls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert calls() == [Answered(True, 1)]


TOKEN = "tok-0123456789abcdef"


@pytest.mark.parametrize("status", [200, 400, 500, 307])
def test_the_token_is_sent_and_never_said_even_where_the_endpoint_sends_it_back(
    calls: Any, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("MY_JUDGE_TOKEN", TOKEN)
    echo = "x" * 190 + f"Bearer {TOKEN}"
    endpoint.behaviour = lambda _: Reply(status, echo, headers={"Location": f"/?{TOKEN}"})
    failed = the(calls(token_env="MY_JUDGE_TOKEN", retries=0, breaker_failures=1))
    assert endpoint.headers[0]["authorization"] == f"Bearer {TOKEN}"
    assert TOKEN[:6] not in failed.reason


@pytest.mark.parametrize("value", [None, "", "two words", "line\nbreak", "é"])
def test_a_token_that_is_not_there_or_cannot_be_sent_is_refused_without_showing_it(
    calls: Any, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("MY_JUDGE_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_JUDGE_TOKEN", value)
    with pytest.raises(JudgeError, match=r"judge\.token_env MY_JUDGE_TOKEN: ") as caught:
        calls(token_env="MY_JUDGE_TOKEN")
    assert not value or value not in str(caught.value)


def test_a_query_of_the_url_is_sent_and_not_shown(calls: Any, endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: Reply(404)
    assert "sesame" not in the(calls(url=f"{endpoint.url}?key=sesame")).reason
