"""The claim of an attempt: the fence in front of a driver's first write (DESIGN §7).

The ticket shows that the driver was started by this service, the nonce tells two drivers with the same ticket apart: the first
one has the attempt. The token follows from the nonce, so that an answer that was lost is given again.
"""

import hmac
import secrets
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from xpo_ray import __version__
from xpo_ray.api.attempts.endings import conclude
from xpo_ray.api.attempts.store import living, locked, superseded
from xpo_ray.api.database.tables import Attempt, Fact, Run
from xpo_ray.api.keys.secret import sha256
from xpo_ray.api.problems import Refusal
from xpo_ray.api.runs.reservations import may_take
from xpo_ray.api.runs.specs import check_judges_again
from xpo_ray.api.services import Services
from xpo_ray.crashpoints import crash_point
from xpo_ray.run_states import wanted_of
from xpo_ray.wire.attempts import Claim, Granted
from xpo_ray.wire.runs import RunError

TOKEN_SECRET = "token_secret"
RESERVED = 0.25
"""Of the disk's floor, under which nothing new is started, runs under way leave so much to the service and its database."""


def claim_attempt(services: Services, run_id: str, number: int, asked: Claim) -> Granted:
    """Grant the attempt to the driver that asks first. 401, or 409 where it cannot have it; where the operator no longer allows
    the run's judge, or has taken back one of its secrets, the run is paused."""
    known = {name: value.get_secret_value() for name, value in services.settings.secrets().items()}
    with services.database.write() as session:
        run, attempt = _by_ticket(session, run_id, number, asked.ticket)
        if not living(run, attempt):
            raise superseded(run, attempt)
        _same_version(asked)
        token = _token(session, run_id, number, asked.nonce)
        _take(attempt, asked, token, services.clock())
        if (obstacle := _obstacle(services, run, known)) is None:
            granted = _granted(services, session, run, token, known)
        else:
            conclude(services, session, run, attempt, "paused", obstacle)
    crash_point("claim.after_store")
    services.changes.tell(run_id)
    if obstacle is not None:
        raise Refusal(409, obstacle.code, obstacle.message)
    return granted


def _obstacle(services: Services, run: Run, known: dict[str, str]) -> RunError | None:
    """What the operator has taken away since the run was submitted; it waits until that is there again."""
    if missing := [name for name in run.secrets if name not in known]:
        why = f"the service has no secret {', '.join(missing)} any more; ask the operator for it, then resume the run"
        return RunError(code="secret_missing", message=why, kind="user")
    try:
        check_judges_again(services.settings, run.spec, run.secrets)
    except Refusal as refused:
        why = f"{refused.detail}. It was when the run was submitted; ask the operator, then resume the run"
        return RunError(code=refused.code, message=why, kind="user")
    return None


def _by_ticket(session: Session, run_id: str, number: int, ticket: str) -> tuple[Run, Attempt]:
    run = session.get(Run, run_id)
    attempt = locked(session, run_id, number)
    if run is None or attempt is None or not hmac.compare_digest(attempt.ticket_sha256, sha256(ticket)):
        raise Refusal(401, "unauthorized", f"this ticket is not good for attempt {number} of run {run_id}")
    return run, attempt


def _same_version(asked: Claim) -> None:
    if (version := asked.versions.get("xpo-ray")) != __version__:
        raise Refusal(
            409,
            "version_mismatch",
            f"the driver has xpo-ray {version}, the service {__version__}: install the same version on all nodes",
        )


def _take(attempt: Attempt, asked: Claim, token: str, at: datetime) -> None:
    nonce = sha256(asked.nonce)
    if attempt.nonce_sha256 is None:
        attempt.nonce_sha256, attempt.token_sha256 = nonce, sha256(token)
        attempt.state, attempt.claimed_at = "claimed", at
        attempt.versions = dict(asked.versions)
    elif attempt.nonce_sha256 != nonce:
        raise Refusal(409, "attempt_claimed", f"attempt {attempt.number} belongs to another driver; stop")
    attempt.heartbeat_at = at


def _granted(services: Services, session: Session, run: Run, token: str, known: dict[str, str]) -> Granted:
    attempts = session.scalars(select(Attempt).where(Attempt.run_id == run.id))
    return Granted(
        token=token,
        spec=may_take(run.spec, run.gpus),
        secrets={name: known[name] for name in run.secrets},
        wanted=wanted_of(run.status),  # type: ignore[arg-type]
        heartbeat_s=services.settings.heartbeat_s,
        shipped={a.number: a.shipped for a in attempts},
        disk_reserve_mib=services.settings.disk_floor_mib * RESERVED,
    )


def _token(session: Session, run_id: str, number: int, nonce: str) -> str:
    """HMAC over the attempt and the nonce, by a key that only the database has."""
    fact = session.get(Fact, TOKEN_SECRET)
    if fact is None:
        fact = Fact(name=TOKEN_SECRET, value={"hex": secrets.token_hex(32)})
        session.add(fact)
        session.flush()
    key = bytes.fromhex(fact.value["hex"])
    return "attempt_" + hmac.new(key, f"{run_id}/{number}/{nonce}".encode(), "sha256").hexdigest()
