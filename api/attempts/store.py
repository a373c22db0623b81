"""Rows of attempts: the beginning of one, its ticket, and the token by which its driver is known.

Functions on a session; admission and the reconciler begin attempts, the routes of a driver look them up.
"""

import hmac
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from xpo_ray.api.database.tables import Attempt, Run
from xpo_ray.api.events.store import append
from xpo_ray.api.keys.secret import new_secret, sha256
from xpo_ray.api.problems import Refusal
from xpo_ray.api.runs.life import move

TICKET = "ticket_"


def begin_attempt(session: Session, run: Run, at: datetime, *, why: str = "an attempt begins") -> tuple[Attempt, str]:
    """The next attempt of a run that is queued or between two attempts, and the text of its ticket."""
    number = run.attempt + 1
    ticket = new_secret(TICKET)
    move(
        session,
        run,
        "starting",
        at,
        why=why,
        attempt=number,
        started_at=run.started_at or at,
        retry_at=None,
        waiting_for=None,
    )
    attempt = Attempt(
        run_id=run.id,
        number=number,
        state="submitting",
        ray_job=f"{run.id}-{number}",
        ticket_sha256=sha256(ticket),
        started_at=at,
        shipped=0,
        progressed=False,
    )
    session.add(attempt)
    append(session, run.id, "attempt_started", {"attempt": number, "ray_job": attempt.ray_job}, at)
    return attempt, ticket


def renew_ticket(session: Session, run_id: str, number: int) -> str | None:
    """Another ticket for an attempt whose first one was lost with a killed API; None where it was claimed meanwhile."""
    attempt = locked(session, run_id, number)
    if attempt is None or attempt.nonce_sha256 is not None or attempt.state == "ended":
        return None
    ticket = new_secret(TICKET)
    attempt.ticket_sha256 = sha256(ticket)
    return ticket


def locked(session: Session, run_id: str, number: int) -> Attempt | None:
    """The row of an attempt, this transaction's alone to the end."""
    return session.scalar(select(Attempt).where(Attempt.run_id == run_id, Attempt.number == number).with_for_update())


def of_driver(session: Session, run_id: str, number: int, token: str) -> tuple[Run, Attempt]:
    """The run and the attempt of a driver with this token, locked. 401 for another token."""
    run = session.scalar(select(Run).where(Run.id == run_id).with_for_update())
    attempt = locked(session, run_id, number)
    if (
        run is None
        or attempt is None
        or attempt.token_sha256 is None
        or not hmac.compare_digest(attempt.token_sha256, sha256(token))
    ):
        raise Refusal(401, "unauthorized", f"this token is not good for attempt {number} of run {run_id}")
    return run, attempt


def living(run: Run, attempt: Attempt) -> bool:
    """Whether the attempt is the run's newest and has not ended."""
    return attempt.number == run.attempt and attempt.state != "ended"


def superseded(run: Run, attempt: Attempt) -> Refusal:
    """What a driver hears whose attempt no longer counts."""
    return Refusal(
        409,
        "attempt_superseded",
        f"attempt {attempt.number} of run {run.id} has ended for the service (the run is in attempt {run.attempt}); stop",
    )
