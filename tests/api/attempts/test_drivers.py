"""The routes of a driver: claim, heartbeat, journal, end; each sent once, twice, late, and by the wrong one."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from tests.api.rows import add_run
from xpo_ray import __version__
from xpo_ray.api.attempts.store import begin_attempt
from xpo_ray.api.database.tables import Attempt, Evaluation, Event, Key, Run, Stage, Step
from xpo_ray.api.services import Services

RUN = "run_driver"
NONCE = "n" * 32
Rows = dict[str, Any]


@pytest.fixture
def ticket(both_databases: str, services: Services, api: TestClient) -> str:
    """A run whose first attempt was begun; its ticket. Every test asks for it, so that every test runs on both databases."""
    assert both_databases
    assert api, "the app has made the tables and the keys"
    with services.database.read() as session:
        owner = session.scalar(select(Key.id))
    assert owner is not None
    add_run(services, RUN, owner, status="queued", progress={})
    return begin(services)


def begin(services: Services) -> str:
    with services.database.write() as session:
        return begin_attempt(session, session.get_one(Run, RUN), services.clock())[1]


def call(api: TestClient, verb: str, body: Rows, token: str = "", number: int = 1) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return api.post(f"/v1/driver/runs/{RUN}/attempts/{number}/{verb}", json=body, headers=headers)


def claim(api: TestClient, ticket: str, nonce: str = NONCE, version: str = __version__, number: int = 1) -> Any:
    body = {"ticket": ticket, "nonce": nonce, "versions": {"xpo-ray": version}}
    return call(api, "claim", body, number=number)


def row(services: Services, number: int = 1) -> Attempt:
    with services.database.read() as session:
        return session.get_one(Attempt, (RUN, number))


def run_row(services: Services) -> Run:
    with services.database.read() as session:
        return session.get_one(Run, RUN)


def test_a_run_whose_judge_is_no_longer_on_the_operators_lists_is_paused_before_its_next_attempt_and_says_why(
    api: TestClient, services: Services, ticket: str, admin: dict[str, str]
) -> None:
    """The service's lists may be shorter when it starts again; here they are empty."""
    judge = {"kind": "http", "url": "http://judge.example/x?key=sesame"}
    with services.database.write() as session:
        session.get_one(Run, RUN).spec = {"judge": judge, "evaluation": {"judge": None}}
    refused = claim(api, ticket)
    assert (refused.status_code, refused.json()["code"]) == (409, "url_not_allowed")
    run = run_row(services)
    assert (run.status, row(services).ending, row(services).state) == ("paused", "paused", "ended")
    assert run.waiting_for == (
        "spec.judge.url 'http://judge.example/x': the host is not on the operator's list http_hosts (name, or name:port). "
        "It was when the run was submitted; ask the operator, then resume the run"
    )
    assert claim(api, ticket).json()["code"] == "attempt_superseded"
    again = api.post(f"/v1/runs/{RUN}/resume", headers=admin)
    assert (again.status_code, again.json()["field"]) == (422, "spec.judge.url")
    assert "sesame" not in again.text


def test_a_run_whose_secret_the_operator_has_taken_back_waits_for_it(
    api: TestClient, services: Services, ticket: str
) -> None:
    with services.database.write() as session:
        session.get_one(Run, RUN).secrets = ["JUDGE_TOKEN"]
    assert claim(api, ticket).json()["code"] == "secret_missing"
    assert run_row(services).status == "paused"
    assert "the service has no secret JUDGE_TOKEN any more; ask the operator for it" in (
        run_row(services).waiting_for or ""
    )


def record(seq: int, kind: str, **values: Any) -> Rows:
    return {"seq": seq, "attempt": 1, "at": 1.8e9 + seq, "type": kind, **values}


STARTED = {"run_id": RUN, "attempt": 1, "iterations": 2, "total_steps": 6, "dashboard": None}


def shard(seq: int, stage: str = "scored", *, fresh: bool = True) -> Rows:
    values = {"iteration": 1, "shard": seq, "stage": stage, "prompts": 8, "seconds": 0.5, "counts": {"tokens": 10.0}}
    return record(seq, "ShardDone", **values, fresh=fresh)


def step(seq: int, total: int, *, replayed: bool = False) -> Rows:
    values = {"iteration": 1, "step": total, "total_step": total, "metrics": {"loss": float(seq)}, "seconds": 0.5}
    return record(seq, "StepDone", **values, replayed=replayed)


def send(api: TestClient, token: str, records: list[Rows], number: int = 1, of: int = 1) -> Any:
    return call(api, "journal", {"attempt": of, "first": records[0]["seq"], "records": records}, token, number)


