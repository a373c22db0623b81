"""What stands before every route: the request's id and log line, headers for safety, the Host name, the size of the body.

Log lines hold method, path, status and time, never a query, a header or a body.
"""

import logging
import re
import secrets
import time
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
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
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
                _add_headers(message, {"X-Request-Id": request_id, **state.get("rate", {}), **HEADERS})
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            if status:
                raise
            await (await problems.unexpected(Request(scope), error))(scope, receive, sending)
        finally:
            _note(scope, request_id, status or 500, time.perf_counter() - began)


def _add_headers(message: Message, headers: dict[str, str]) -> None:
    known = {name.lower() for name, _ in message.setdefault("headers", [])}
    added = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    message["headers"] = [*message["headers"], *(pair for pair in added if pair[0] not in known)]


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "*" not in self.names and self._called(scope) not in self.names:
            refusal = Refusal(
                400, "host_unknown", "the Host header names another service; see the setting trusted_hosts"
            )
            return await problems.answer(Request(scope), refusal)(scope, receive, send)
        return await self.app(scope, receive, send)

    @staticmethod
    def _called(scope: Scope) -> str | None:
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        try:
            return urlsplit(f"//{host}").hostname
        except ValueError:
            return None


class BodyLimit:
    """413 for a body that is too large, by its declared length at once, else while it comes in."""

    def __init__(self, app: ASGIApp, usual: int, upload: int) -> None:
        self.app, self.usual, self.upload = app, usual, upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        most = self._most(scope["path"])
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > most:
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


async def _refuse(most: int, scope: Scope, receive: Receive, send: Send) -> None:
    detail = f"a body of more than {most / MIB:g} MiB; datasets go to POST /v1/datasets"
    await problems.answer(Request(scope), Refusal(413, "body_too_large", detail))(scope, receive, send)
