"""What is swept at start and now and then: ended logins, answers kept for Idempotency-Keys that nobody will send again, old
deliveries, and the files that a killed service left behind."""

import shutil
from datetime import timedelta

from sqlalchemy import delete, select

from xpo_ray.api.background import Background
from xpo_ray.api.database.tables import Answered, Delivery, Login, Run
from xpo_ray.api.datasets import intake
from xpo_ray.api.idempotency import KEPT_FOR
from xpo_ray.api.runs import deletion, retention
from xpo_ray.api.services import Services

EVERY_S = 3600.0
ORPHAN_AFTER = timedelta(hours=1)
DELIVERIES_KEPT_FOR = timedelta(days=30)


def upkeep(services: Services) -> Background:
    """The thread that sweeps, at start and then every hour."""
    return Background("upkeep", lambda: sweep(services), EVERY_S)


def sweep(services: Services) -> None:
    """One turn."""
    _sweep_rows(services)
    deletion.sweep(services)
    sweep_submissions(services)
    intake.sweep(services)
    retention.sweep(services)


def sweep_submissions(services: Services) -> list[str]:
    """Remove run folders that a submission made just before the service was killed: without a row, older than an hour. One
    with attempts holds work; it stays, whatever database the service was started on."""
    folder = services.storage / "runs"
    if not folder.is_dir():
        return []
    latest = (services.clock() - ORPHAN_AFTER).timestamp()
    old = [p for p in folder.iterdir() if p.stat().st_mtime < latest and not (p / "attempts").exists()]
    with services.database.read() as session:
        known = set(session.scalars(select(Run.id).where(Run.id.in_([p.name for p in old]))))
    orphans = sorted(p for p in old if p.name not in known)
    for orphan in orphans:
        shutil.rmtree(orphan, ignore_errors=True)
    return [p.name for p in orphans]


def _sweep_rows(services: Services) -> None:
    now = services.clock()
    with services.database.write() as session:
        session.execute(delete(Login).where(Login.expires_at <= now))
        session.execute(delete(Answered).where(Answered.at <= now - KEPT_FOR))
        old = (Delivery.state != "due", Delivery.due_at <= now - DELIVERIES_KEPT_FOR)
        session.execute(delete(Delivery).where(*old))
