"""The app from start to end: keys, ownership, request ids, hosts, bodies, queries, probes, background threads."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.api.clock import SettableClock
from tests.api.conftest import Headers
from xpo_ray.api.app import create_app
from xpo_ray.api.background import Background
from xpo_ray.api.database.connection import Database
from xpo_ray.api.services import Services
from xpo_ray.api.settings import Limits, Settings
from xpo_ray.api.upkeep import upkeep
from xpo_ray.errors import OutputError, SpecError


@contextmanager
def started(settings: Settings, **more: object) -> Iterator[TestClient]:
    with TestClient(create_app(settings, background=False, **more), "http://127.0.0.1") as client:  # type: ignore[arg-type]
        yield client


def test_the_first_start_makes_an_admin_key_and_later_ones_do_not(settings: Settings) -> None:
    told: list[str] = []
    for _ in range(2):
        with started(settings, on_first_key=told.append) as client:
            assert client.get("/v1/keys/self", headers={"Authorization": f"Bearer {told[0]}"}).json()["scopes"] == [
                "admin"
            ]
    assert len(told) == 1
    everything = b"".join(p.read_bytes() for p in settings.storage.rglob("*") if p.is_file())
    assert told[0].encode() not in everything


def test_a_sqlite_file_has_one_server_at_a_time(settings: Settings) -> None:
    again = pytest.raises(OutputError, match=r"is served by process \d+ already")
    with started(settings), again, started(settings):
        pass
    with started(settings) as client:
        assert client.get("/livez").status_code == 200


def test_replicas_need_postgresql(settings: Settings) -> None:
    two = settings.model_copy(update={"replicas": 2})
    with pytest.raises(SpecError, match="2 API processes need PostgreSQL"), started(two):
        pass


@pytest.mark.postgres
@pytest.mark.parametrize("database_kind", ["postgres"], indirect=True)
def test_two_replicas_serve_one_postgresql(settings: Settings) -> None:
    both = settings.model_copy(update={"replicas": 2})
    told: list[str] = []
    with started(both, on_first_key=told.append), started(both, on_first_key=told.append) as second:
        assert second.get("/readyz").json()["ready"] is True
    assert len(told) == 1


def test_after_a_kill_a_damaged_file_is_refused_and_after_a_clean_end_it_is_not_read_over(settings: Settings) -> None:
    with started(settings):
        pass
    file, lock = settings.storage / "xpo_ray.sqlite", settings.storage / "xpo_ray.sqlite.lock"
    assert lock.read_bytes() == b""
    _damage(file)
    lock.write_text("process 4711\n")
    with pytest.raises(OutputError, match="database file is damaged"), started(settings):
        pass


def _damage(file: Path) -> None:
    """Overwrite the pages behind the first two, where rows and indices of our tables lie."""
    content = bytearray(file.read_bytes())
    content[2 * 4096 :] = b"\xff" * (len(content) - 2 * 4096)
    file.write_bytes(content)


def test_every_answer_has_a_request_id_and_safety_headers(api: TestClient) -> None:
    for path in ("/livez", "/v1/keys/self", "/no/such/page"):
        answer = api.get(path)
        assert answer.headers["x-request-id"].startswith("req_")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_another_host_name_is_refused(api: TestClient) -> None:
    for host in ("evil.example", "evil.example:8600", "127.0.0.1.evil.example", ""):
        answer = api.get("/livez", headers={"Host": host})
        assert answer.status_code == 400, host
        assert answer.json()["code"] == "host_unknown"
    for host in ("localhost:8600", "127.0.0.1:1", "LOCALHOST"):
        assert api.get("/livez", headers={"Host": host}).status_code == 200, host


def test_a_body_over_the_limit_is_refused_whether_its_length_was_declared_or_not(
    api: TestClient, admin: Headers
) -> None:
    large = b'{"name": "' + b"x" * (2 * 2**20) + b'"}'
    headers = {**admin, "Content-Type": "application/json"}
    declared = api.post("/v1/keys", content=large, headers=headers)
    streamed = api.post("/v1/keys", content=iter([large[: 2**20], large[2**20 :]]), headers=headers)
    for answer in (declared, streamed):
        assert answer.status_code == 413
        assert answer.json()["code"] == "body_too_large"
        assert answer.headers["content-type"] == "application/problem+json"


def test_an_unknown_query_parameter_is_refused_with_the_known_ones(api: TestClient, admin: Headers) -> None:
    answer = api.get("/v1/keys?limits=3", headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (422, "query_unknown")
    assert "known are after, limit" in answer.json()["detail"]
    assert api.get("/v1/keys?limit=3", headers=admin).status_code == 200
    assert "takes none" in api.get("/v1/keys/self?x=1", headers=admin).json()["detail"]


def test_an_unexpected_error_is_a_problem_document_without_its_text(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(services.settings, services=services, background=False)

    def fails() -> None:
        raise RuntimeError("the text of the error")

    app.add_api_route("/fails", fails)
    with TestClient(app, "http://127.0.0.1") as client:
        answer = client.get("/fails")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "the text" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text
    assert "the text of the error" in caplog.text


def test_readiness_names_what_is_wrong(api: TestClient, services: Services) -> None:
    assert api.get("/readyz").json() == {"ready": True, "database": None, "disk": None, "background": {}}
    services.settings.__dict__["disk_floor_mib"] = 2.0**50
    answer = api.get("/readyz")
    assert answer.status_code == 503
    assert "the floor is" in answer.json()["disk"]


def test_a_dead_thread_makes_the_service_unready_and_a_failed_turn_is_only_told(services: Services) -> None:
    app = create_app(services.settings, services=services, background=False)
    turned = threading.Event()

    def fails() -> None:
        turned.set()
        raise ConnectionError("no Ray there")

    failing, dead = Background("reconciler", fails, 60), Background("deliveries", lambda: None, 60)
    with TestClient(app, "http://127.0.0.1") as client:
        failing.start()
        assert turned.wait(10)
        app.state.background = [failing]
        while failing.failure is None:
            time.sleep(0.01)
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["background"]) == (
            200,
            {"reconciler": "ConnectionError: no Ray there"},
        )
        app.state.background = [failing, dead]
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["background"]["deliveries"] == "has died"
        failing.stop()


def test_the_threads_of_the_rooms_live_with_the_app(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """With threads that start nothing else: the reconciler's, which starts a Ray head, is tested in its own room."""
    made = [upkeep(services), Background("another", lambda: None, 60)]
    monkeypatch.setattr("xpo_ray.api.app.workers", lambda _services: made)
    app = create_app(services.settings, services=services)
    with TestClient(app, "http://127.0.0.1") as client:
        assert app.state.background == made
        assert all(each.alive for each in made)
        assert client.get("/readyz").json()["ready"] is True
    assert not any(each.alive for each in made)


