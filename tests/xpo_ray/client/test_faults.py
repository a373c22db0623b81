"""What a refusal reads like: each fault once, with its field and the remedy."""

import json
from typing import Any

from xpo_ray.client import calls
from xpo_ray.client.faults import fault_of
from xpo_ray.client.talk import Broken, unreachable


def message(status: int = 422, **problem: Any) -> str:
    given = {"title": "Unprocessable Entity", "status": status, "code": "c", "request_id": "req_1", **problem}
    return str(fault_of(status, json.dumps(given).encode(), "req_1"))


def test_one_fault_is_said_once() -> None:
    faults = [{"field": "spec.algorithm.betta", "detail": "unknown key; did you mean 'beta'?"}]
    said = message(detail="algorithm.betta: unknown key", field="spec.algorithm.betta", errors=faults)
    assert said == "spec.algorithm.betta: unknown key; did you mean 'beta'?\n(422 c, request req_1)"
    assert message(detail="spec.judge 'a': no", field="spec.judge").startswith("spec.judge 'a': no\n")
    assert message(detail="too large", field="spec.seed").startswith("spec.seed: too large\n")


def test_several_faults_stand_below_each_other() -> None:
    faults = [{"field": "spec.model", "detail": "missing"}, {"field": "", "detail": "not JSON"}]
    lines = message(detail="all of it", field="spec.model", errors=faults).splitlines()
    assert lines == ["Unprocessable Entity", "  spec.model: missing", "  the body: not JSON", "(422 c, request req_1)"]


def test_a_remedy_follows_and_an_answer_that_is_no_problem_document_is_shown_as_it_is() -> None:
    assert "xpo-ray login URL" in message(401, detail="no key")
    assert str(fault_of(502, b"<html>bad gateway", "–")).startswith("<html>bad gateway\n(502 no_problem_document")


def test_a_service_that_is_away_is_named() -> None:
    said = str(unreachable(calls.get_run("run_1").request, Broken("ConnectError: refused", "http://127.0.0.1:8600/")))
    assert said == (
        "GET /v1/runs/run_1 got no answer: ConnectError: refused. Is the service running at http://127.0.0.1:8600/?"
    )
