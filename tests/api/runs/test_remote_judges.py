"""Judges behind HTTP endpoints in submitted specs: the operator's hosts, secrets and roots."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import Headers
from xpo_ray.api.services import Services
from xpo_ray.api.settings import Settings

URL = "https://judge.example/v1/score"


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    (tmp_path / "files" / "base").mkdir(parents=True)
    (tmp_path / "files" / "train.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    (tmp_path / "secrets.json").write_text('{"JUDGE_TOKEN": "canary"}')
    lists: dict[str, Any] = {"roots": (str(tmp_path / "files"),), "http_hosts": ("judge.example", "10.0.0.7:9000")}
    return settings.model_copy(update={**lists, "secrets_file": tmp_path / "secrets.json"})


def submit(api: TestClient, headers: Headers, folder: Path, judge: dict[str, Any], **more: Any) -> Any:
    spec = {
        "name": "tiny",
        "model": {"path": str(folder / "files" / "base")},
        "data": {"source": {"kind": "files", "path": str(folder / "files" / "train.jsonl")}},
        "algorithm": {"kind": "iterative_dpo"},
        "judge": judge,
    }
    return api.post("/v1/runs", json={"spec": spec, **more}, headers=headers)


@pytest.mark.parametrize("url", [URL, "http://judge.example/x?y=1", "http://10.0.0.7:9000/judge"])
def test_a_judge_at_a_host_of_the_operators_list_is_taken(
    api: TestClient, submitter: Headers, tmp_path: Path, url: str
) -> None:
    answer = submit(api, submitter, tmp_path, {"kind": "http", "url": url})
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example/",
        "http://judge.example:8080/",
        "http://10.0.0.7/",
        "http://169.254.169.254/latest/meta-data",
        "http://judge.example.evil.example/",
        "http://127.0.0.1:8600/v1/keys",
    ],
)
@pytest.mark.parametrize("kind", [{"kind": "http"}, {"kind": "llm", "model": "m"}])
def test_any_other_host_is_refused_by_its_field(
    api: TestClient, submitter: Headers, tmp_path: Path, url: str, kind: dict[str, str]
) -> None:
    answer = submit(api, submitter, tmp_path, {**kind, "url": f"{url}?key=sesame"})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (
        422,
        "url_not_allowed",
        "spec.judge.url",
    )
    assert "sesame" not in answer.text


def test_a_token_is_a_secret_that_the_run_has_asked_for_and_no_other_variable(
    api: TestClient, submitter: Headers, tmp_path: Path
) -> None:
    for name, asked in (("JUDGE_TOKEN", []), ("RAY_AUTH_TOKEN", ["JUDGE_TOKEN"])):
        judge = {"kind": "http", "url": URL, "token_env": name}
        refused = submit(api, submitter, tmp_path, judge, secrets=asked)
        assert (refused.status_code, refused.json()["field"]) == (422, "spec.judge.token_env")
    judge = {"kind": "http", "url": URL, "token_env": "JUDGE_TOKEN"}
    taken = submit(api, submitter, tmp_path, judge, secrets=["JUDGE_TOKEN"])
    assert taken.status_code == 201, taken.text
    assert "canary" not in taken.text


def test_a_member_of_an_ensemble_is_held_to_the_same_lists(api: TestClient, submitter: Headers, tmp_path: Path) -> None:
    fine = {"kind": "http", "url": URL}
    for faulty, field in (
        ({"kind": "http", "url": "https://other.example/"}, "url"),
        ({**fine, "token_env": "JUDGE_TOKEN"}, "token_env"),
        ({"kind": "llm", "url": URL, "model": "m", "template": "/etc/passwd"}, "template"),
    ):
        judge = {"kind": "ensemble", "members": [{"judge": fine}, {"judge": faulty}]}
        refused = submit(api, submitter, tmp_path, judge)
        assert (refused.status_code, refused.json()["field"]) == (422, f"spec.judge.members.1.judge.{field}")


def test_a_host_that_is_on_the_list_no_longer_is_refused_when_a_run_is_resumed_or_forked(
    api: TestClient, services: Services, submitter: Headers, tmp_path: Path
) -> None:
    run_id = submit(api, submitter, tmp_path, {"kind": "http", "url": URL}).json()["id"]
    assert api.post(f"/v1/runs/{run_id}/pause", headers=submitter).json()["status"] == "paused"
    wide, services.settings = services.settings, services.settings.model_copy(update={"http_hosts": ("10.0.0.7:9000",)})
    asks = {"resume": {}, "fork": {"iteration": 0}}
    for verb, body in asks.items():
        refused = api.post(f"/v1/runs/{run_id}/{verb}", json=body, headers=submitter)
        assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (
            422,
            "url_not_allowed",
            "spec.judge.url",
        )
    services.settings = wide
    assert api.post(f"/v1/runs/{run_id}/resume", headers=submitter).json()["status"] == "queued"


def test_a_judges_folder_that_lacks_what_it_needs_is_refused_when_it_is_submitted(
    api: TestClient, submitter: Headers, tmp_path: Path
) -> None:
    folder = tmp_path / "files" / "judge"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "deberta-v2", "n_tasks": 1}')
    for kind, words in (("pairrm", "no model.safetensors"), ("reward_model", "has no tokenizer_config.json")):
        refused = submit(api, submitter, tmp_path, {"kind": kind, "path": str(folder)})
        assert (refused.status_code, refused.json()["field"]) == (422, "spec.judge.path")
        assert words in refused.json()["detail"]


def test_a_template_lies_below_the_roots(api: TestClient, submitter: Headers, tmp_path: Path) -> None:
    (tmp_path / "files" / "mine.txt").write_text("{{prompt}} {{first}} {{second}} {{answer}}")
    judge = {"kind": "llm", "url": URL, "model": "m", "template": "/etc/passwd"}
    refused = submit(api, submitter, tmp_path, judge)
    assert (refused.status_code, refused.json()["field"]) == (422, "spec.judge.template")
    other = {"kind": "http", "url": URL, "format": "openrlhf", "chat_template": "/etc/passwd"}
    refused = submit(api, submitter, tmp_path, other)
    assert (refused.status_code, refused.json()["field"]) == (422, "spec.judge.chat_template")
    judge["template"] = str(tmp_path / "files" / "mine.txt")
    assert submit(api, submitter, tmp_path, judge).status_code == 201