def test_threads_that_cannot_be_made_end_the_start_and_leave_the_database_to_others(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_services: Services) -> list[Background]:
        raise OutputError("no token")

    monkeypatch.setattr("xpo_ray.api.app.workers", fail)
    app = create_app(services.settings, services=services)
    with pytest.raises(OutputError, match="no token"), TestClient(app):
        pass
    with started(services.settings) as client:
        assert client.get("/livez").status_code == 200


def test_metrics_need_a_key_and_hold_requests_runs_and_disk(api: TestClient, reader: Headers) -> None:
    assert api.get("/metrics").status_code == 401
    api.get("/v1/keys/self", headers=reader)
    text = api.get("/metrics", headers=reader).text
    assert 'xpo_api_request_seconds_count{method="GET",route="/v1/keys/self",status="200"}' in text
    assert "xpo_database_up 1.0" in text
    assert "xpo_storage_free_bytes" in text


def test_a_database_that_is_away_is_503(settings: Settings, clock: SettableClock) -> None:
    services = Services(settings, Database(settings.database), clock=clock)
    with started(settings, services=services) as client:
        file = settings.storage / "xpo_ray.sqlite"
        services.database.close()
        moved = file.rename(file.with_name("away"))
        file.mkdir()
        answer = client.get("/v1/keys", headers={"Authorization": "Bearer xpo_x_00000000"})
        ready = client.get("/readyz")
        file.rmdir()
        moved.rename(file)
    assert answer.status_code == 401, "a key that is none is refused before the database is asked"
    assert ready.status_code == 503
    assert "cannot be written" in ready.json()["database"]


def test_limits_are_settings(settings: Settings) -> None:
    narrow = settings.model_copy(update={"limits": Limits(body_mib=0.001)})
    with started(narrow) as client:
        assert client.post("/v1/session", json={"key": "x" * 3000}).status_code == 413


def test_a_drivers_batch_may_be_larger_than_a_persons_request(api: TestClient) -> None:
    path, headers = "/v1/driver/runs/run_x/attempts/1/journal", {"Authorization": f"Bearer attempt_{'0' * 64}"}
    batch = {"attempt": 1, "first": 1, "records": [{"type": "x", "text": "y" * 2**21}]}
    assert api.post(path, json=batch, headers=headers).json()["code"] != "body_too_large"
    batch["records"] = [{"text": "y" * 17 * 2**20}]
    assert api.post(path, json=batch, headers=headers).json()["code"] == "body_too_large"
