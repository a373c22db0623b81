"""Lists of runs by age, with filters. Functions on a session."""

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from xpo_ray.api.database.tables import Attempt, Run
from xpo_ray.api.paging import behind
from xpo_ray.api.problems import Refusal
from xpo_ray.run_states import Status


def list_runs(
    session: Session,
    after: str | None,
    limit: int,
    *,
    statuses: Sequence[Status] = (),
    metadata: Sequence[str] = (),
    owner: str | None = None,
) -> list[Run]:
    """Newest first; `metadata` holds pairs `name:value`, of which a run must have all. Raises Refusal."""
    query = select(Run).where(Run.deleting.is_(False)).order_by(Run.created_at.desc(), Run.id.desc()).limit(limit)
    if after is not None:
        before, last = behind(after)
        query = query.where(or_(Run.created_at < before, (Run.created_at == before) & (Run.id < last)))
    if statuses:
        query = query.where(Run.status.in_(statuses))
    if owner is not None:
        query = query.where(Run.owner == owner)
    for pair in metadata:
        name, colon, value = pair.partition(":")
        if not colon or not name or '"' in name:
            raise Refusal(422, "request_invalid", f"metadata {pair!r:.80}: expected name:value", field="metadata")
        query = query.where(Run.notes[name].as_string() == value)
    return list(session.scalars(query))


def attempts_of(session: Session, run_id: str) -> list[Attempt]:
    """Oldest first."""
    return list(session.scalars(select(Attempt).where(Attempt.run_id == run_id).order_by(Attempt.number)))
