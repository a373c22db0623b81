"""Rows of runs and attempts as they go over the wire. Reads the session or connection that it is given; never writes."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, case, func, select
from sqlalchemy.orm import Session, aliased

from xpo_ray.api.database.tables import Attempt, Run
from xpo_ray.wire.runs import AttemptView, Origin, Progress, Reservation, Retention, RunError, RunView

Ahead = aliased(Run)
SHOWN = (
    *(Run.id, Run.created_at, Run.name, Run.status, Run.owner, Run.attempt, Run.version, Run.started_at),
    *(Run.finished_at, Run.priority, Run.waiting_for, Run.notes, Run.cpus, Run.gpus, Run.memory_gib, Run.retention),
    *(Run.spec, Run.progress, Run.error, Run.result, Run.forked_run, Run.forked_iteration),
)


def _ahead(*conditions: ColumnElement[bool]) -> ColumnElement[int]:
    """How many queued runs fulfil these; each is a range of the index `runs_queue`. A queued run is never being deleted."""
    count = select(func.count()).select_from(Ahead).where(Ahead.status == "queued", *conditions)
    return count.correlate(Run).scalar_subquery()


POSITION = case(
    (
        Run.status == "queued",
        1
        + _ahead(Ahead.priority > Run.priority)
        + _ahead(Ahead.priority == Run.priority, Ahead.queued_at < Run.queued_at)
        + _ahead(Ahead.priority == Run.priority, Ahead.queued_at == Run.queued_at, Ahead.id < Run.id),
    )
)
ONE = select(*SHOWN, POSITION.label("position")).where(Run.id == bindparam("run_id"), Run.deleting.is_(False))

NOT_YET = ("started_at", "finished_at", "waiting_for", "error", "result")
"""What a run has only later."""
PLACE = select(POSITION).where(Run.id == bindparam("run_id"))


def found_run(connection: Connection, run_id: str) -> RunView | None:
    """A run by one small query; None where there is none. For `Database.glance`."""
    row = connection.execute(ONE, {"run_id": run_id}).one_or_none()
    return None if row is None else _view(row, row.position)


def run_views(session: Session, runs: Sequence[Run]) -> list[RunView]:
    """Views of these runs; positions in the queue come from one query for all."""
    queued = [run.id for run in runs if run.status == "queued"]
    positions = _positions(session, queued) if queued else {}
    return [_view(run, positions.get(run.id)) for run in runs]


def run_view(connection: Connection, run: Run) -> RunView:
    """One run."""
    if run.status != "queued":
        return _view(run, None)
    return _view(run, connection.execute(PLACE, {"run_id": run.id}).scalar_one())


def view_of_new(values: dict[str, Any], position: int) -> RunView:
    """A run that is being written, by the values of its row and its place in the queue."""
    return _view(SimpleNamespace(**dict.fromkeys(NOT_YET), **values), position)


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


def _view(run: Run | Row[*tuple[Any, ...]] | SimpleNamespace, position: int | None) -> RunView:
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
