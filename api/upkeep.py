"""What is swept at start and now and then: ended logins, answers kept for Idempotency-Keys that nobody will send again, old
deliveries, and the files that a killed service left behind."""

from datetime import timedelta

from sqlalchemy import delete

from xpo_ray.api.background import Background
from xpo_ray.api.database.tables import Answered, Delivery, Login
from xpo_ray.api.datasets import intake
from xpo_ray.api.idempotency import KEPT_FOR
from xpo_ray.api.runs import deletion, retention
from xpo_ray.api.services import Services

EVERY_S = 3600.0
DELIVERIES_KEPT_FOR = timedelta(days=30)


def upkeep(services: Services) -> Background:
    """The thread that sweeps, at start and then every hour."""
    return Background("upkeep", lambda: sweep(services), EVERY_S)


def sweep(services: Services) -> None:
    """One turn."""
    _sweep_rows(services)
    deletion.sweep(services)
    intake.sweep(services)
    retention.sweep(services)


def _sweep_rows(services: Services) -> None:
    now = services.clock()
    with services.database.write() as session:
        session.execute(delete(Login).where(Login.expires_at <= now))
        session.execute(delete(Answered).where(Answered.at <= now - KEPT_FOR))
        old = (Delivery.state != "due", Delivery.due_at <= now - DELIVERIES_KEPT_FOR)
        session.execute(delete(Delivery).where(*old))
