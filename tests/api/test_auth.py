"""Who may what: each scope against representative routes, keys that are no good, and the pages' cookie."""

import re
from datetime import timedelta
from zlib import crc32

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection, event

from tests.api.clock import SettableClock
from tests.api.conftest import Headers, MakeKey
from xpo_ray.api.auth import COOKIE, Principal
from xpo_ray.api.database.tables import Key, Login
from xpo_ray.api.keys.known import KEPT_FOR, Known, KnownCallers
from xpo_ray.api.keys.secret import sha256
from xpo_ray.api.services import Services
from xpo_ray.wire.keys import Quotas, Scope

ROUTES = [
    ("POST", "/v1/keys", {"admin"}),
    ("GET", "/v1/keys", {"admin"}),
    ("DELETE", "/v1/keys/key_x", {"admin"}),
    ("GET", "/v1/keys/self", {"admin", "submit", "label", "read"}),
    ("GET", "/v1/datasets", {"admin", "submit", "read"}),
    ("POST", "/v1/datasets/register", {"admin", "submit"}),
    ("POST", "/v1/models", {"admin", "submit"}),
    ("GET", "/metrics", {"admin", "submit", "read"}),
]


@pytest.mark.parametrize("scope", ["admin", "submit", "label", "read"])
@pytest.mark.parametrize(("method", "path", "allowed"), ROUTES)
def test_each_scope_opens_its_routes_and_no_others(
    api: TestClient, make_headers: MakeKey, scope: Scope, method: str, path: str, allowed: set[str]
) -> None:
    answer = api.request(method, path, headers=make_headers(scope))
    if scope in allowed:
        assert answer.status_code not in (401, 403), answer.text
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")


def test_without_a_key_every_route_asks_for_one(api: TestClient) -> None:
    for method, path, _ in ROUTES:
        answer = api.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), path
        assert answer.headers["www-authenticate"] == "Bearer"


def test_keys_that_are_no_good_are_told_apart(api: TestClient, make_headers: MakeKey, clock: SettableClock) -> None:
    good = make_headers("read", days=1)["Authorization"]
    cut, unknown = good[:-1], good.replace(good[20:24], "aaaa")
    body = unknown.removeprefix("Bearer ").rpartition("_")[0]
    words = {
        cut: "cut or mistyped",
        f"Bearer {body}_{crc32(body.encode()):08x}": "unknown key",
        "Basic dXNlcjpwYXNz": "no key",
        "Bearer ": "no key",
        "Bearer " + "x" * 5000: "cut or mistyped",
    }
    for header, said in words.items():
        answer = api.get("/v1/keys/self", headers={"Authorization": header})
        assert answer.status_code == 401
        assert said in answer.json()["detail"]
    assert api.get("/v1/keys/self", headers={"Authorization": good}).status_code == 200
    clock.advance(days=1)
    assert "expired" in api.get("/v1/keys/self", headers={"Authorization": good}).json()["detail"]


def test_revoking_works_at_once_for_the_key_and_its_sessions(
    api: TestClient, admin: Headers, submitter: Headers
) -> None:
    secret = submitter["Authorization"].removeprefix("Bearer ")
    assert api.post("/v1/session", json={"key": secret}).status_code == 204
    key_id = api.get("/v1/session").json()["id"]
    assert api.delete(f"/v1/keys/{key_id}", headers=admin).status_code == 204
    assert "revoked" in api.get("/v1/keys/self", headers=submitter).json()["detail"]
    assert api.get("/v1/session").status_code == 401
    assert api.post("/v1/session", json={"key": secret}).status_code == 401


def test_no_secret_lies_in_the_database(api: TestClient, services: Services, admin: Headers) -> None:
    made = api.post("/v1/keys", json={"name": "k", "scopes": ["read"]}, headers=admin).json()
    api.post("/v1/session", json={"key": made["secret"]})
    cookie = api.cookies[COOKIE]
    services.database.close()
    files = [p for p in services.storage.iterdir() if p.is_file()]
    everything = b"".join(p.read_bytes() for p in files)
    assert made["id"].encode() in everything
    for secret in (made["secret"], cookie, admin["Authorization"].removeprefix("Bearer ")):
        assert secret.encode() not in everything


def test_the_last_use_is_noted_at_most_once_a_minute(
    api: TestClient, services: Services, reader: Headers, clock: SettableClock
) -> None:
    first = clock()
    api.get("/v1/keys/self", headers=reader)
    clock.advance(seconds=59)
    assert api.get("/v1/keys/self", headers=reader).json()["last_used_at"] == f"{first:%Y-%m-%dT%H:%M:%S}Z"
    clock.advance(seconds=2)
    api.get("/v1/keys/self", headers=reader)
    with services.database.read() as session:
        key = session.query(Key).filter_by(name="reader").one()
        assert key.last_used_at == clock()


def test_the_cookie_is_hidden_from_scripts_and_stays_on_the_site(api: TestClient, reader: Headers) -> None:
    answer = api.post("/v1/session", json={"key": reader["Authorization"].removeprefix("Bearer ")})
    said = answer.headers["set-cookie"]
    assert re.match(rf"{COOKIE}=session_\w+; ", said)
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(said.split("; "))
    assert "Secure" not in said, "over http a browser would drop it"


def test_over_https_the_cookie_is_secure(api: TestClient, reader: Headers) -> None:
    key = reader["Authorization"].removeprefix("Bearer ")
    answer = api.post("https://127.0.0.1/v1/session", json={"key": key})
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}, 201),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
    ],
)
def test_with_a_cookie_only_our_own_pages_may_change_something(
    api: TestClient, admin: Headers, headers: dict[str, str], status: int
) -> None:
    api.post("/v1/session", json={"key": admin["Authorization"].removeprefix("Bearer ")})
    answer = api.post("/v1/keys", json={"name": "k", "scopes": ["read"]}, headers=headers)
    assert answer.status_code == status, answer.text
    assert api.get("/v1/keys", headers=headers).status_code == 200, "reading is no change"


