"""What is swept now and then: logins that have ended, and answers kept for Idempotency-Keys that nobody will send again."""

from sqlalchemy import delete

from xpo_ray.api.background import Background
from xpo_ray.api.database.tables import Answered, Login
from xpo_ray.api.idempotency import KEPT_FOR
from xpo_ray.api.services import Services

EVERY_S = 3600.0


def upkeep(services: Services) -> Background:
    """The thread that sweeps, at start and then every hour."""
    return Background("upkeep", lambda: sweep(services), EVERY_S)


def sweep(services: Services) -> None:
    """One turn."""
    now = services.clock()
    with services.database.write() as session:
        session.execute(delete(Login).where(Login.expires_at <= now))
        session.execute(delete(Answered).where(Answered.at <= now - KEPT_FOR))
