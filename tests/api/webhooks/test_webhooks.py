"""Webhooks: who may make them, what is noted with a status change, and how a real receiver gets it."""

import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from tests.api.clock import SettableClock
from tests.api.conftest import Headers
from tests.api.rows import add_run
from tests.api.webhooks.receiving import Receiver, receiving
from xpo_ray.api.database.tables import Delivery, Run, Webhook
from xpo_ray.api.runs.life import move
from xpo_ray.api.services import Services
from xpo_ray.api.settings import Settings
from xpo_ray.api.webhooks.deliveries import MOST_FAILURES, MOST_TRIES, deliver_due, pause_s

RUN = "run_told"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as listening:
        yield listening


@pytest.fixture
def settings(settings: Settings, receiver: Receiver) -> Settings:
    return settings.model_copy(update={"http_hosts": (receiver.host, "hooks.example")})


@pytest.fixture
def hook(api: TestClient, submitter: Headers, receiver: Receiver) -> dict[str, Any]:
    """A webhook for all runs of the submitter."""
    answer = api.post("/v1/webhooks", json={"url": receiver.url(), "all_runs": True}, headers=submitter)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def fail_run(services: Services, *, run_id: str = RUN, named: tuple[str, ...] = ()) -> None:
    """A run of the submitter that goes from running to failed."""
    with services.database.read() as session:
        owner = session.scalars(select(Webhook.owner)).first()
    assert owner is not None
    add_run(services, run_id, owner, webhooks=list(named))
    with services.database.write() as session:
        move(session, session.get_one(Run, run_id), "failed", services.clock(), why="a test")


def messages(services: Services) -> list[Delivery]:
    with services.database.read() as session:
        return list(session.scalars(select(Delivery).order_by(Delivery.due_at)))


def webhook(services: Services) -> Webhook:
    with services.database.read() as session:
        return session.scalars(select(Webhook)).one()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/hook",
        "http://hooks.example:8080/",
        "http://hooks.example.evil.test/",
        "http://user:word@hooks.example/",
        "ftp://hooks.example/",
        "http://hooks.example:port/",
        "hooks.example",
    ],
)
def test_a_host_that_is_not_on_the_list_is_refused(api: TestClient, submitter: Headers, url: str) -> None:
    answer = api.post("/v1/webhooks", json={"url": url}, headers=submitter)
    assert (answer.status_code, answer.json()["code"]) == (422, "url_not_allowed")


def test_a_secret_is_shown_once_and_others_do_not_see_the_webhook(
    api: TestClient, submitter: Headers, admin: Headers, make_headers: Any, hook: dict[str, Any]
) -> None:
    assert hook["secret"].startswith("whsec_")
    for headers in (submitter, admin):
        (listed,) = api.get("/v1/webhooks", headers=headers).json()["items"]
        assert listed == {name: value for name, value in hook.items() if name != "secret"}
    other = make_headers("submit", name="other")
    assert api.get("/v1/webhooks", headers=other).json()["items"] == []
    assert api.delete(f"/v1/webhooks/{hook['id']}", headers=other).status_code == 404
    assert api.delete(f"/v1/webhooks/{hook['id']}", headers=submitter).status_code == 204
    assert api.get("/v1/webhooks", headers=submitter).json()["items"] == []


@pytest.mark.usefixtures("both_databases")
def test_a_delivery_is_signed_and_tells_of_the_status_change(
    services: Services, receiver: Receiver, hook: dict[str, Any]
) -> None:
    fail_run(services)
    assert deliver_due(services) == 1
    assert deliver_due(services) == 0
    ((path, headers, body),) = receiver.arrived
    told = json.loads(body)
    assert path == "/hook"
    assert (told["type"], told["run"], told["status"]) == ("run.failed", RUN, "failed")
    assert headers["x-xpo-delivery"] == told["id"]
    expected = hmac.new(hook["secret"].encode(), f"{headers['x-xpo-timestamp']}.".encode() + body, "sha256").hexdigest()
    assert headers["x-xpo-signature"] == f"sha256={expected}"
    assert [m.state for m in messages(services)] == ["delivered"]


