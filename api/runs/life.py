"""Changing a run's status: compare-and-set on (status, attempt) with the event, in the caller's transaction.

Everything that moves a run goes through `move`: user commands, admission, drivers' reports, the reconciler. Whoever comes
second finds another status and gets Conflict.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from xpo_ray.api.database.tables import Run
from xpo_ray.api.events.store import append
from xpo_ray.api.webhooks.outbox import note
from xpo_ray.errors import XpoRayError
from xpo_ray.run_states import FINAL, Status, may_follow
from xpo_ray.wire.events import Level


class Conflict(XpoRayError):
    """The run was no longer in the status from which it was to be moved."""


def move(
    session: Session,
    run: Run,
    to: Status,
    at: datetime,
    *,
    why: str,
    level: Level = "info",
    **values: Any,
) -> None:
    """Bring a run from the status and attempt that `run` has to another status; `values` are further columns to set.

    Raises Conflict where somebody was faster. An arrow that the graph does not have is an error of ours.
    """
    before: Status = run.status  # type: ignore[assignment]
    assert may_follow(before, to), f"{before} → {to}"
    if to in FINAL:
        values.setdefault("finished_at", at)
    if to == "queued":
        values.setdefault("queued_at", at)
    changed = session.execute(
        update(Run)
        .where(Run.id == run.id, Run.status == before, Run.attempt == run.attempt)
        .values(status=to, version=Run.version + 1, **values)
        .execution_options(synchronize_session=False)
    )
    if changed.rowcount != 1:  # type: ignore[attr-defined]
        raise Conflict(f"run {run.id} is no longer {before} in attempt {run.attempt}")
    append(session, run.id, "status_changed", {"from": before, "to": to, "why": why}, at, level=level)
    session.refresh(run)
    note(session, run, to, at)
