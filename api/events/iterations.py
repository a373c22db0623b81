"""Iterations of a run, from its events and stages."""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from xpo_ray.api.database.tables import Evaluation, Event, Run, Stage, Step
from xpo_ray.wire.artifacts import IterationView


def iterations_of(session: Session, run: Run) -> list[IterationView]:
    """All that are planned, or at least known of, in order."""
    started = _latest(session, run.id, "iteration_started")
    published = _latest(session, run.id, "iteration_published")
    scored = select(Stage.iteration, Stage.shards).where(Stage.run_id == run.id, Stage.stage == "scored")
    shards = {int(t): int(n) for t, n in session.execute(scored)}
    done = select(Step.iteration, func.count()).where(Step.run_id == run.id).group_by(Step.iteration)
    steps = {int(t): int(n) for t, n in session.execute(done)}
    held = {e.iteration: e.metrics for e in session.scalars(select(Evaluation).where(Evaluation.run_id == run.id))}
    count = max([run.progress.get("iterations", 0), *started, *published], default=0)
    return [
        _view(t, started.get(t), published.get(t), shards.get(t, 0), steps.get(t, 0), held.get(t))
        for t in range(1, count + 1)
    ]


def _latest(session: Session, run_id: str, kind: str) -> dict[int, dict[str, Any]]:
    """Payloads of the last event of a kind, by iteration."""
    query = select(Event.payload).where(Event.run_id == run_id, Event.type == kind).order_by(Event.seq)
    return {int(payload["iteration"]): payload for payload in session.scalars(query)}


def _view(
    t: int,
    started: dict[str, Any] | None,
    published: dict[str, Any] | None,
    shards: int,
    steps: int,
    held: dict[str, Any] | None,
) -> IterationView:
    plan = started or {}
    return IterationView(
        iteration=t,
        status="published" if published else "running" if started else "planned",
        prompts=plan.get("prompts"),
        shards=plan.get("shards"),
        shards_scored=shards,
        steps=plan.get("steps"),
        steps_done=steps,
        kappa=plan.get("kappa"),
        learning_rate=plan.get("learning_rate"),
        evaluation=held,
        checkpoint=(published or {}).get("checkpoint"),
    )
