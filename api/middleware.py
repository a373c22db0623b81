"""What stands before every route: the request's id and log line, headers for safety, the Host name, the size of the body.

Log lines hold method, path, status and time, never a query, a header or a body.
"""

import logging
import re
import secrets
import time
from functools import lru_cache
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xpo_ray.api import problems
from xpo_ray.api.metrics import REQUESTS
from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import Services

access = logging.getLogger("xpo_ray.api.access")
UPLOADS = re.compile(r"^/v1/datasets/?$")
DRIVERS = "/v1/driver/"
MIB = 2**20
DRIVERS_MOST = 16 * MIB
"""Of a batch of a driver's journal: 500 records, some with a traceback."""
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""A route that sets one of these itself keeps its own."""


def install(app: FastAPI, services: Services) -> None:
    """The last one added stands first."""
    limits = services.settings.limits
    app.add_middleware(BodyLimit, usual=int(limits.body_mib * MIB), upload=int(limits.upload_mib * MIB))
    app.add_middleware(KnownHost, names=services.settings.hosts())
    app.add_middleware(Envelope)


class Envelope:
    """Request id, safety headers, one log line and one count for each request; 500 for what nobody expected."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        state = scope.setdefault("state", {})
        request_id = state["request_id"] = f"req_{secrets.token_hex(8)}"
        began, status = time.perf_counter(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, [(b"x-request-id", request_id.encode()), *state.get("rate", ()), *HEADERS])
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            if status:
                raise
            await (await problems.unexpected(Request(scope), error))(scope, receive, sending)
        finally:
            _note(scope, request_id, status or 500, time.perf_counter() - began)


def _add_headers(message: Message, headers: list[tuple[bytes, bytes]]) -> None:
    own = message.get("headers", ())
    known = {name.lower() for name, _ in own}
    message["headers"] = [*own, *(pair for pair in headers if pair[0] not in known)]


def _note(scope: Scope, request_id: str, status: int, seconds: float) -> None:
    below = "/v1" if scope["path"].startswith("/v1/") else ""
    route = getattr(scope.get("route"), "path", None)
    label = "unmatched" if route is None else below + route.removeprefix(below)
    REQUESTS.labels(scope["method"], label, str(status)).observe(seconds)
    access.info("%s %s %s %d %.1f ms", request_id, scope["method"], scope["path"], status, seconds * 1000)


class KnownHost:
    """400 for a call under a name that is not this service's: a page elsewhere may let its own name point here."""

    def __init__(self, app: ASGIApp, names: list[str]) -> None:
        self.app, self.names = app, frozenset(name.lower() for name in names)
        self._ours = lru_cache(maxsize=256)(self._is_ours)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._ours(_header(scope, b"host")):
            refusal = Refusal(
                400, "host_unknown", "the Host header names another service; see the setting trusted_hosts"
            )
            return await problems.answer(Request(scope), refusal)(scope, receive, send)
        return await self.app(scope, receive, send)

    def _is_ours(self, host: bytes | None) -> bool:
        try:
            return "*" in self.names or urlsplit(f"//{(host or b'').decode('latin-1')}").hostname in self.names
        except ValueError:
            return False


class BodyLimit:
    """413 for a body that is too large, by its declared length at once, else while it comes in."""

    def __init__(self, app: ASGIApp, usual: int, upload: int) -> None:
        self.app, self.usual, self.upload = app, usual, upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _brings_nothing(scope):
            return await self.app(scope, receive, send)
        declared = _header(scope, b"content-length")
        most = self._most(scope["path"])
        if declared is not None and declared.isdigit() and int(declared) > most:
            return await _refuse(most, scope, receive, send)
        came, answered = 0, False

        async def receiving() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > most:
                raise HTTPException(413)
            return message

        async def sending(message: Message) -> None:
            nonlocal answered
            if came <= most or answered:
                answered = True
                await send(message)

        await self.app(scope, receiving, sending)
        if not answered:
            await _refuse(most, scope, receive, send)
        return None

    def _most(self, path: str) -> int:
        if path.startswith(DRIVERS):
            return max(self.usual, DRIVERS_MOST)
        return self.upload if UPLOADS.match(path) else self.usual


def _brings_nothing(scope: Scope) -> bool:
    unsaid = _header(scope, b"content-length") is None and _header(scope, b"transfer-encoding") is None
    return unsaid and scope["method"] in ("GET", "HEAD")


def _header(scope: Scope, name: bytes) -> bytes | None:
    """The last one, as it always was where a caller sends two."""
    found = None
    for own, value in scope["headers"]:
        if own == name:
            found = value
    return found


async def _refuse(most: int, scope: Scope, receive: Receive, send: Send) -> None:
    detail = f"a body of more than {most / MIB:g} MiB; datasets go to POST /v1/datasets"
    await problems.answer(Request(scope), Refusal(413, "body_too_large", detail))(scope, receive, send)