def test_a_key_in_the_header_wins_over_the_cookie(api: TestClient, admin: Headers, reader: Headers) -> None:
    api.post("/v1/session", json={"key": admin["Authorization"].removeprefix("Bearer ")})
    assert api.get("/v1/keys/self", headers=reader).json()["name"] == "reader"


def test_sessions_end(api: TestClient, services: Services, reader: Headers, clock: SettableClock) -> None:
    key = reader["Authorization"].removeprefix("Bearer ")
    api.post("/v1/session", json={"key": key})
    cookie = api.cookies[COOKIE]
    assert api.delete("/v1/session").status_code == 204
    assert api.get("/v1/session", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code == 401
    api.post("/v1/session", json={"key": key})
    clock.advance(hours=12)
    assert "ended" in api.get("/v1/session").json()["detail"]
    assert api.delete("/v1/session").status_code == 204, "a session that has ended can be left"
    with services.database.read() as session:
        assert session.query(Login).all() == []


def test_a_caller_who_was_just_looked_up_is_not_looked_up_again(
    api: TestClient, services: Services, reader: Headers, clock: SettableClock
) -> None:
    asked: list[str] = []

    def note(_connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
        asked.append(statement)

    api.get("/v1/runs/run_none", headers=reader)
    event.listen(services.database.engine, "before_cursor_execute", note)
    assert api.get("/v1/runs/run_none", headers=reader).status_code == 404
    assert ["FROM keys" in statement for statement in asked] == [False], "one query, for the run"
    clock.advance(seconds=KEPT_FOR.total_seconds())
    assert api.get("/v1/runs/run_none", headers=reader).status_code == 404
    assert ["FROM keys" in statement for statement in asked if "SELECT" in statement] == [False, True, False]


def test_a_caller_who_was_just_looked_up_is_refused_from_the_moment_of_the_change(
    api: TestClient, admin: Headers, make_headers: MakeKey, clock: SettableClock
) -> None:
    revoked, ending = make_headers("read"), make_headers("read", days=1)
    clock.advance(days=1, seconds=-1)
    key_id = api.get("/v1/keys/self", headers=revoked).json()["id"]
    assert api.get("/v1/keys/self", headers=ending).status_code == 200
    assert api.delete(f"/v1/keys/{key_id}", headers=admin).status_code == 204
    assert "revoked" in api.get("/v1/keys/self", headers=revoked).json()["detail"]
    clock.advance(seconds=1)
    assert "expired" in api.get("/v1/keys/self", headers=ending).json()["detail"]


def test_a_session_that_was_just_looked_up_ends_with_its_leaving_and_with_its_time(
    api: TestClient, reader: Headers, clock: SettableClock
) -> None:
    key = {"key": reader["Authorization"].removeprefix("Bearer ")}
    api.post("/v1/session", json=key)
    kept = {"Cookie": f"{COOKIE}={api.cookies[COOKIE]}"}
    assert api.get("/v1/session").status_code == 200
    assert api.delete("/v1/session").status_code == 204
    assert api.get("/v1/session", headers=kept).status_code == 401
    api.post("/v1/session", json=key)
    clock.advance(hours=12, seconds=-1)
    assert api.get("/v1/session").status_code == 200
    clock.advance(seconds=1)
    assert api.get("/v1/session").status_code == 401


def test_what_another_process_revoked_is_refused_after_two_seconds_at_most(
    both_databases: str, api: TestClient, services: Services, reader: Headers, clock: SettableClock
) -> None:
    assert api.get("/v1/keys/self", headers=reader).status_code == 200, both_databases
    with services.database.write() as session:
        session.query(Key).filter_by(name="reader").one().revoked_at = clock()
    assert KEPT_FOR.total_seconds() <= 2
    clock.advance(seconds=2)
    assert api.get("/v1/keys/self", headers=reader).status_code == 401


def test_a_cookie_is_no_key_and_a_key_no_cookie_however_well_they_are_known(api: TestClient, reader: Headers) -> None:
    key = reader["Authorization"].removeprefix("Bearer ")
    api.post("/v1/session", json={"key": key})
    cookie = api.cookies.pop(COOKIE)
    for good in (reader, {"Cookie": f"{COOKIE}={cookie}"}):
        assert api.get("/v1/keys/self", headers=good).status_code == 200
    for bad in ({"Authorization": f"Bearer {cookie}"}, {"Cookie": f"{COOKIE}={key}"}):
        assert api.get("/v1/keys/self", headers=bad).status_code == 401


def test_a_look_up_that_began_before_a_change_is_not_kept(clock: SettableClock) -> None:
    callers = KnownCallers()
    known = Known(Principal("key_1", "k", frozenset({"read"}), Quotas(), "key"), clock(), clock() + KEPT_FOR)
    before = callers.changes
    callers.forget()
    callers.keep("key x", known, before)
    assert callers.get("key x", clock()) is None
    callers.keep("key x", known, callers.changes)
    assert callers.get("key x", clock()) is known.principal
    assert callers.get("key x", clock() - timedelta(seconds=1)) is None, "the clock was set back"


def test_secrets_are_kept_by_their_hash_alone(api: TestClient, services: Services, reader: Headers) -> None:
    secret = reader["Authorization"].removeprefix("Bearer ")
    api.get("/v1/keys/self", headers=reader)
    assert sha256(secret) in str(vars(services.callers))
    assert secret not in str(vars(services.callers))
