"""Every refusal is a problem document with a stable code, and tells nothing that it should not."""

import errno

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import TypeAdapter
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tests.api.conftest import Headers
from xpo_ray.api import problems
from xpo_ray.api.problems import Refusal, not_found
from xpo_ray.errors import DatasetError, DiskFull, SpecError
from xpo_ray.wire.problems import Problem


def raising(error: Exception) -> TestClient:
    """An app with one route, which raises."""
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    def fails() -> None:
        raise error

    return TestClient(app, raise_server_exceptions=False)


def test_a_refusal_carries_code_field_faults_and_headers() -> None:
    refusal = Refusal(
        409,
        "run_state_conflict",
        "it runs",
        field="status",
        errors=[{"field": "a", "detail": "b"}],
        headers={"X-A": "1"},
    )
    answer = raising(refusal).get("/")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-a"] == "1"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "it runs",
        "code": "run_state_conflict",
        "request_id": "none",
        "field": "status",
        "errors": [{"field": "a", "detail": "b"}],
    }


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (SpecError("spec: no"), 422, "spec_invalid"),
        (DatasetError("row 3: no"), 422, "dataset_invalid"),
        (not_found("run", "run_x"), 404, "run_not_found"),
        (OperationalError("insert", {}, Exception("disk full")), 503, "database_unavailable"),
        (PoolTimeout(), 503, "database_unavailable"),
        (DiskFull("the disk of /secret text is full"), 507, "storage_full"),
        (OSError(errno.ENOSPC, "No space left on device", "/secret text"), 507, "storage_full"),
        (OSError(errno.EIO, "secret text"), 500, "internal_error"),
        (RuntimeError("secret text"), 500, "internal_error"),
    ],
)
def test_the_table_of_errors(error: Exception, status: int, code: str) -> None:
    answer = raising(error).get("/")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "secret text" not in answer.text
    assert "disk full" not in answer.text


def test_a_database_that_is_away_says_when_to_come_back() -> None:
    assert raising(PoolTimeout()).get("/").headers["retry-after"] == "5"


def test_a_body_that_does_not_fit_names_every_field(api: TestClient, admin: Headers) -> None:
    answer = api.post("/v1/keys", json={"name": "", "scopes": ["fly"], "more": 1}, headers=admin)
    problem = TypeAdapter(Problem).validate_json(answer.content)
    assert (problem.status, problem.code) == (422, "request_invalid")
    assert {fault["field"] for fault in problem.errors} == {"name", "scopes.0", "more"}
    assert problem.field in {"name", "scopes.0", "more"}


def test_what_is_no_json_and_what_is_no_route_are_problems_too(api: TestClient, admin: Headers) -> None:
    headers = {**admin, "Content-Type": "application/json"}
    cases = [
        (api.post("/v1/keys", content=b"{", headers=headers), 422, "request_invalid"),
        (api.get("/v1/nothing", headers=admin), 404, "not_found"),
        (api.put("/v1/keys", headers=admin), 405, "method_not_allowed"),
    ]
    for answer, status, code in cases:
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "POST" in cases[2][0].headers["allow"]


def test_a_body_that_is_not_json_or_is_not_there_says_so(api: TestClient, admin: Headers) -> None:
    headers = {**admin, "Content-Type": "application/json"}
    broken = api.post("/v1/keys", content=b'{"name": ', headers=headers).json()
    assert broken["detail"].startswith("the body: not JSON at character 9: ")
    assert broken["field"] is None
    assert api.post("/v1/keys", headers=headers).json()["detail"] == "the body: Field required"