@pytest.fixture
def token(api: TestClient, ticket: str) -> str:
    return str(claim(api, ticket).json()["token"])


def test_the_same_claim_again_has_the_same_token_and_another_driver_is_refused(api: TestClient, ticket: str) -> None:
    first, again, other = claim(api, ticket), claim(api, ticket), claim(api, ticket, nonce="o" * 32)
    assert first.status_code == again.status_code == 200
    assert first.json()["token"] == again.json()["token"]
    assert (other.status_code, other.json()["code"]) == (409, "attempt_claimed")


def test_a_driver_of_another_version_and_one_without_the_ticket_are_refused(api: TestClient, ticket: str) -> None:
    assert claim(api, ticket, version="0.0.1").json()["code"] == "version_mismatch"
    assert claim(api, "ticket_wrong").status_code == 401


def test_a_claim_hands_over_the_named_secrets_and_no_others(
    services: Services, api: TestClient, ticket: str, tmp_path: Path
) -> None:
    file = tmp_path / "secrets.json"
    file.write_text('{"MINE": "canary", "OTHER": "hidden"}')
    services.settings = services.settings.model_copy(update={"secrets_file": file})
    with services.database.write() as session:
        session.get_one(Run, RUN).secrets = ["MINE"]
    assert claim(api, ticket).json()["secrets"] == {"MINE": "canary"}


def test_a_token_is_good_for_its_own_attempt_alone(services: Services, api: TestClient, token: str) -> None:
    assert call(api, "heartbeat", {}, token).json() == {"wanted": "run"}
    assert call(api, "heartbeat", {}, "attempt_other").status_code == 401
    assert call(api, "heartbeat", {}).status_code == 401
    assert call(api, "end", {"ending": "died"}, token).status_code == 200
    begin(services)
    assert call(api, "heartbeat", {}, token, number=2).status_code == 401


def test_a_heartbeat_says_what_is_wanted(services: Services, api: TestClient, token: str) -> None:
    with services.database.write() as session:
        session.get_one(Run, RUN).status = "pausing"
    assert call(api, "heartbeat", {"known": "run", "wait_s": 5.0}, token).json() == {"wanted": "pause"}
    assert row(services).heartbeat_at == services.clock()


def test_records_become_events_series_and_progress_once(services: Services, api: TestClient, token: str) -> None:
    records = [
        record(1, "RunStarted", **STARTED),
        shard(2),
        step(3, 1),
        step(4, 2),
        record(5, "EvaluationDone", iteration=1, metrics={"reward": 0.5}, seconds=1.0),
    ]
    assert send(api, token, records).json() == {"shipped": 5}
    assert send(api, token, records[1:]).json() == {"shipped": 5}
    run = run_row(services)
    assert run.status == "running"
    assert {k: run.progress[k] for k in ("prompts", "steps", "total_steps", "seconds_remaining")} == {
        "prompts": 8,
        "steps": 2,
        "total_steps": 6,
        "seconds_remaining": 4.0,
    }
    with services.database.read() as session:
        kinds = list(session.scalars(select(Event.type).where(Event.run_id == RUN).order_by(Event.seq)))
        assert session.get_one(Evaluation, (RUN, 1)).metrics == {"reward": 0.5}
        assert session.get_one(Stage, (RUN, 1, "scored")).prompts == 8
        assert len(list(session.scalars(select(Step).where(Step.run_id == RUN)))) == 2
    assert kinds.count("step_done") == 2
    assert row(services).progressed


def test_a_gap_is_refused_and_a_step_done_again_is_counted_as_such(
    services: Services, api: TestClient, token: str
) -> None:
    gap = send(api, token, [step(3, 1)])
    assert (gap.status_code, gap.json()["code"]) == (409, "journal_gap")
    send(api, token, [record(1, "RunStarted", **STARTED), step(2, 1), step(3, 1, replayed=True)])
    assert run_row(services).progress["replayed_steps"] == 1
    with services.database.read() as session:
        assert session.get_one(Step, (RUN, 1)).metrics == {"loss": 3.0}


def test_the_next_attempt_ships_what_the_first_one_did_not(services: Services, api: TestClient, token: str) -> None:
    send(api, token, [record(1, "RunStarted", **STARTED)])
    call(api, "end", {"ending": "died"}, token)
    granted = claim(api, begin(services), number=2).json()
    assert granted["shipped"] == {"1": 1, "2": 0}
    assert send(api, granted["token"], [step(2, 1)], number=2, of=1).json() == {"shipped": 2}
    with services.database.read() as session:
        told = session.scalars(select(Event.attempt).where(Event.run_id == RUN, Event.type == "step_done"))
        assert list(told) == [1]


