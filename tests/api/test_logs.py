"""Log lines: one JSON object each, never with a secret."""

import json
import logging
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import Headers
from xpo_ray.api.keys.secret import new_secret
from xpo_ray.api.logs import BLACKED_OUT, JsonLines, configure
from xpo_ray.api.settings import Settings

OPERATORS = "hf-canary-4711"


def line(message: str, *args: object, failed: bool = False, **extra: str) -> dict[str, object]:
    record = logging.LogRecord(
        "xpo_ray.api", logging.INFO, "file", 1, message, args, sys.exc_info() if failed else None
    )
    record.__dict__.update(extra)
    made: dict[str, object] = json.loads(JsonLines(lambda: [OPERATORS]).format(record))
    return made


def test_a_line_is_json_with_level_logger_and_ids() -> None:
    made = line("run %s queued", "run_1", request_id="req_1")
    assert (made["level"], made["logger"], made["message"]) == ("INFO", "xpo_ray.api", "run run_1 queued")
    assert made["request_id"] == "req_1"


@pytest.mark.parametrize(
    "secret",
    [new_secret(), new_secret("session_"), new_secret("ticket_"), "attempt_" + "09af" * 16, OPERATORS],
    ids=["key", "session", "ticket", "attempt", "operator's"],
)
def test_keys_sessions_and_the_operators_secrets_are_blacked_out_by_value(secret: str) -> None:
    try:
        raise ValueError(f"cannot use {secret} here")
    except ValueError:
        made = line("asked with %s.", secret, failed=True)
    assert made["message"] == f"asked with {BLACKED_OUT}."
    assert secret not in json.dumps(made)
    assert f"cannot use {BLACKED_OUT} here" in str(made["traceback"])


def test_ids_stay_readable() -> None:
    assert (
        line("key_0123456789abcdef made run_0123456789abcdef")["message"]
        == "key_0123456789abcdef made run_0123456789abcdef"
    )


def test_the_access_log_holds_no_query_and_no_header(
    api: TestClient, admin: Headers, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "xpo_ray.api.access"):
        answer = api.get("/v1/keys?after=a-query", headers=admin)
    (said,) = [r.getMessage() for r in caplog.records if r.name == "xpo_ray.api.access"]
    assert said.startswith(f"{answer.headers['x-request-id']} GET /v1/keys ")
    assert "a-query" not in said
    assert admin["Authorization"].split()[1] not in caplog.text


def test_configure_sends_everything_through_the_same_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secrets = tmp_path / "secrets.json"
    secrets.write_text(json.dumps({"HF_TOKEN": OPERATORS}))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure(Settings(storage=tmp_path, secrets_file=secrets))
        logging.getLogger("somebody.else").warning("token %s", OPERATORS)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert json.loads(capsys.readouterr().err)["message"] == f"token {BLACKED_OUT}"
