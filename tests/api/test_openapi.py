"""The OpenAPI document is true: Schemathesis sends each operation what it allows, and what it forbids, and checks the answers.

In process, with an admin key, the same cases each time. No thread works behind the routes, so that no run starts.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, Config, checks
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.python import asgi
from schemathesis.schemas import APIOperation, BaseSchema

from tests.api.conftest import Headers
from tests.api.rows import add_attempt, add_run
from xpo_ray.api.app import create_app
from xpo_ray.api.document import declared_scopes
from xpo_ray.api.services import Services

CASES = 10
"""Of each operation, in each of the two modes."""
LEFT_OUT = {
    ("/v1/runs/{run_id}/events/stream", "get"): "a stream that does not end",
    ("/v1/session", "delete"): "drops the cookie that other operations are tried with",
}
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.missing_required_header,
    checks.allow_header_conformance,
    checks.ignored_auth,
    checks.unsupported_method,
    checks.use_after_free,
    checks.ensure_resource_availability,
]
"""All there are but positive_data_acceptance: JSON Schema cannot say which ids exist nor which specs are sound."""


@pytest.fixture
def app(services: Services) -> Iterator[FastAPI]:
    services.settings = services.settings.model_copy(update={"trusted_hosts": (asgi.HOST,)})
    yield create_app(services.settings, services=services, background=False)
    asgi.shutdown_lifespans()


@pytest.fixture
def known_ids(services: Services, app: FastAPI, admin: Headers) -> dict[str, str]:
    """A run, a dataset and a key that are there."""
    with asgi.get_client(app) as client:
        owner = client.get("/v1/keys/self", headers=admin).json()["id"]
        rows = b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 3
        files = {"file": ("rows.jsonl", rows, "application/jsonl")}
        made = client.post("/v1/datasets", headers=admin, data={"name": "known"}, files=files)
        assert made.status_code == 201, made.text
    add_run(services, "run_known", owner=owner, status="paused", attempt=1)
    add_attempt(services, "run_known", 1)
    return {"run_id": "run_known", "dataset_id": made.json()["id"], "number": "1"}


@pytest.fixture
def document(app: FastAPI) -> BaseSchema:
    # the key goes with every case: a wrong one that is replaced by it would count as accepted
    config = Config.from_dict({"generation": {"with-security-parameters": False}})
    return schemathesis.openapi.from_asgi("/openapi.json", app, config=config)


def test_every_route_but_pages_and_probes_of_the_document_stands_in_it(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    listed = {(path, method.upper()) for path, operations in paths.items() for method in operations}
    served = {(path, method) for path, method, _ in declared_scopes(app.routes) if path.startswith("/v1/")}
    assert served <= listed
    assert {("/livez", "GET"), ("/readyz", "GET"), ("/metrics", "GET")} <= listed


def test_every_operation_says_its_scope_how_to_send_a_key_and_how_it_refuses(app: FastAPI) -> None:
    document = app.openapi()
    assert set(document["components"]["securitySchemes"]) == {"key", "session"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            public = operation["x-scope"] == "public"
            assert operation["security"] == ([] if public else [{"key": []}, {"session": []}]), (method, path)
            refused = operation["responses"]["4XX"]["content"]
            assert refused["application/problem+json"]["schema"]["$ref"].endswith("/Problem")
            assert "HTTPValidationError" not in str(operation)


def test_every_number_that_a_caller_sends_is_bounded(app: FastAPI) -> None:
    """A database refuses what has no bound, and that would be the service's fault and not the caller's."""
    document = app.openapi()
    asked = {name: schema for name, schema in document["components"]["schemas"].items() if _is_asked(schema)}
    for operations in document["paths"].values():
        for operation in operations.values():
            asked |= {f"{operation['operationId']} {p['name']}": p for p in operation.get("parameters", ())}
    assert len(asked) > 20
    open_ended = {name for name, schema in asked.items() if not all(map(_is_bounded, _integers(schema)))}
    assert open_ended == set()


def _is_asked(schema: Any) -> bool:
    """Answers let unknown fields through, questions do not."""
    return schema.get("additionalProperties") is False


def _is_bounded(number: dict[str, Any]) -> bool:
    return "minimum" in number and bool({"maximum", "exclusiveMaximum"} & number.keys())


def _integers(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "integer":
            yield schema
        for value in schema.values():
            yield from _integers(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _integers(value)


def test_the_page_of_calls_lists_every_operation_and_fetches_nothing(api: TestClient) -> None:
    page = api.get("/docs").text
    for path, operations in api.get("/openapi.json").json()["paths"].items():
        for method in operations:
            assert f"<code>{method.upper()} {path}</code>" in page
    assert not re.search(r"<(script|link|img|style)|https?://", page)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_answers_are_as_the_document_says(
    document: BaseSchema, admin: Headers, known_ids: dict[str, str], mode: GenerationMode
) -> None:
    tried, faults = set(), []
    for found in document.get_all_operations():
        operation = found.ok()
        if (operation.path, operation.method) in LEFT_OUT:
            continue
        try:
            _try(operation, mode, admin, {})
            if ids := {name: value for name, value in known_ids.items() if f"{{{name}}}" in operation.path}:
                _try(operation, mode, admin, ids)
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, f"{operation.label} takes nothing that could be wrong"
        except FailureGroup as failure:
            faults.append(f"{operation.label}: {failure.exceptions}")
        tried.add(operation.label)
    assert len(tried) > 15
    assert faults == []


def _try(operation: APIOperation, mode: GenerationMode, headers: Headers, ids: dict[str, str]) -> None:
    """Send the cases of one operation; with ids, to something that is there."""

    @settings(
        max_examples=CASES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode, path_parameters=ids or None))
    def holds(case: Case) -> None:
        case.call_and_validate(headers=dict(headers), checks=CHECKS)

    holds()
