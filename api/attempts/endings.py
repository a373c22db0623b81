"""The end of an attempt, told by its driver or found by the reconciler, and what becomes of the run.

`conclude` is the one place that ends an attempt; it runs in the caller's transaction and does nothing for one that has ended.
"""

import shutil
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from xpo_ray.api.attempts.store import living, of_driver, superseded
from xpo_ray.api.database.tables import Attempt, Run
from xpo_ray.api.events.store import append
from xpo_ray.api.metrics import ATTEMPTS
from xpo_ray.api.runs import retention
from xpo_ray.api.runs.life import move
from xpo_ray.api.services import Services
from xpo_ray.crashpoints import crash_point
from xpo_ray.failures import DISK_FULL
from xpo_ray.run_states import FINAL, Ending, Next, Status, after_attempt, may_follow, wanted_of
from xpo_ray.wire.attempts import AttemptEnd, Orders
from xpo_ray.wire.runs import RunError

KEPT_PROMPTS = "prompts"
UNCONFIRMED, CONFIRMED = "result.unconfirmed.json", "result.json"
PASSES: dict[Status, Status] = {"paused": "pausing", "cancelled": "cancelling"}
"""Through which status a run goes that was not asked to stop by a user: a job that was stopped from outside."""


def end_by_driver(services: Services, run_id: str, number: int, token: str, end: AttemptEnd) -> Orders:
    """Take a driver's last word. 409 where the attempt no longer counts; the same word again has the same answer."""
    with services.database.write() as session:
        run, attempt = of_driver(session, run_id, number, token)
        again = attempt.state == "ended" and attempt.ending == end.ending and attempt.number == run.attempt
        if not again:
            if not living(run, attempt):
                raise superseded(run, attempt)
            conclude(services, session, run, attempt, end.ending, end.error, end.result)
        orders = Orders(wanted=wanted_of(run.status))  # type: ignore[arg-type]
        final, succeeded = run.status in FINAL, run.status == "succeeded"
    crash_point("end.after_store")
    if succeeded:
        _confirm(services.run_folder(run_id) / "attempts" / f"{number:04d}")
    if final:
        tidy(services, run_id)  # and again: the service may have been killed behind its first answer
    if not again:
        ATTEMPTS.labels(end.ending).inc()
        services.changes.tell(run_id)
    return orders


def conclude(
    services: Services,
    session: Session,
    run: Run,
    attempt: Attempt,
    ending: Ending,
    error: RunError | None,
    result: dict[str, Any] | None = None,
) -> None:
    """End an attempt, and bring its run where the rules say."""
    if not living(run, attempt):
        return
    at = services.clock()
    attempt.state, attempt.ending, attempt.ended_at = "ended", ending, at
    attempt.error = None if error is None else error.model_dump()
    full = error is not None and error.code == DISK_FULL
    if attempt.progressed or ending in ("succeeded", "paused", "parked"):
        run.fruitless = 0
    elif not full:
        run.fruitless += 1
    session.flush()
    told = {"attempt": attempt.number, "ending": ending, "error": attempt.error}
    append(session, run.id, "attempt_ended", told, at, level="error" if error is not None else "info")
    most_without_room = services.settings.most_attempts_without_room
    without_room = _without_room(session, run, most_without_room) if full else 0
    following = after_attempt(
        run.status,  # type: ignore[arg-type]
        ending,
        user_error=error is not None and error.kind == "user",
        fruitless=run.fruitless,
        most_fruitless=services.settings.most_attempts_without_progress,
        without_room=without_room,
        most_without_room=most_without_room,
    )
    if error is not None and without_room >= most_without_room:
        error = error.model_copy(update={"message": _no_room(without_room, error.message)})
    _bring(session, run, attempt, following, error, result, at)


def _bring(
    session: Session,
    run: Run,
    attempt: Attempt,
    following: Next,
    error: RunError | None,
    result: dict[str, Any] | None,
    at: datetime,
) -> None:
    to = following.status
    if run.status in FINAL:
        return
    cause = f" ({error.code})" if error is not None else ""
    if not may_follow(run.status, to):  # type: ignore[arg-type]
        move(session, run, PASSES[to], at, why=f"attempt {attempt.number} was stopped{cause}")
    why = f"attempt {attempt.number} ended: {attempt.ending}{cause}"
    values: dict[str, Any] = {"fruitless": run.fruitless}
    if to == "succeeded":
        values |= {"result": result, "error": None, "waiting_for": None}
    elif to == "failed":
        values |= {"error": (error or _silent(attempt, run)).model_dump(), "waiting_for": None}
    elif to == "starting":
        values |= {"retry_at": at + timedelta(seconds=following.after_s)}
        values |= {"waiting_for": _why_waiting(attempt, error, following.after_s)}
    else:
        values |= {"waiting_for": _why_paused(error) if to == "paused" else None}
    move(session, run, to, at, why=why, level="error" if to == "failed" else "info", **values)


def tidy(services: Services, run_id: str) -> None:
    """Free what only further attempts would have read; the run has ended for good."""
    root = services.run_folder(run_id)
    shutil.rmtree(root / KEPT_PROMPTS, ignore_errors=True)
    for ticket in (root / "attempts").glob("*/ticket"):
        ticket.unlink(missing_ok=True)
    retention.free(services, run_id)


def _confirm(folder: Path) -> None:
    """The result counts from now on; its driver says so too, if it still lives."""
    with suppress(FileNotFoundError):
        (folder / UNCONFIRMED).rename(folder / CONFIRMED)


def _without_room(session: Session, run: Run, most: int) -> int:
    """How many of the newest attempts in a row a full disk ended, as far as `most`; those before one that made progress, or
    before the run was last queued, do not count."""
    since = (Attempt.run_id == run.id) & (Attempt.started_at >= run.queued_at)
    newest = select(Attempt.error, Attempt.progressed).where(since).order_by(Attempt.number.desc()).limit(most)
    ended = takewhile(lambda a: a.error is not None and a.error["code"] == DISK_FULL, session.execute(newest))
    count = 0
    for attempt in ended:
        count += 1
        if attempt.progressed:
            break
    return count


def _no_room(attempts: int, message: str) -> str:
    """What a run says that pauses because it has found no room too often; nothing is lost."""
    return f"{attempts} attempts in a row found no room; make some, then resume the run, and nothing is lost. {message}"


def _silent(attempt: Attempt, run: Run) -> RunError:
    return RunError(
        code="attempt_died",
        message=f"attempt {attempt.number} ended without a word, as {run.fruitless} in a row that made no progress; "
        "see the logs of the attempts",
        kind="system",
    )


def _why_paused(error: RunError | None) -> str | None:
    """A run that paused by itself says why; one that was asked to needs no reason."""
    return None if error is None else error.message[:500]


def _why_waiting(attempt: Attempt, error: RunError | None, after_s: float) -> str:
    cause = "died" if error is None else f"died of {error.code}: {error.message}"
    when = f"in {after_s:g} s"
    if error is not None and error.code == DISK_FULL:
        when = f"when there is room, {when} at the earliest"
    return f"attempt {attempt.number} {cause[:400]}; the next one starts {when}"
