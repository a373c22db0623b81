"""Writing the event log. `append` is called inside the transaction of what it tells of, so that neither stands alone."""

from datetime import datetime
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from xpo_ray.api.database.tables import Event, Run
from xpo_ray.wire.events import Level


def append(
    session: Session,
    run_id: str,
    kind: str,
    payload: dict[str, Any],
    at: datetime,
    *,
    level: Level = "info",
    attempt: int | None = None,
) -> int:
    """Add an event to a run's log; returns its `seq`. The counter on the run's row makes the sequence gap-free: whoever
    holds the row has the next number, and a transaction that fails gives it back. `attempt`: else the newest."""
    row = session.execute(
        update(Run).where(Run.id == run_id).values(event_seq=Run.event_seq + 1).returning(Run.event_seq, Run.attempt)
    ).one()
    number = row[1] if attempt is None else attempt
    session.add(Event(run_id=run_id, seq=row[0], type=kind, level=level, attempt=number, at=at, payload=payload))
    session.flush()
    return int(row[0])
