"""A run of the service whose judge is an endpoint with a token: it pauses while the endpoint is down, and goes on."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.service.serving import serving
from tests.service.worlds import make_world
from tests.xpo_ray.judges.remote.endpoint import Endpoint, Reply, judged
from tests.xpo_ray.judges.remote.endpoint import serving as judging

pytestmark = [pytest.mark.ray, pytest.mark.long]
TOKEN = "canary-of-the-judge"


def guarded(endpoint: Endpoint) -> None:
    """The endpoint answers three requests that have the token, and is then down."""

    def behave(body: dict[str, Any]) -> Reply:
        if endpoint.headers[-1].get("authorization") != f"Bearer {TOKEN}":
            return Reply(401, "who are you?")
        return judged(body) if len(endpoint.bodies) <= 3 else Reply(503, f"down; you sent {TOKEN}")

    endpoint.behaviour = behave


def test_a_run_of_the_service_pauses_while_its_judge_is_down_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    spec = make_world(tmp_path / "world", prompts=16)
    del spec["data"]["evaluation"]
    (tmp_path / "secrets.json").write_text(json.dumps({"JUDGE_TOKEN": TOKEN}))
    with judging() as endpoint:
        guarded(endpoint)
        impatient = {"retries": 1, "breaker_failures": 2, "cool_down_s": 0.1, "patience_s": 0.3}
        spec["judge"] = {"kind": "http", "url": endpoint.url, "token_env": "JUDGE_TOKEN", "batch_size": 4, **impatient}
        options = ("--secrets-file", str(tmp_path / "secrets.json"), "--http-host", f"127.0.0.1:{endpoint.port}")
        with serving(tmp_path / "storage", tmp_path / "world", *options) as service:
            run_id = service.submit(spec, secrets=["JUDGE_TOKEN"])
            run = service.until(run_id, "paused")
            assert "answered 503: 'down; you sent ***'" in run["waiting_for"]
            assert "bring the judge back, then resume the run" in run["waiting_for"]
            assert run["error"] is None
            endpoint.behaviour = judged
            assert service.call("POST", f"/v1/runs/{run_id}/resume").status_code == 200
            done = service.until(run_id, "succeeded")
            assert (done["attempt"], done["waiting_for"], done["progress"]["replayed_steps"]) == (2, None, 0)
            told = [p for p in service.root(run_id).rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()]
            assert told == []
            assert TOKEN not in service.words()
