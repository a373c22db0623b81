"""Every route of the app says who may call it: deny by default, proved on all of them."""

import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from xpo_ray.api.app import create_app
from xpo_ray.api.document import declared_scopes
from xpo_ray.api.services import Services

SCOPES = {"admin", "submit", "label", "read", "any", "public", "attempt"}
PUBLIC = {
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("POST", "/v1/session"),
    ("DELETE", "/v1/session"),
    ("GET", "/"),
    ("GET", "/login"),
    ("GET", "/runs/{run_id}"),
    ("GET", "/datasets"),
    ("GET", "/keys"),
    ("GET", "/static/{version}/{name}"),
}
"""What tells nothing: probes, the document, the login, and the pages' own files."""


@pytest.fixture
def app(services: Services) -> FastAPI:
    return create_app(services.settings, services=services, background=False)


def test_every_route_declares_exactly_one_scope(app: FastAPI) -> None:
    routes = list(declared_scopes(app.routes))
    assert len(routes) > 15
    assert [(m, p, s) for p, m, s in routes if len(s) != 1 or s[0] not in SCOPES] == []


def test_no_route_is_public_but_those_that_tell_nothing(app: FastAPI) -> None:
    public = {(method, path) for path, method, scopes in declared_scopes(app.routes) if scopes == ["public"]}
    assert public - PUBLIC == set()


def test_only_drivers_routes_take_an_attempts_token_and_nothing_else_is_below_them(app: FastAPI) -> None:
    for path, method, scopes in declared_scopes(app.routes):
        assert (scopes == ["attempt"]) == path.startswith("/v1/driver/"), (method, path, scopes)


def test_what_changes_something_needs_more_than_read(app: FastAPI) -> None:
    for path, method, scopes in declared_scopes(app.routes):
        if method != "GET" and path != "/v1/session":
            assert scopes[0] in {"submit", "admin", "label", "attempt"}, (method, path, scopes)


def test_a_call_without_a_key_is_refused_on_every_route_that_is_not_public(app: FastAPI) -> None:
    with TestClient(app, "http://127.0.0.1") as client:
        for path, method, scopes in declared_scopes(app.routes):
            if scopes == ["public"] or path.endswith("/claim"):  # a claim brings its ticket in the body
                continue
            answer = client.request(method, re.sub(r"\{[^}]*\}", "1", path))
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.json()["code"] == "unauthorized"
