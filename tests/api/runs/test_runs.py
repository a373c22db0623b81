"""Runs over REST, on a real database; the files that specs name are real."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection, func, select

from tests.api.clock import SettableClock
from tests.api.conftest import Headers, MakeKey
from tests.api.rows import add_run
from xpo_ray.api.auth import Principal
from xpo_ray.api.database.connection import Database
from xpo_ray.api.database.tables import Run
from xpo_ray.api.idempotency import Idempotency
from xpo_ray.api.problems import Refusal
from xpo_ray.api.runs.admission import enqueue
from xpo_ray.api.runs.specs import resolved
from xpo_ray.api.services import Services
from xpo_ray.api.settings import Settings
from xpo_ray.wire.keys import Quotas
from xpo_ray.wire.runs import RunView, Submission

ALLOWED = {"judge": {"kind": "python", "function": "allowed:score"}}
SYSTEM = {"judge": {"kind": "python", "function": "os:system"}}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    (tmp_path / "files" / "base").mkdir(parents=True)
    (tmp_path / "files" / "train.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    lists = {"plugins": ("allowed:score",), "judge_actors": ("judges/allowed", "lab/*")}
    return settings.model_copy(update={"roots": (str(tmp_path / "files"),), **lists})


@pytest.fixture
def submission(tmp_path: Path) -> dict[str, Any]:
    files = tmp_path / "files"
    return {
        "spec": {
            "name": "tiny",
            "model": {"path": str(files / "base")},
            "data": {"source": {"kind": "files", "path": str(files / "train.jsonl")}},
            "algorithm": {"kind": "dpo"},
        }
    }


def test_a_submission_is_queued_with_a_seed_and_an_event(
    api: TestClient, services: Services, submitter: Headers, submission: dict[str, Any]
) -> None:
    answer = api.post("/v1/runs", json=submission, headers=submitter)
    assert answer.status_code == 201, answer.text
    run = answer.json()
    assert (run["status"], run["queue_position"], run["attempt"]) == ("queued", 1, 0)
    assert isinstance(run["spec"]["seed"], int)
    assert not services.run_folder(run["id"]).exists()  # until an attempt begins
    events = api.get(f"/v1/runs/{run['id']}/events", headers=submitter).json()["items"]
    assert [(e["seq"], e["type"]) for e in events] == [(1, "run_queued")]


def test_the_same_idempotency_key_makes_one_run(
    api: TestClient, submitter: Headers, submission: dict[str, Any]
) -> None:
    headers = {**submitter, "Idempotency-Key": "once"}
    ids = {api.post("/v1/runs", json=submission, headers=headers).json()["id"] for _ in range(2)}
    assert len(ids) == 1
    assert len(api.get("/v1/runs", headers=submitter).json()["items"]) == 1


def test_what_was_taken_once_is_not_refused_when_it_is_sent_again(
    api: TestClient, services: Services, submitter: Headers, submission: dict[str, Any]
) -> None:
    headers = {**submitter, "Idempotency-Key": "once"}
    first = api.post("/v1/runs", json=submission, headers=headers)
    services.settings = services.settings.model_copy(update={"roots": (), "disk_floor_mib": 1e12})
    assert api.post("/v1/runs", json=submission, headers=submitter).status_code == 507
    services.settings = services.settings.model_copy(update={"disk_floor_mib": 0.0})
    assert api.post("/v1/runs", json=submission, headers=submitter).json()["code"] == "path_not_allowed"
    for floor in (0.0, 1e12):
        services.settings = services.settings.model_copy(update={"disk_floor_mib": floor})
        again = api.post("/v1/runs", json=submission, headers=headers)
        assert (again.status_code, again.json(), again.headers["Idempotent-Replayed"]) == (201, first.json(), "true")
    other = {**submission, "priority": 3}
    refused = api.post("/v1/runs", json=other, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("path", ["/etc/passwd", "train.jsonl", "{root}/../secret.jsonl", "{root}/link.jsonl"])
def test_a_path_outside_the_roots_is_refused(
    api: TestClient, submitter: Headers, submission: dict[str, Any], tmp_path: Path, path: str
) -> None:
    (tmp_path / "files" / "link.jsonl").symlink_to("/etc/passwd")
    submission["spec"]["data"]["source"]["path"] = path.format(root=tmp_path / "files")
    answer = api.post("/v1/runs", json=submission, headers=submitter)
    assert (answer.status_code, answer.json()["field"]) == (422, "spec.data.source.path")


def test_every_hub_dataset_of_a_list_must_be_on_the_operators_list(
    api: TestClient, services: Services, submitter: Headers, submission: dict[str, Any]
) -> None:
    services.settings = services.settings.model_copy(update={"repositories": ("owner/*",)})
    source = {"kind": "hub", "name": ["owner/one", "other/two"], "limit": 48}
    submission["spec"]["data"]["source"] = source
    refused = api.post("/v1/runs", json=submission, headers=submitter).json()
    assert (refused["code"], refused["field"]) == ("repository_not_allowed", "spec.data.source.name")
    assert "'other/two'" in refused["detail"]
    source["name"] = ["owner/one", "owner/two"]
    assert api.post("/v1/runs", json=submission, headers=submitter).status_code == 201


def test_each_fault_of_a_spec_is_named_by_its_field(
    api: TestClient, submitter: Headers, submission: dict[str, Any]
) -> None:
    submission["spec"]["training"] = {"learning_rate": "fast", "batch_size": 0}
    answer = api.post("/v1/runs", json=submission, headers=submitter)
    assert (answer.status_code, answer.json()["code"]) == (422, "spec_invalid")
    fields = {e["field"] for e in answer.json()["errors"]}
    assert fields == {"spec.training.learning_rate", "spec.training.batch_size"}


def test_pause_resume_and_cancel_are_idempotent_and_a_final_run_stays_final(
    api: TestClient, submitter: Headers, submission: dict[str, Any]
) -> None:
    run = f"/v1/runs/{api.post('/v1/runs', json=submission, headers=submitter).json()['id']}"
    for command, status in (("pause", "paused"), ("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        assert api.post(f"{run}/{command}", headers=submitter).json()["status"] == status
    assert api.post(f"{run}/cancel", headers=submitter).status_code == 200
    answer = api.post(f"{run}/resume", headers=submitter)
    assert (answer.status_code, answer.json()["code"]) == (409, "run_state_conflict")
    stream = api.get(f"{run}/events/stream", headers={**submitter, "Last-Event-ID": "3"})
    assert [line for line in stream.text.splitlines() if line.startswith("id:")] == ["id: 4"]


def test_an_edit_needs_the_version_that_was_read(
    api: TestClient, submitter: Headers, submission: dict[str, Any]
) -> None:
    run = f"/v1/runs/{api.post('/v1/runs', json=submission, headers=submitter).json()['id']}"
    tag = api.get(run, headers=submitter).headers["etag"]
    assert api.patch(run, json={"priority": 5}, headers=submitter).status_code == 428
    changed = api.patch(run, json={"priority": 5}, headers={**submitter, "If-Match": tag})
    assert (changed.status_code, changed.json()["priority"]) == (200, 5)
    assert api.patch(run, json={"priority": 6}, headers={**submitter, "If-Match": tag}).status_code == 412


def test_a_run_is_deleted_with_its_files_once_it_is_final(
    api: TestClient, services: Services, submitter: Headers, submission: dict[str, Any]
) -> None:
    run_id = api.post("/v1/runs", json=submission, headers=submitter).json()["id"]
    assert api.delete(f"/v1/runs/{run_id}", headers=submitter).status_code == 409
    api.post(f"/v1/runs/{run_id}/cancel", headers=submitter)
    assert api.delete(f"/v1/runs/{run_id}", headers=submitter).status_code == 204
    assert api.get(f"/v1/runs/{run_id}", headers=submitter).status_code == 404
    assert not services.run_folder(run_id).exists()


def test_a_key_has_no_more_active_runs_than_its_quota(
    api: TestClient, make_headers: MakeKey, submission: dict[str, Any]
) -> None:
    headers = make_headers("submit", quotas=Quotas(active_runs=1))
    assert api.post("/v1/runs", json=submission, headers=headers).status_code == 201
    answer = api.post("/v1/runs", json=submission, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
    assert "retry-after" in answer.headers


def test_a_paused_run_comes_back_only_within_the_quota(
    both_databases: str, api: TestClient, make_headers: MakeKey, submission: dict[str, Any]
) -> None:
    headers = make_headers("submit", quotas=Quotas(active_runs=1))
    paused = f"/v1/runs/{api.post('/v1/runs', json=submission, headers=headers).json()['id']}"
    assert api.post(f"{paused}/pause", headers=headers).json()["status"] == "paused"
    other = f"/v1/runs/{api.post('/v1/runs', json=submission, headers=headers).json()['id']}"
    refused = api.post(f"{paused}/resume", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded"), both_databases
    assert api.post(f"{other}/cancel", headers=headers).status_code == 200
    for _ in range(2):  # the second finds it done
        assert api.post(f"{paused}/resume", headers=headers).json()["status"] == "queued"


def test_submissions_at_the_same_time_do_not_exceed_a_quota_together(
    both_databases: str, api: TestClient, services: Services, make_headers: MakeKey, submission: dict[str, Any]
) -> None:
    """The second counts only when the first is committed; each has noted its Idempotency-Key before, as the routes do."""
    headers = make_headers("submit", quotas=Quotas(active_runs=1))
    key_id = api.get("/v1/keys/self", headers=headers).json()["id"]
    caller = Principal(key_id, "test", frozenset({"submit"}), Quotas(active_runs=1), "key")
    asked, counting, refused = Submission.model_validate(submission), threading.Event(), list[Refusal]()

    def submit(run_id: str, before_commit: Callable[[], object] = lambda: None) -> None:
        spec = resolved(services, asked.spec, [], run_id)

        def effect(connection: Connection) -> RunView:
            counting.set()
            view = enqueue(connection, services, caller, run_id, asked, spec.model_dump(mode="json"))
            before_commit()
            return view

        Idempotency(run_id, "").answer(services, caller, effect)

    def second() -> None:
        try:
            submit("run_b")
        except Refusal as error:
            refused.append(error)

    late = threading.Thread(target=second)

    def meanwhile() -> None:
        counting.clear()
        late.start()
        if both_databases == "postgres":
            assert counting.wait(30)
        time.sleep(0.3)

    submit("run_a", meanwhile)
    late.join(60)
    assert [r.code for r in refused] == ["quota_exceeded"], both_databases
    assert [r["id"] for r in api.get("/v1/runs", headers=headers).json()["items"]] == ["run_a"]


def test_several_services_together_never_take_more_than_the_limit_of_queued_runs(
    both_databases: str, api: TestClient, services: Services, submitter: Headers, submission: dict[str, Any]
) -> None:
    """24 submissions at once to two processes of a service, as far as PostgreSQL knows; on SQLite there is one."""
    settings = services.settings
    narrow = settings.model_copy(update={"limits": settings.limits.model_copy(update={"queued_runs": 5})})
    count = 2 if both_databases == "postgres" else 1
    both = [Services(narrow, Database(settings.database), clock=services.clock) for _ in range(count)]
    key_id = api.get("/v1/keys/self", headers=submitter).json()["id"]
    caller = Principal(key_id, "test", frozenset({"submit"}), Quotas(), "key")
    asked, together = Submission.model_validate(submission), threading.Barrier(24)
    spec = resolved(services, asked.spec, [], "run_x").model_dump(mode="json")

    def submit(i: int) -> str:
        of = both[i % len(both)]
        together.wait(60)
        try:
            Idempotency(f"key {i}", "").answer(of, caller, lambda c: enqueue(c, of, caller, f"run_{i}", asked, spec))
        except Refusal as error:
            return error.code
        return "taken"

    with ThreadPoolExecutor(24) as pool:
        answers = Counter(pool.map(submit, range(24)))
    for of in both:
        of.database.close()
    assert answers == {"taken": 5, "quota_exceeded": 19}
    with services.database.read() as session:
        assert session.scalar(select(func.count()).where(Run.status == "queued")) == 5


def test_a_parent_stays_while_its_fork_is_there(
    api: TestClient, submitter: Headers, submission: dict[str, Any]
) -> None:
    parent = api.post("/v1/runs", json=submission, headers=submitter).json()["id"]
    api.post(f"/v1/runs/{parent}/cancel", headers=submitter)
    asked = {"iteration": 0, "changes": {"training": {"learning_rate": 1e-5}}}
    answer = api.post(f"/v1/runs/{parent}/fork", json=asked, headers=submitter)
    assert answer.status_code == 201, answer.text
    fork = answer.json()
    assert fork["forked_from"] == {"run": parent, "iteration": 0}
    assert fork["spec"]["training"]["learning_rate"] == 1e-5
    refused = api.delete(f"/v1/runs/{parent}", headers=submitter)
    assert (refused.status_code, refused.json()["code"]) == (409, "run_has_forks")
    api.post(f"/v1/runs/{fork['id']}/cancel", headers=submitter)
    assert api.delete(f"/v1/runs/{fork['id']}", headers=submitter).status_code == 204
    assert api.delete(f"/v1/runs/{parent}", headers=submitter).status_code == 204


def test_the_secrets_of_a_run_go_on_only_with_its_owner_or_an_admin(
    api: TestClient,
    services: Services,
    submitter: Headers,
    admin: Headers,
    reader: Headers,
    make_headers: MakeKey,
    submission: dict[str, Any],
    tmp_path: Path,
) -> None:
    (tmp_path / "secrets.json").write_text('{"HF_TOKEN": "a", "OTHER": "b"}')
    services.settings = services.settings.model_copy(update={"secrets_file": tmp_path / "secrets.json"})
    asked = {**submission, "secrets": ["HF_TOKEN"]}
    parent = api.post("/v1/runs", json=asked, headers=submitter).json()["id"]
    stranger = make_headers("submit", name="stranger")

    def forked(headers: Headers, **more: Any) -> list[str]:
        answer = api.post(f"/v1/runs/{parent}/fork", json={"iteration": 0, **more}, headers=headers)
        assert answer.status_code == 201, answer.text
        with services.database.read() as session:
            return session.get_one(Run, answer.json()["id"]).secrets

    assert [forked(who) for who in (submitter, admin, stranger)] == [["HF_TOKEN"], ["HF_TOKEN"], []]
    assert forked(stranger, secrets=["OTHER"]) == ["OTHER"]
    assert forked(submitter, secrets=[]) == []
    unknown = api.post(f"/v1/runs/{parent}/fork", json={"iteration": 0, "secrets": ["NONE"]}, headers=stranger)
    assert unknown.json()["code"] == "secret_unknown"
    assert api.post(f"/v1/runs/{parent}/fork", json={"iteration": 0}, headers=reader).status_code == 403


def test_a_fork_of_a_stranger_whose_export_needs_a_secret_says_so(
    api: TestClient,
    services: Services,
    submitter: Headers,
    make_headers: MakeKey,
    submission: dict[str, Any],
    tmp_path: Path,
) -> None:
    (tmp_path / "secrets.json").write_text('{"WANDB_API_KEY": "a"}')
    services.settings = services.settings.model_copy(update={"secrets_file": tmp_path / "secrets.json"})
    spec = {**submission["spec"], "exports": [{"kind": "wandb", "project": "p"}]}
    asked = {"spec": spec, "secrets": ["WANDB_API_KEY"]}
    parent = api.post("/v1/runs", json=asked, headers=submitter).json()["id"]
    stranger = make_headers("submit", name="stranger")
    answer = api.post(f"/v1/runs/{parent}/fork", json={"iteration": 0}, headers=stranger)
    assert (answer.status_code, answer.json()["field"]) == (422, "spec.exports.0")
    named = {"iteration": 0, "secrets": ["WANDB_API_KEY"]}
    assert api.post(f"/v1/runs/{parent}/fork", json=named, headers=stranger).status_code == 201


def test_no_checkpoint_no_fork(api: TestClient, submitter: Headers, submission: dict[str, Any]) -> None:
    parent = api.post("/v1/runs", json=submission, headers=submitter).json()["id"]
    answer = api.post(f"/v1/runs/{parent}/fork", json={"iteration": 1}, headers=submitter)
    assert (answer.status_code, answer.json()["code"]) == (409, "checkpoint_not_found")


def test_a_list_goes_on_behind_its_cursor_and_takes_filters(
    api: TestClient, submitter: Headers, admin: Headers, submission: dict[str, Any]
) -> None:
    ids = []
    for color in ("red", "red", "blue"):
        asked = {**submission, "metadata": {"color": color}}
        ids.append(api.post("/v1/runs", json=asked, headers=submitter).json()["id"])
    seen, after = [], None
    for _ in range(3):
        page = api.get("/v1/runs", params={"limit": 1, **({"after": after} if after else {})}, headers=submitter).json()
        seen += [r["id"] for r in page["items"]]
        after = page["next"]
    assert (sorted(seen), after) == (sorted(ids), None)
    api.post(f"/v1/runs/{ids[0]}/pause", headers=submitter)

    def listed(headers: Headers = submitter, **params: Any) -> set[str]:
        return {r["id"] for r in api.get("/v1/runs", params=params, headers=headers).json()["items"]}

    assert listed(metadata="color:red") == set(ids[:2])
    assert listed(metadata="color:red", status="queued") == {ids[1]}
    assert listed(status=["queued", "paused"]) == set(ids)
    assert listed(admin, owner="self") == set()
    assert api.get("/v1/runs", params={"after": "nonsense"}, headers=submitter).json()["code"] == "cursor_invalid"


@pytest.mark.parametrize(
    ("part", "value", "field"),
    [
        ("model", {"path": "someone/model"}, "spec.model.path"),
        ("model", {"path": "/etc"}, "spec.model.path"),
        ("judge", {"kind": "python", "function": "os:system"}, "spec.judge.function"),
        ("judge", {"kind": "pairrm", "path": "/etc"}, "spec.judge.path"),
        ("judge", {"kind": "pairrm", "path": "someone/PairRM"}, "spec.judge.path"),
        ("judge", {"kind": "actor", "name": "mine"}, "spec.judge.name"),
        (
            "judge",
            {"kind": "ensemble", "members": [{"judge": {"kind": "actor", "name": "mine"}}, SYSTEM]},
            "spec.judge.members.0.judge.name",
        ),
        ("judge", {"kind": "ensemble", "members": [ALLOWED, SYSTEM]}, "spec.judge.members.1.judge.function"),
        (
            "judge",
            {"kind": "ensemble", "members": [ALLOWED, {"judge": {"kind": "reward_model", "path": "/etc"}}]},
            "spec.judge.members.1.judge.path",
        ),
        (
            "evaluation",
            {"judge": {"kind": "ensemble", "members": [ALLOWED, SYSTEM]}},
            "spec.evaluation.judge.members.1.judge.function",
        ),
        ("output", {"path": "/tmp/elsewhere"}, "spec.output"),
        ("exports", [{"kind": "wandb", "project": "p"}], "spec.exports.0"),
    ],
)
def test_what_is_not_on_the_operators_lists_is_refused(
    api: TestClient, submitter: Headers, submission: dict[str, Any], part: str, value: Any, field: str
) -> None:
    submission["spec"][part] = value
    answer = api.post("/v1/runs", json=submission, headers=submitter)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_the_backbone_of_a_pairrm_that_may_be_read_must_be_allowed_too(
    api: TestClient, submitter: Headers, submission: dict[str, Any]
) -> None:
    spec = submission["spec"]
    spec["judge"] = {"kind": "pairrm", "path": spec["model"]["path"], "backbone": "/etc"}
    answer = api.post("/v1/runs", json=submission, headers=submitter)
    assert (answer.status_code, answer.json()["field"]) == (422, "spec.judge.backbone")


@pytest.mark.parametrize(
    ("namespace", "name", "status"),
    [
        ("judges", "allowed", 201),
        ("lab", "any/one", 201),
        ("judges", "other", 422),
        ("other", "allowed", 422),
        ("laboratory", "x", 422),
        ("judges", "allowed2", 422),
    ],
)
def test_an_actor_judges_where_its_namespace_and_name_are_on_the_operators_list(
    api: TestClient, submitter: Headers, submission: dict[str, Any], namespace: str, name: str, status: int
) -> None:
    judge = {"kind": "actor", "namespace": namespace, "name": name}
    submission["spec"]["judge"] = {"kind": "ensemble", "members": [ALLOWED, {"judge": judge}]}
    answer = api.post("/v1/runs", json=submission, headers=submitter)
    assert answer.status_code == status, answer.text
    if status == 422:
        assert (answer.json()["code"], answer.json()["field"]) == (
            "actor_not_allowed",
            "spec.judge.members.1.judge.name",
        )
        assert "ask for --judge-actor namespace/name" in answer.json()["detail"]


def test_a_secret_that_the_operator_does_not_have_is_refused(
    api: TestClient, submitter: Headers, submission: dict[str, Any]
) -> None:
    answer = api.post("/v1/runs", json={**submission, "secrets": ["NOT_THERE"]}, headers=submitter)
    assert (answer.status_code, answer.json()["code"]) == (422, "secret_unknown")


def test_a_run_says_its_place_in_the_queue_as_the_list_does(
    both_databases: str, api: TestClient, services: Services, submitter: Headers, clock: SettableClock
) -> None:
    """Priority first, then age, then the id: asked for one by one, in a list, and sorted here."""
    owner, draw = api.get("/v1/keys/self", headers=submitter).json()["id"], random.Random(0)
    for n in range(30):
        clock.advance(seconds=draw.choice([0, 0, 1]))
        status = draw.choice(["queued", "queued", "queued", "paused", "cancelled"])
        add_run(services, f"run_{draw.random()}_{n}", owner, status=status, priority=draw.choice([-1, 0, 5]))
    runs = api.get("/v1/runs?limit=50", headers=submitter).json()["items"]
    with services.database.read() as session:
        queued = session.scalars(select(Run).where(Run.status == "queued")).all()
    order = [run.id for run in sorted(queued, key=lambda r: (-r.priority, r.queued_at, r.id))]
    assert len(order) > 15, both_databases
    for run in runs:
        expected = order.index(run["id"]) + 1 if run["id"] in order else None
        alone = api.get(f"/v1/runs/{run['id']}", headers=submitter)
        assert (run["queue_position"], alone.json()) == (expected, run)
        assert alone.headers["etag"] == f'"{run["version"]}"'
        assert alone.headers["content-type"] == "application/json"
