"""Webhooks over HTTP."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from xpo_ray.wire.base import Answer, Question, Stamped

Trigger = Literal["succeeded", "failed", "cancelled", "paused", "waiting_for_labels"]


class NewWebhook(Question):
    """Where to be told; the host must be on the operator's list."""

    url: str = Field(max_length=2000)
    triggers: list[Trigger] = Field(default=["succeeded", "failed", "waiting_for_labels"], min_length=1)
    all_runs: bool = False
    """Of every run of the owner, not only of those that name this webhook."""


class WebhookView(Stamped):
    """A webhook. Deliveries carry X-Xpo-Signature: sha256=HMAC(secret, timestamp.body)."""

    object: Literal["webhook"] = "webhook"
    url: str
    triggers: list[Trigger]
    all_runs: bool
    disabled_at: datetime | None
    failures: int
    """Deliveries in a row that failed."""


class MadeWebhook(WebhookView):
    """A new webhook with its secret: the only time that it is shown."""

    secret: str


class Tried(Answer):
    """How the message of a test went."""

    delivered: bool
    status: int | None
    """Of the receiver's answer; null where there was none."""
    error: str | None