def test_a_superseded_driver_is_told_to_stop_and_writes_nothing(
    services: Services, api: TestClient, token: str
) -> None:
    call(api, "end", {"ending": "died"}, token)
    begin(services)
    assert call(api, "heartbeat", {}, token).json() == {"wanted": "superseded"}
    for answer in (send(api, token, [step(1, 1)]), call(api, "end", {"ending": "succeeded"}, token)):
        assert (answer.status_code, answer.json()["code"]) == (409, "attempt_superseded")
    assert run_row(services).status == "starting"


def test_success_counts_once_and_its_lost_answer_is_given_again(
    services: Services, api: TestClient, token: str
) -> None:
    send(api, token, [record(1, "RunStarted", **STARTED)])
    last = {"ending": "succeeded", "result": {"selected": 2, "tier": "exact", "folder": "attempts/0001"}}
    assert call(api, "end", last, token).status_code == call(api, "end", last, token).status_code == 200
    run = run_row(services)
    assert run.result is not None
    assert (run.status, run.result["selected"]) == ("succeeded", 2)
    with services.database.read() as session:
        ends = session.scalars(select(Event.type).where(Event.run_id == RUN, Event.type == "attempt_ended"))
        assert len(list(ends)) == 1


def test_a_last_word_said_again_tidies_up_behind_a_service_that_was_killed(
    services: Services, api: TestClient, token: str
) -> None:
    root = services.run_folder(RUN)
    folder = root / "attempts" / "0001"
    last = {"ending": "succeeded", "result": {"selected": 2, "tier": "exact", "folder": "attempts/0001"}}
    assert call(api, "end", last, token).status_code == 200
    (root / "prompts").mkdir(parents=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ticket").write_text("t")
    (folder / "result.unconfirmed.json").write_text("{}")
    assert call(api, "end", last, token).status_code == 200
    assert not (root / "prompts").exists()
    assert [p.name for p in folder.iterdir()] == ["result.json"]


ERROR = {"code": "judge_failed", "message": "no scores", "kind": "user", "traceback": "Traceback"}


def test_an_error_of_the_user_fails_the_run_at_once(services: Services, api: TestClient, token: str) -> None:
    call(api, "end", {"ending": "failed", "error": ERROR}, token)
    assert (run_row(services).status, run_row(services).error) == ("failed", ERROR)


def test_deaths_without_progress_are_tried_again_with_pauses_until_the_limit(
    services: Services, api: TestClient, token: str
) -> None:
    waits = []
    for number in range(1, 6):
        assert (
            call(api, "end", {"ending": "died", "error": {**ERROR, "kind": "system"}}, token, number).status_code == 200
        )
        run = run_row(services)
        if run.status == "failed":
            break
        assert run.retry_at is not None
        waits.append((run.retry_at - services.clock()).total_seconds())
        token = claim(api, begin(services), number=number + 1).json()["token"]
    assert waits == [2.0, 4.0, 8.0, 16.0]
    assert (run.status, run.attempt) == ("failed", 5)


def test_progress_resets_the_count(services: Services, api: TestClient, token: str) -> None:
    send(api, token, [record(1, "RunStarted", **STARTED), step(2, 1)])
    call(api, "end", {"ending": "died"}, token)
    run = run_row(services)
    assert (run.status, run.fruitless, run.retry_at) == ("starting", 0, services.clock())


@pytest.mark.parametrize(("ending", "status"), [("paused", "paused"), ("cancelled", "cancelled")])
def test_a_job_that_was_stopped_from_outside_brings_its_run_along(
    services: Services, api: TestClient, token: str, ending: str, status: str
) -> None:
    call(api, "end", {"ending": ending}, token)
    assert run_row(services).status == status


@pytest.mark.parametrize("wanted", ["run", "cancel"])
def test_a_driver_whose_judge_is_out_of_reach_pauses_its_run_and_says_why(
    services: Services, api: TestClient, admin: dict[str, str], token: str, wanted: str
) -> None:
    if wanted == "cancel":
        api.post(f"/v1/runs/{RUN}/cancel", headers=admin)
    error = {"code": "judge_unreachable", "message": "judge http:h could not be reached", "kind": "system"}
    assert call(api, "end", {"ending": "paused", "error": error}, token).status_code == 200
    run = api.get(f"/v1/runs/{RUN}", headers=admin).json()
    if wanted == "cancel":
        assert (run["status"], run["waiting_for"]) == ("cancelled", None)
        return
    assert (run["status"], run["waiting_for"], run["error"]) == ("paused", error["message"], None)
    assert row(services).error == {**error, "traceback": None}
    resumed = api.post(f"/v1/runs/{RUN}/resume", headers=admin).json()
    assert (resumed["status"], resumed["waiting_for"]) == ("queued", None)
