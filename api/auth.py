"""Who calls, and whether they may: bearer keys and the pages' session cookie. Deny by default.

A route says what it needs by `allow(scope)` in its signature; a test walks all routes and proves that each says something.
Drivers have tokens of their own, good for one attempt (xpo_ray.api.attempts).
"""

import hmac
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from fastapi import Depends, Request
from fastapi.params import Depends as DependsMarker
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from xpo_ray.api.database.tables import Key, Login, Run
from xpo_ray.api.keys.known import KEPT_FOR, Known
from xpo_ray.api.keys.secret import sha256, well_formed
from xpo_ray.api.problems import Refusal, not_found
from xpo_ray.api.services import Services, services_of
from xpo_ray.wire.keys import Quotas, Scope

log = logging.getLogger("xpo_ray.api")
COOKIE = "xpo_session"
INCLUDES: dict[str, frozenset[str]] = {
    "admin": frozenset({"admin", "submit", "label", "read"}),
    "submit": frozenset({"submit", "read"}),
    "label": frozenset({"label"}),
    "read": frozenset({"read"}),
}
"""What a scope grants: who submits may read; labelers see their tasks alone."""
NOTE_USE_EVERY = timedelta(minutes=1)
NEVER = datetime.max.replace(tzinfo=UTC)
UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True)
class Principal:
    """Who calls."""

    key_id: str
    name: str
    scopes: frozenset[str]
    quotas: Quotas
    by: Literal["key", "cookie"]

    @property
    def admin(self) -> bool:
        return "admin" in self.scopes

    def may(self, scope: str) -> bool:
        return any(scope in INCLUDES[own] for own in self.scopes)


def allow(scope: Scope | Literal["any"]) -> Any:
    """A dependency: the caller, who must have this scope (`any`: some valid key). 401 without a valid key, 403 without the
    scope."""

    async def caller(request: Request) -> Principal:
        principal = await authenticated(request)
        if scope != "any" and not principal.may(scope):
            raise Refusal(
                403, "scope_missing", f"this needs a key with the scope {scope}; this one has {_listed(principal)}"
            )
        return principal

    caller.scope = scope  # type: ignore[attr-defined]
    return Depends(caller)


def public() -> Any:
    """A dependency that says: anybody may. For what tells nothing: probes, the login itself."""

    async def anybody() -> None:
        return None

    anybody.scope = "public"  # type: ignore[attr-defined]
    return Depends(anybody)


def scope_of(dependency: Any) -> str | None:
    """The scope that a route's dependency declares, for the test that walks all routes."""
    call = dependency.dependency if isinstance(dependency, DependsMarker) else dependency
    return getattr(call, "scope", None)


@dataclass(frozen=True)
class Token:
    """What a caller shows."""

    text: str
    by: Literal["key", "cookie"]

    @property
    def name(self) -> str:
        """Under which its caller is kept: a cookie is no key, nor is a key a cookie."""
        return f"{self.by} {sha256(self.text)}"


async def authenticated(request: Request) -> Principal:
    """The caller, by header or cookie; found, and counted, once per request."""
    known = getattr(request.state, "principal", None)
    if isinstance(known, Principal):
        return known
    services = services_of(request)
    limits = services.settings.limits
    try:
        principal = await _found(services, _token(request))
    except Refusal:
        services.rates.count_address(request, limits.requests_per_minute)
        raise
    services.rates.count_key(
        request, principal.key_id, principal.quotas.requests_per_minute or limits.requests_per_minute
    )
    request.state.principal = principal
    return principal


def _token(request: Request) -> Token:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if token and scheme.lower() == "bearer":
        return Token(token.strip(), "key")
    if (cookie := request.cookies.get(COOKIE)) is not None:
        same_origin(request)
        return Token(cookie, "cookie")
    raise _unauthorized("no key: send Authorization: Bearer xpo_…")


async def _found(services: Services, token: Token) -> Principal:
    """Whoever was looked up just now is known without a hop to another thread."""
    known = services.callers.get(token.name, services.clock())
    if known is not None:
        return known
    return await run_in_threadpool(_looked_up, services, token)


def _looked_up(services: Services, token: Token) -> Principal:
    changes = services.callers.changes
    key, ends = _by_key(services, token.text) if token.by == "key" else _by_cookie(services, token.text)
    now = services.clock()
    if key.revoked_at is not None:
        raise _unauthorized("this key was revoked")
    if key.expires_at is not None and key.expires_at <= now:
        raise _unauthorized(f"this key expired at {key.expires_at:%Y-%m-%d %H:%M} UTC")
    noted = key.last_used_at
    if noted is None or now - noted > NOTE_USE_EVERY:
        _note_use(services, key.id, now)
        noted = now
    principal = Principal(key.id, key.name, frozenset(key.scopes), Quotas.model_validate(key.quotas), token.by)
    until = min(now + KEPT_FOR, noted + NOTE_USE_EVERY, key.expires_at or NEVER, ends)
    services.callers.keep(token.name, Known(principal, now, until), changes)
    return principal


def own_run(session: Session, principal: Principal, run_id: str, *, change: bool) -> Run:
    """A run that the caller may see, or with `change` may change: its owner or an admin. 404 or 403 else.

    Whoever has the scope `read` sees all runs.
    """
    run = session.get(Run, run_id)
    if run is None or run.deleting:
        raise not_found("run", run_id)
    if change and not principal.admin and run.owner != principal.key_id:
        raise Refusal(
            403, "not_the_owner", f"run {run_id} belongs to another key; only its owner or an admin changes it"
        )
    return run


def _by_key(services: Services, token: str) -> tuple[Key, datetime]:
    if not well_formed(token):
        raise _unauthorized("this is not a key: it was cut or mistyped")
    with services.database.read() as session:
        key = session.scalar(select(Key).where(Key.secret_sha256 == sha256(token)))
    if key is None or not hmac.compare_digest(key.secret_sha256, sha256(token)):
        raise _unauthorized("unknown key")
    return key, NEVER


def _by_cookie(services: Services, cookie: str) -> tuple[Key, datetime]:
    with services.database.read() as session:
        login = session.get(Login, sha256(cookie))
        key = None if login is None else session.get(Key, login.key_id)
    if login is None or key is None or login.expires_at <= services.clock():
        raise _unauthorized("the session has ended; log in again")
    return key, login.expires_at


def _note_use(services: Services, key_id: str, now: datetime) -> None:
    """Reading goes on where nothing can be written: a full disk must not hide the runs."""
    try:
        with services.database.write() as session:
            session.execute(update(Key).where(Key.id == key_id).values(last_used_at=now))
    except OperationalError as error:
        log.warning("the use of key %s could not be noted: %s", key_id, error)


def same_origin(request: Request) -> None:
    """A cookie travels by itself; what changes something must come from our own pages."""
    if request.method not in UNSAFE:
        return
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site not in (None, "same-origin") or (
        origin is not None and origin.split("://")[-1] != request.headers.get("host")
    ):
        raise Refusal(403, "cross_origin", "a session cookie is good for this site's own pages alone; use a key")


def _unauthorized(detail: str) -> Refusal:
    return Refusal(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _listed(principal: Principal) -> str:
    return ", ".join(sorted(principal.scopes)) or "none"
