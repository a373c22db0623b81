"""One message to one URL: the host on the operator's list, signed, without redirects, within ten seconds.

The delivery thread and the route that tries a webhook call it. It never touches the database.
"""

import hmac
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from xpo_ray import __version__
from xpo_ray.api.hosts import check_url
from xpo_ray.api.problems import Refusal
from xpo_ray.api.settings import Settings

WITHIN_S = 10.0


@dataclass(frozen=True)
class Outcome:
    """How a try ended."""

    status: int | None
    """Of the answer; None where there was none."""
    error: str | None
    """None where the receiver took the message (2xx)."""


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
