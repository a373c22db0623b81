"""The queue: which runs may start now. Priority first, then age; nobody overtakes the run at the head.

`admit` is a pure function; `admit_waiting` does it in the caller's transaction. The reconciler calls it each turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from xpo_ray.api.attempts.store import begin_attempt
from xpo_ray.api.database.tables import Run
from xpo_ray.run_states import ALIVE


class Amount(Protocol):
    """What is had or wanted of the cluster."""

    @property
    def cpus(self) -> float: ...

    @property
    def gpus(self) -> float: ...

    @property
    def memory_gib(self) -> float: ...


@dataclass(frozen=True)
class Held:
    """What the runs under way hold."""

    cpus: float = 0.0
    gpus: float = 0.0
    memory_gib: float = 0.0


@dataclass(frozen=True)
class Waiting:
    """A run in the queue."""

    id: str
    wants: Amount


def admit(queued: Sequence[Waiting], held: Amount, totals: Amount) -> tuple[list[str], str | None]:
    """Ids of the runs that start now, and why the first of the others does not; `queued` is in the queue's order."""
    used = Held(held.cpus, held.gpus, held.memory_gib)
    started: list[str] = []
    for waiting in queued:
        after = Held(
            used.cpus + waiting.wants.cpus,
            used.gpus + waiting.wants.gpus,
            used.memory_gib + waiting.wants.memory_gib,
        )
        if (short := _short(after, totals)) is not None:
            alone = _short(waiting.wants, totals)
            return started, f"{short} in use or wanted" if alone is None else f"it can never start: {alone}"
        used = after
        started.append(waiting.id)
    return started, None


def admit_waiting(session: Session, totals: Amount, now: datetime, fault: str | None = None) -> list[Run]:
    """Bring the runs that fit to `starting`, each with its first or next attempt; says of the head why it waits. With a fault,
    a full disk, none is started."""
    rows = list(
        session.scalars(
            select(Run)
            .where(Run.status == "queued", Run.deleting.is_(False))
            .order_by(Run.priority.desc(), Run.queued_at, Run.id)
            .limit(100)
            .with_for_update()
        )
    )
    if not rows:
        return []
    sums = select(func.sum(Run.cpus), func.sum(Run.gpus), func.sum(Run.memory_gib)).where(Run.status.in_(ALIVE))
    held = session.execute(sums).one()
    waiting = [Waiting(r.id, r) for r in rows]
    started, why = ([], fault) if fault is not None else admit(waiting, Held(*(v or 0.0 for v in held)), totals)
    admitted = [r for r in rows if r.id in started]
    for run in admitted:
        begin_attempt(session, run, now, why="admitted")
    head = next((r for r in rows if r.id not in started), None)
    if head is not None and head.waiting_for != why:
        head.waiting_for = why
    return admitted


def _short(wanted: Amount, totals: Amount) -> str | None:
    for name, unit in (("cpus", "CPUs"), ("gpus", "GPUs"), ("memory_gib", "GiB of memory")):
        need, have = getattr(wanted, name), getattr(totals, name)
        if need > have + 1e-9:
            return f"{need:g} of {have:g} {unit}"
    return None
