"""The outbox: what webhooks shall be told, noted in the transaction of the status change itself.

`life.move` calls `note`; the delivery thread empties the outbox. Nothing here talks to a network.
"""

from datetime import datetime
from typing import Any, get_args

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from xpo_ray.api.database.tables import Delivery, Run, Webhook
from xpo_ray.api.ids import new_id
from xpo_ray.run_states import Status
from xpo_ray.wire.webhooks import Trigger

TRIGGERS: frozenset[str] = frozenset(get_args(Trigger))


def note(session: Session, run: Run, to: Status, at: datetime) -> None:
    """A delivery to each webhook that wants to hear that the run is `to` now."""
    if to not in TRIGGERS:
        return
    wanted = or_(Webhook.id.in_(run.webhooks), and_(Webhook.all_runs, Webhook.owner == run.owner))
    for webhook in session.scalars(select(Webhook).where(wanted, Webhook.disabled_at.is_(None))):
        if to in webhook.triggers:
            session.add(delivery(webhook.id, run.id, f"run.{to}", at, {"name": run.name, "status": to}))


def delivery(webhook_id: str, run_id: str, kind: str, at: datetime, told: dict[str, Any]) -> Delivery:
    """A message that is due at once. Its id stays the same over all tries: receivers tell copies apart by it."""
    made = new_id("dlv")
    body = {"id": made, "type": kind, "run": run_id, "at": at.isoformat(), **told}
    return Delivery(id=made, webhook_id=webhook_id, run_id=run_id, body=body, state="due", tries=0, due_at=at)