def test_what_is_rolled_back_is_not_told(services: Services, hook: dict[str, Any]) -> None:
    assert hook
    with services.database.read() as session:
        owner = session.scalars(select(Webhook.owner)).one()
    add_run(services, RUN, owner)
    with pytest.raises(RuntimeError), services.database.write() as session:  # noqa: PT012
        move(session, session.get_one(Run, RUN), "failed", services.clock(), why="a test")
        raise RuntimeError("the transaction fails")
    assert messages(services) == []


def test_only_webhooks_that_want_it_are_told(services: Services, api: TestClient, submitter: Headers) -> None:
    host = "http://hooks.example"
    asked = [
        {"url": f"{host}/named"},
        {"url": f"{host}/not-named"},
        {"url": f"{host}/another-trigger", "all_runs": True, "triggers": ["succeeded"]},
        {"url": f"{host}/all", "all_runs": True},
    ]
    made = [api.post("/v1/webhooks", json=each, headers=submitter).json() for each in asked]
    fail_run(services, named=(made[0]["id"],))
    assert {m.webhook_id for m in messages(services)} == {made[0]["id"], made[3]["id"]}


def test_a_refused_delivery_is_tried_again_with_longer_pauses_and_given_up_in_the_end(
    services: Services, receiver: Receiver, clock: SettableClock, hook: dict[str, Any]
) -> None:
    assert hook
    receiver.answer = 503
    fail_run(services)
    for tries in range(1, MOST_TRIES + 1):
        assert deliver_due(services) == 1
        assert deliver_due(services) == 0
        clock.advance(seconds=pause_s(tries))
    assert deliver_due(services) == 0
    (message,) = messages(services)
    assert (message.state, message.tries, message.last_error) == ("given_up", 12, "the receiver answered 503")
    assert webhook(services).failures == MOST_TRIES
    assert [pause_s(n) for n in (1, 2, 3, 12, 13, 100)] == [1.0, 2.0, 4.0, 2048.0, 3600.0, 3600.0]


def test_success_resets_the_count_and_many_failures_in_a_row_disable_until_a_test_arrives(
    services: Services, api: TestClient, submitter: Headers, receiver: Receiver, hook: dict[str, Any]
) -> None:
    receiver.answer = 500
    for number in range(MOST_FAILURES):
        fail_run(services, run_id=f"{RUN}{number}")
    while deliver_due(services):
        pass
    assert webhook(services).disabled_at is not None
    assert {m.state for m in messages(services)} == {"given_up"}
    fail_run(services, run_id=f"{RUN}later")
    assert len(messages(services)) == MOST_FAILURES
    failed = api.post(f"/v1/webhooks/{hook['id']}/test", headers=submitter).json()
    assert (failed["delivered"], failed["status"]) == (False, 500)
    receiver.answer = 204
    assert api.post(f"/v1/webhooks/{hook['id']}/test", headers=submitter).json()["delivered"]
    assert json.loads(receiver.arrived[-1][2])["type"] == "test"
    assert (webhook(services).disabled_at, webhook(services).failures) == (None, 0)


def test_a_redirect_is_not_followed(services: Services, receiver: Receiver, hook: dict[str, Any]) -> None:
    assert hook
    receiver.answer, receiver.location = 307, receiver.url("/elsewhere")
    fail_run(services)
    deliver_due(services)
    assert [path for path, _, _ in receiver.arrived] == ["/hook"]
    assert messages(services)[0].last_error == "the receiver answered 307"


def test_a_host_that_was_taken_off_the_list_hears_nothing_more(
    services: Services, receiver: Receiver, hook: dict[str, Any]
) -> None:
    assert hook
    fail_run(services)
    services.settings = services.settings.model_copy(update={"http_hosts": ()})
    deliver_due(services)
    assert receiver.arrived == []
    assert "operator's list" in (messages(services)[0].last_error or "")


def test_a_message_that_a_killed_service_was_sending_is_sent_after_its_lease(
    services: Services, receiver: Receiver, clock: SettableClock, hook: dict[str, Any]
) -> None:
    assert hook
    fail_run(services)
    with services.database.write() as session:
        message = session.scalars(select(Delivery)).one()
        message.tries, message.due_at = 1, services.clock().replace(minute=30)
    assert deliver_due(services) == 0
    clock.advance(hours=1)
    assert deliver_due(services) == 1
    assert len(receiver.arrived) == 1
