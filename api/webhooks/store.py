"""Rows of webhooks: the list of a key, one of its own, and how a webhook is shown. Functions on a session."""

from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from xpo_ray.api.auth import Principal
from xpo_ray.api.database.tables import Webhook
from xpo_ray.api.paging import behind
from xpo_ray.api.problems import not_found
from xpo_ray.wire.webhooks import WebhookView


def list_webhooks(session: Session, caller: Principal, after: str | None, limit: int) -> list[Webhook]:
    """Newest first: the caller's own, or all for an admin. Raises Refusal for a cursor of another list."""
    query = select(Webhook).order_by(Webhook.created_at.desc(), Webhook.id.desc()).limit(limit)
    if not caller.admin:
        query = query.where(Webhook.owner == caller.key_id)
    if after is not None:
        before, last = behind(after)
        query = query.where(or_(Webhook.created_at < before, (Webhook.created_at == before) & (Webhook.id < last)))
    return list(session.scalars(query))


def own_webhook(session: Session, caller: Principal, webhook_id: str) -> Webhook:
    """A webhook of the caller; that of another key is not there for anybody but an admin. Raises Refusal 404."""
    row = session.get(Webhook, webhook_id)
    if row is None or (row.owner != caller.key_id and not caller.admin):
        raise not_found("webhook", webhook_id)
    return row


def view(row: Webhook) -> WebhookView:
    """Without its secret."""
    return WebhookView(**shown(row))


def shown(row: Webhook) -> dict[str, Any]:
    """The fields of a view."""
    names = ("id", "created_at", "url", "triggers", "all_runs", "disabled_at", "failures")
    return {name: getattr(row, name) for name in names}
