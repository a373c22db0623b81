"""Keys: made, listed page by page, revoked."""

import pytest
from fastapi.testclient import TestClient

from tests.api.clock import SettableClock
from tests.api.conftest import Headers
from xpo_ray.api.keys.secret import new_secret, well_formed
from xpo_ray.api.paging import pack


def test_a_new_key_works_and_is_shown_once(both_databases: str, api: TestClient, admin: Headers) -> None:
    asked = {"name": "ci", "scopes": ["submit", "submit"], "expires_in_days": 2, "quotas": {"active_runs": 3}}
    answer = api.post("/v1/keys", json=asked, headers=admin)
    made = answer.json()
    assert (answer.status_code, made["scopes"], made["quotas"]["active_runs"]) == (201, ["submit"], 3), both_databases
    assert (made["created_at"], made["expires_at"]) == ("2026-01-02T03:04:05Z", "2026-01-04T03:04:05Z")
    own = api.get("/v1/keys/self", headers={"Authorization": f"Bearer {made['secret']}"}).json()
    assert own["id"] == made["id"]
    assert made["secret"].startswith(own["prefix"])
    assert made["secret"] not in api.get("/v1/keys", headers=admin).text


def test_keys_are_listed_page_by_page_newest_first(api: TestClient, admin: Headers, clock: SettableClock) -> None:
    for n in range(4):
        clock.advance(seconds=1)
        api.post("/v1/keys", json={"name": f"k{n}", "scopes": ["read"]}, headers=admin)
    names: list[str] = []
    after = ""
    for _ in range(3):
        page = api.get(f"/v1/keys?limit=2{after}", headers=admin).json()
        names += [key["name"] for key in page["items"]]
        after = f"&after={page['next']}"
    assert page["next"] is None
    assert names == ["k3", "k2", "k1", "k0", "admin"]


@pytest.mark.parametrize(
    "cursor",
    ["x", "!", "ÿ", pack("a"), pack("soon", "key_1"), pack("2026-01-01", "key_1"), pack("0001-01-01T00:00+23:59", "k")],
)
def test_a_cursor_that_is_none_is_refused(api: TestClient, admin: Headers, cursor: str) -> None:
    answer = api.get("/v1/keys", params={"after": cursor}, headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (422, "cursor_invalid")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"name": "", "scopes": ["read"]}, "name"),
        ({"name": "k", "scopes": []}, "scopes"),
        ({"name": "k", "scopes": ["root"]}, "scopes.0"),
        ({"name": "k", "scopes": ["read"], "secret": "mine"}, "secret"),
        ({"name": "k", "scopes": ["read"], "quotas": {"active_runs": True}}, "quotas.active_runs"),
        ({"name": "k", "scopes": ["read"], "expires_in_days": 0}, "expires_in_days"),
        ({"name": "k", "scopes": ["read"], "expires_in_days": 1e12}, "expires_in_days"),
    ],
)
def test_what_is_no_key_is_refused_by_its_field(
    api: TestClient, admin: Headers, asked: dict[str, object], field: str
) -> None:
    answer = api.post("/v1/keys", json=asked, headers=admin)
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text


def test_an_admin_cannot_revoke_the_key_in_use_nor_one_that_is_not_there(api: TestClient, admin: Headers) -> None:
    own = api.get("/v1/keys/self", headers=admin).json()["id"]
    assert api.delete(f"/v1/keys/{own}", headers=admin).json()["code"] == "own_key"
    assert api.delete("/v1/keys/key_none", headers=admin).json()["code"] == "key_not_found"


def test_revoking_twice_keeps_the_first_time(api: TestClient, admin: Headers) -> None:
    made = api.post("/v1/keys", json={"name": "k", "scopes": ["read"]}, headers=admin).json()
    for _ in range(2):
        assert api.delete(f"/v1/keys/{made['id']}", headers=admin).status_code == 204
    listed = {key["id"]: key for key in api.get("/v1/keys", headers=admin).json()["items"]}
    assert listed[made["id"]]["revoked_at"] == "2026-01-02T03:04:05Z"


def test_the_checksum_finds_every_cut_and_every_changed_letter() -> None:
    secret = new_secret()
    assert well_formed(secret)
    assert not any(well_formed(secret[:n]) for n in range(len(secret)))
    assert not any(
        well_formed(f"{secret[:n]}{'a' if secret[n] != 'a' else 'b'}{secret[n + 1 :]}") for n in range(len(secret))
    )
