"""Rows of runs and attempts as they go over the wire. Reads the session that it is given; never writes."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from xpo_ray.api.database.tables import Attempt, Run
from xpo_ray.wire.runs import AttemptView, Origin, Progress, Reservation, Retention, RunError, RunView


def run_views(session: Session, runs: Sequence[Run]) -> list[RunView]:
    """Views of these runs; positions in the queue come from one query for all."""
    queued = [run.id for run in runs if run.status == "queued"]
    positions = _positions(session, queued) if queued else {}
    return [_view(run, positions.get(run.id)) for run in runs]


def run_view(session: Session, run: Run) -> RunView:
    """One run."""
    return run_views(session, [run])[0]


def attempt_view(row: Attempt) -> AttemptView:
    """One attempt."""
    return AttemptView(
        number=row.number,
        state=row.state,
        ray_job=row.ray_job,
        started_at=row.started_at,
        claimed_at=row.claimed_at,
        heartbeat_at=row.heartbeat_at,
        ended_at=row.ended_at,
        ending=row.ending,
        error=None if row.error is None else RunError.model_validate(row.error),
    )


def _positions(session: Session, ids: list[str]) -> dict[str, int]:
    order = func.row_number().over(order_by=(Run.priority.desc(), Run.queued_at, Run.id)).label("position")
    ranked = select(Run.id, order).where(Run.status == "queued", Run.deleting.is_(False)).subquery()
    found = session.execute(select(ranked.c.id, ranked.c.position).where(ranked.c.id.in_(ids)))
    return {run_id: int(position) for run_id, position in found}


def _view(run: Run, position: int | None) -> RunView:
    result = run.result or {}
    forked = None
    if run.forked_run is not None and run.forked_iteration is not None:
        forked = Origin(run=run.forked_run, iteration=run.forked_iteration)
    return RunView(
        id=run.id,
        created_at=run.created_at,
        name=run.name,
        status=run.status,
        owner=run.owner,
        attempt=run.attempt,
        version=run.version,
        started_at=run.started_at,
        finished_at=run.finished_at,
        priority=run.priority,
        queue_position=position,
        waiting_for=run.waiting_for,
        metadata=run.notes,
        reservation=Reservation(cpus=run.cpus, gpus=run.gpus, memory_gib=run.memory_gib),
        retention=Retention.model_validate(run.retention),
        spec=run.spec,
        progress=Progress.model_validate(run.progress),
        error=None if run.error is None else RunError.model_validate(run.error),
        forked_from=forked,
        ray_job=f"{run.id}-{run.attempt}" if run.attempt else None,
        selected_iteration=result.get("selected_iteration"),
        tier=result.get("tier"),
    )
