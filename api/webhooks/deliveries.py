"""Emptying the outbox: each message until the receiver takes it, at most MOST_TRIES times, with longer and longer pauses.

A message is taken out for LEASE before it is sent, so that a second API process does not send it too; a process that is killed
in between leaves it to be sent again after that time. Receivers may hear a message twice, never not at all.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from xpo_ray.api.background import Background
from xpo_ray.api.database.tables import Delivery, Webhook
from xpo_ray.api.metrics import DELIVERIES
from xpo_ray.api.services import Services
from xpo_ray.api.webhooks.sending import Outcome, send

EVERY_S = 1.0
AT_A_TIME = 8
LEASE = timedelta(seconds=90)
MOST_TRIES = 12
MOST_FAILURES = 20
"""In a row, over all messages of a webhook: then it is disabled."""
LONGEST_PAUSE_S = 3600.0


@dataclass(frozen=True)
class Taken:
    """A message on its way."""

    id: str
    webhook_id: str
    url: str
    secret: str
    body: dict[str, Any]


def deliveries(services: Services) -> Background:
    """The thread that delivers."""
    return Background("deliveries", lambda: _all_due(services), EVERY_S)


def _all_due(services: Services) -> None:
    while deliver_due(services) == AT_A_TIME and not services.changes.closing:
        pass


def deliver_due(services: Services) -> int:
    """Send the next few that are due; returns how many messages were tried."""
    taken = _take(services)
    if not taken:
        return 0
    with ThreadPoolExecutor(max_workers=len(taken), thread_name_prefix="delivery") as pool:
        outcomes = list(pool.map(lambda t: send(services.settings, t.url, t.secret, t.body, services.clock()), taken))
    for each, outcome in zip(taken, outcomes, strict=True):
        with services.database.write() as session:
            _note(session, services, each, outcome)
        DELIVERIES.labels("failed" if outcome.error else "delivered").inc()
    return len(taken)


def pause_s(tries: int) -> float:
    """Seconds after so many tries: 1, 2, 4, … up to an hour."""
    return min(2.0 ** (tries - 1), LONGEST_PAUSE_S)


def _take(services: Services) -> list[Taken]:
    now = services.clock()
    due = (
        select(Delivery, Webhook)
        .join(Webhook, Webhook.id == Delivery.webhook_id)
        .where(Delivery.state == "due", Delivery.due_at <= now, Webhook.disabled_at.is_(None))
        .order_by(Delivery.due_at, Delivery.id)
        .limit(AT_A_TIME)
    )
    with services.database.read() as session:
        if session.execute(due).first() is None:
            return []
    with services.database.write() as session:
        taken = []
        for message, webhook in session.execute(due.with_for_update(of=Delivery, skip_locked=True)):
            message.due_at, message.tries = now + LEASE, message.tries + 1
            taken.append(Taken(message.id, webhook.id, webhook.url, webhook.secret, message.body))
    return taken


def _note(session: Session, services: Services, taken: Taken, outcome: Outcome) -> None:
    message = session.get(Delivery, taken.id)
    webhook = session.scalar(select(Webhook).where(Webhook.id == taken.webhook_id).with_for_update())
    if message is None or webhook is None:
        return
    now = services.clock()
    message.last_error = outcome.error and outcome.error[:500]
    if outcome.error is None:
        message.state, webhook.failures = "delivered", 0
        return
    webhook.failures += 1
    message.due_at = now + timedelta(seconds=pause_s(message.tries))
    if message.tries >= MOST_TRIES:
        message.state = "given_up"
    if webhook.failures >= MOST_FAILURES and webhook.disabled_at is None:
        webhook.disabled_at = now
        session.flush()
        waiting = (Delivery.webhook_id == webhook.id, Delivery.state == "due")
        session.execute(update(Delivery).where(*waiting).values(state="given_up"))
