"""Retention: after the end of a run the checkpoints at the borders of iterations that nobody asked to keep are freed.

Which ones go is decided, and told as an event, in one transaction that holds the run's row; the files go after it. A fork takes
the same row and looks at `freed`, so that no run starts from a model that is going. Sidecars stay: they are the lineage.
"""

import shutil
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from xpo_ray.api.artifacts.committed import Committed
from xpo_ray.api.database.tables import Evaluation, Event, Run
from xpo_ray.api.events.store import append
from xpo_ray.api.services import Services
from xpo_ray.run_states import FINAL
from xpo_ray.storage import Checkpoint
from xpo_ray.wire.runs import Retention

FREED = "checkpoints_freed"
REWARD = "reward"
LOOKED_AT = timedelta(days=2)
"""So long after its end a run is looked at again: the service may have been killed in between."""


def free(services: Services, run_id: str) -> list[int]:
    """Free what goes; returns the iterations whose checkpoints do. Nothing for a run that goes on; again changes nothing."""
    root = services.run_folder(run_id)
    committed = Committed.of(root)
    if committed is None:
        return []
    borders = [c for c in committed.checkpoints() if c.step == 0]
    with services.database.write() as session:
        run = session.scalar(select(Run).where(Run.id == run_id).with_for_update())
        if run is None or run.deleting or run.status not in FINAL:
            return []
        told = freed(session, run_id)
        gone = _going(session, run, borders)
        fresh = sorted({c.iteration for c in gone} - told)
        if fresh:
            sizes = sum(size for c in gone if c.iteration in fresh for size, _ in c.files.values())
            append(session, run_id, FREED, {"iterations": fresh, "bytes": sizes}, services.clock())
    for checkpoint in borders:
        if checkpoint.iteration in told | set(fresh):
            shutil.rmtree(root / checkpoint.path, ignore_errors=True)
    if fresh:
        services.changes.tell(run_id)
    return fresh


def freed(session: Session, run_id: str) -> set[int]:
    """Iterations of a run whose checkpoints were freed, or are just going."""
    payloads = session.scalars(select(Event.payload).where(Event.run_id == run_id, Event.type == FREED))
    return {int(iteration) for payload in payloads for iteration in payload["iterations"]}


def sweep(services: Services) -> None:
    """Free what a killed service left of runs that ended lately."""
    lately = services.clock() - LOOKED_AT
    with services.database.read() as session:
        query = select(Run.id).where(Run.status.in_(FINAL), Run.finished_at >= lately, Run.deleting.is_(False))
        ended = list(session.scalars(query))
    for run_id in ended:
        free(services, run_id)


def _going(session: Session, run: Run, borders: list[Checkpoint]) -> list[Checkpoint]:
    retention = Retention.model_validate(run.retention)
    if retention.last is None:
        return []
    iterations = sorted({c.iteration for c in borders})
    kept = set(iterations[len(iterations) - min(retention.last, len(iterations)) :])
    kept |= set(session.scalars(select(Run.forked_iteration).where(Run.forked_run == run.id)))
    selected = (run.result or {}).get("selected_iteration")
    kept |= set() if selected is None else {int(selected)}
    if retention.best and (best := _best(session, run.id, set(iterations))) is not None:
        kept.add(best)
    return [c for c in borders if c.iteration not in kept]


def _best(session: Session, run_id: str, iterations: set[int]) -> int | None:
    """The iteration with the best held-out reward, of equals the first."""
    rows = session.scalars(select(Evaluation).where(Evaluation.run_id == run_id).order_by(Evaluation.iteration))
    rewards = {row.iteration: row.metrics.get(REWARD) for row in rows if row.iteration in iterations}
    known = {iteration: float(reward) for iteration, reward in rewards.items() if reward is not None}
    return max(known, key=lambda iteration: known[iteration], default=None)
