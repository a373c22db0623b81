"""Keys over HTTP."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from xpo_ray.wire.base import Count, Question, Stamped

Scope = Literal["admin", "submit", "label", "read"]


class Quotas(Question):
    """What a key's owner may hold; None is no limit."""

    active_runs: Count | None = None
    """Runs that are neither paused nor final."""
    storage_gib: float | None = Field(None, ge=0)
    requests_per_minute: int | None = Field(None, ge=1, le=2**53)
    """Instead of the service's own limit."""


class NewKey(Question):
    """A key to be made."""

    name: str = Field(min_length=1, max_length=64)
    scopes: list[Scope] = Field(min_length=1)
    expires_in_days: float | None = Field(None, gt=0, le=36_500)
    quotas: Quotas = Quotas()


class KeyView(Stamped):
    """A key; its secret is never shown again."""

    object: Literal["key"] = "key"
    name: str
    prefix: str
    """The first characters of the key, to tell keys apart."""
    scopes: list[Scope]
    quotas: Quotas
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class MadeKey(KeyView):
    """A new key with its secret: the only time that it is shown."""

    secret: str
