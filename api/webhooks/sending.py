"""One message to one URL: the host on the operator's list, signed, without redirects, within ten seconds.

The delivery thread and the route that tries a webhook call it. It never touches the database.
"""

import hmac
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from xpo_ray import __version__
from xpo_ray.api.problems import Refusal
from xpo_ray.api.settings import Settings

WITHIN_S = 10.0
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Outcome:
    """How a try ended."""

    status: int | None
    """Of the answer; None where there was none."""
    error: str | None
    """None where the receiver took the message (2xx)."""


def check_url(settings: Settings, url: str) -> None:
    """Raises Refusal for a URL that is not http(s) to a host that the operator allows."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise _refused(url, f"not a URL ({error})") from error
    if parts.scheme not in PORTS or not host or parts.username is not None or parts.fragment:
        raise _refused(url, "expected http(s)://host[:port]/path, without a user and without a fragment")
    allowed = {name.lower() for name in settings.http_hosts}
    standard = port is None or port == PORTS[parts.scheme]
    if f"{host}:{port or PORTS[parts.scheme]}" not in allowed and not (standard and host in allowed):
        raise _refused(url, "the host is not on the operator's list http_hosts (name, or name:port)")


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What X-Xpo-Signature says: HMAC-SHA256 over timestamp, a dot, and the body as it was sent."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, "sha256").hexdigest()


def send(settings: Settings, url: str, secret: str, message: dict[str, Any], now: datetime) -> Outcome:
    """Send a message once. Never raises for what the other side does."""
    try:
        check_url(settings, url)
    except Refusal as refusal:
        return Outcome(None, refusal.detail)
    body = json.dumps(message, separators=(",", ":")).encode()
    timestamp = str(int(now.timestamp()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"xpo-ray/{__version__}",
        "X-Xpo-Delivery": str(message["id"]),
        "X-Xpo-Timestamp": timestamp,
        "X-Xpo-Signature": signature(secret, timestamp, body),
    }
    try:
        with (
            httpx.Client(timeout=WITHIN_S, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Outcome(None, f"{type(error).__name__}: {error}"[:500])
    return Outcome(status, None if 200 <= status < 300 else f"the receiver answered {status}")


def _refused(url: str, why: str) -> Refusal:
    return Refusal(422, "url_not_allowed", f"url {url!r:.200}: {why}", field="url")
