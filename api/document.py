"""The OpenAPI document: what FastAPI says of the routes, with the scope of each, how to send a key, and the problem documents.

`app` builds on DescribedApi; /docs shows the same as one plain page that fetches nothing (its routes are here too).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Request, routing
from fastapi.dependencies.models import Dependant
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.routing import BaseRoute

from xpo_ray.api.auth import COOKIE, public, scope_of
from xpo_ray.api.problems import MEDIA_TYPE
from xpo_ray.wire.problems import Problem

router = APIRouter(include_in_schema=False)
SCHEMAS = "#/components/schemas/{model}"
PROBLEM = {"content": {MEDIA_TYPE: {"schema": {"$ref": SCHEMAS.format(model="Problem")}}}}
SECURITY = {
    "key": {"type": "http", "scheme": "bearer", "description": "A key, or a driver's token: Authorization: Bearer …"},
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "Of the pages: POST /v1/session"},
}


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>xpo_ray: REST calls</title>
<h1>REST calls</h1>
<p>The whole document: <a href="/openapi.json">openapi.json</a>. Send a key as <code>Authorization: Bearer xpo_…</code>.</p>
<table><thead><tr><th>call<th>scope<th>what it does</thead><tbody>
ROWS
</tbody></table></html>
"""


class DescribedApi(FastAPI):
    """An app whose document says everything that its routes declare."""

    def openapi(self) -> dict[str, Any]:
        """The document."""
        document = deepcopy(super().openapi())
        needed = {(path, method.lower()): scopes for path, method, scopes in declared_scopes(self.routes)}
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _describe(operation, needed[path, method])
        components = document.setdefault("components", {})
        components["securitySchemes"] = SECURITY
        schemas = components.setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema(ref_template=SCHEMAS)
        for replaced in ("HTTPValidationError", "ValidationError"):
            schemas.pop(replaced, None)
        return document


def declared_scopes(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, str, list[str]]]:
    """(path, method, scopes declared) of every route of the app; of a sound one the list has one entry."""
    # before FastAPI 0.137 an app holds the routes of its routers themselves
    contexts: Callable[[Sequence[BaseRoute]], Iterable[Any]] = getattr(routing, "iter_route_contexts", iter)
    for context in contexts(routes):
        dependant = getattr(context, "dependant", None)
        scopes = [] if dependant is None else list(_scopes(dependant))
        for method in sorted(context.methods or ()):
            yield str(context.path_format or context.path), method, scopes


def _scopes(dependant: Dependant) -> Iterator[str]:
    for each in dependant.dependencies:
        if (scope := scope_of(each.call)) is not None:
            yield scope
        yield from _scopes(each)


def _describe(operation: dict[str, Any], scopes: list[str]) -> None:
    responses = operation["responses"]
    if SCHEMAS.format(model="HTTPValidationError") in str(responses.get("422")):
        del responses["422"]
    responses |= {code: {"description": text, **PROBLEM} for code, text in (("4XX", "Refused"), ("5XX", "Failed"))}
    is_public = scopes == ["public"]
    operation["security"] = [] if is_public else [{"key": []}, {"session": []}]
    operation["x-scope"] = scopes[0] if scopes else None


@router.get("/openapi.json")
def openapi(request: Request, _anybody: None = public()) -> JSONResponse:
    """The document, for programs."""
    return JSONResponse(request.app.openapi())


@router.get("/docs")
def docs(request: Request, _anybody: None = public()) -> HTMLResponse:
    """The document, for people: every operation with its scope and what it does."""
    document = request.app.openapi()
    rows = "\n".join(
        f"<tr><td><code>{method.upper()} {escape(path)}</code></td><td>{escape(str(operation['x-scope']))}</td>"
        f"<td>{escape(operation.get('description', operation['summary']))}</td></tr>"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    return HTMLResponse(PAGE.replace("ROWS", rows))
