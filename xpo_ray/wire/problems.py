"""Errors over HTTP: RFC 9457 problem details with a stable code, the field, and the request id."""

from typing import Any

from pydantic import Field

from xpo_ray.wire.base import Answer


class Problem(Answer):
    """The body of every answer from 400 up; its content type is application/problem+json."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    """Stable: what a program looks at (`run_not_found`, `spec_invalid`, `idempotency_key_reused`, …)."""
    request_id: str
    field: str | None = None
    """The part of the request that is wrong: spec.training.learning_rate."""
    errors: list[dict[str, Any]] = Field(default_factory=list)
    """One for each fault, where there are several: {field, detail}."""
