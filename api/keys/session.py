"""Login of the pages: a key is exchanged for a cookie, so that the browser keeps no key, and no script reads what it keeps."""

from datetime import timedelta

from fastapi import APIRouter, Request, Response
from pydantic import Field
from sqlalchemy import delete, select

from xpo_ray.api.auth import COOKIE, Principal, allow, public, same_origin
from xpo_ray.api.database.tables import Key, Login
from xpo_ray.api.keys.secret import new_secret, sha256
from xpo_ray.api.keys.store import view
from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import TheServices
from xpo_ray.wire.base import Question
from xpo_ray.wire.keys import KeyView

LASTS = timedelta(hours=12)
router = APIRouter(prefix="/session", tags=["session"])


class LoginRequest(Question):
    """A key to log in with."""

    key: str = Field(max_length=200)


@router.post("", status_code=204)
def log_in(asked: LoginRequest, request: Request, services: TheServices, _anybody: None = public()) -> Response:
    """Exchange a key for a session cookie."""
    same_origin(request)
    services.rates.count_address(request, services.settings.limits.requests_per_minute)
    now, token = services.clock(), new_secret("session_")
    with services.database.read() as session:
        key = session.scalar(select(Key).where(Key.secret_sha256 == sha256(asked.key)))
    if key is None or key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
        raise Refusal(401, "unauthorized", "this key is not known, was revoked or has expired")
    with services.database.write() as session:
        session.execute(delete(Login).where(Login.expires_at <= now))
        session.add(Login(token_sha256=sha256(token), key_id=key.id, created_at=now, expires_at=now + LASTS))
    answer = Response(status_code=204)
    secure = request.url.scheme == "https" or (services.settings.public_url or "").startswith("https:")
    answer.set_cookie(
        COOKIE, token, max_age=int(LASTS.total_seconds()), httponly=True, samesite="strict", secure=secure
    )
    return answer


@router.get("")
def who_is_logged_in(services: TheServices, caller: Principal = allow("any")) -> KeyView:
    """The key behind the session."""
    with services.database.read() as session:
        key = session.get(Key, caller.key_id)
        assert key is not None
        return view(key)


@router.delete("", status_code=204)
def log_out(request: Request, services: TheServices, _anybody: None = public()) -> Response:
    """End the session."""
    if (cookie := request.cookies.get(COOKIE)) is not None:
        same_origin(request)
        with services.database.write() as session:
            session.execute(delete(Login).where(Login.token_sha256 == sha256(cookie)))
        services.callers.forget()
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer
