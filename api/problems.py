"""Refusals as RFC 9457 problem details. Routes raise Refusal; this is the one table from our errors to status codes.

The body never holds a secret, a path of the machine that the caller did not send, or a traceback.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from xpo_ray.errors import DiskFull, UserError, XpoRayError
from xpo_ray.full_disk import is_full
from xpo_ray.wire.problems import Problem

log = logging.getLogger("xpo_ray.api")
MEDIA_TYPE = "application/problem+json"


class Refusal(XpoRayError):
    """An answer from 400 up."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        errors: list[dict[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.field, self.errors, self.headers = field, errors or [], dict(headers or {})


def not_found(what: str, resource_id: str) -> Refusal:
    """The one answer for what is not there and for what the caller may not see."""
    return Refusal(404, f"{what}_not_found", f"there is no {what} {resource_id}, or this key may not see it")


def request_id(request: Request) -> str:
    """The id under which this request stands in the logs."""
    return str(getattr(request.state, "request_id", "none"))


def answer(request: Request, refusal: Refusal) -> JSONResponse:
    """A refusal as it goes over the wire."""
    problem = Problem(
        title=HTTPStatus(refusal.status).phrase,
        status=refusal.status,
        detail=refusal.detail,
        code=refusal.code,
        request_id=request_id(request),
        field=refusal.field,
        errors=refusal.errors,
    )
    return JSONResponse(problem.model_dump(), refusal.status, media_type=MEDIA_TYPE, headers=refusal.headers)


def install(app: FastAPI) -> None:
    """Every error of this app becomes a problem document."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(UserError, _bad_input)
    app.add_exception_handler(OperationalError, _database_away)
    app.add_exception_handler(PoolTimeout, _database_away)
    app.add_exception_handler(DiskFull, _disk_full)
    app.add_exception_handler(OSError, _disk_full)
    app.add_exception_handler(Exception, unexpected)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return answer(request, error)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [_fault(e) for e in error.errors()]
    detail = "; ".join(f"{f['field'] or 'the body'}: {f['detail']}" for f in faults[:5])
    first = faults[0]["field"] if faults else None
    return answer(request, Refusal(422, "request_invalid", detail, field=first or None, errors=faults))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).name.lower()
    return answer(request, Refusal(error.status_code, code, str(error.detail), headers=error.headers))


async def _bad_input(request: Request, error: Exception) -> JSONResponse:
    name = "".join(f"_{c.lower()}" if c.isupper() else c for c in type(error).__name__).strip("_")
    return answer(request, Refusal(422, name.replace("_error", "_invalid"), str(error)))


async def _database_away(request: Request, error: Exception) -> JSONResponse:
    log.error("database: %s", error, extra={"request_id": request_id(request)})
    detail = "the database does not answer or cannot write (a full disk?); nothing was changed, or what was is not known: retry"
    return answer(request, Refusal(503, "database_unavailable", detail, headers={"Retry-After": "5"}))


async def _disk_full(request: Request, error: Exception) -> JSONResponse:
    """Space that was there when the request was looked at may be gone when it is worked on."""
    if not is_full(error):
        return await unexpected(request, error)
    log.error("disk: %s", error, extra={"request_id": request_id(request)})
    detail = (
        "the service's disk is full; nothing half-made counts: make room, or delete runs or datasets, and send it again"
    )
    return answer(request, Refusal(507, "storage_full", detail))


async def unexpected(request: Request, error: Exception) -> JSONResponse:
    """500 for what no route and no handler knew what to do with; the traceback is in the log alone."""
    log.exception("request %s failed", request_id(request), exc_info=error)
    return answer(
        request, Refusal(500, "internal_error", f"an error of the service; its log has it under {request_id(request)}")
    )


def _fault(error: Mapping[str, Any]) -> dict[str, str]:
    if error["type"] == "json_invalid":
        return {"field": "", "detail": f"not JSON at character {error['loc'][-1]}: {error['ctx']['error']}"}
    return {"field": _place(error["loc"]), "detail": error["msg"]}


def _place(loc: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in loc if part not in ("body", "query", "path", "header"))
