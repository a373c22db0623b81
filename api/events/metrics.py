"""Series of a run, from the tables that the journal is projected to."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from xpo_ray.api.database.tables import Evaluation, Stage, Step
from xpo_ray.wire.events import Metrics, Series


def metrics_of(session: Session, run_id: str) -> Metrics:
    """All series."""
    steps = session.scalars(select(Step).where(Step.run_id == run_id).order_by(Step.total_step))
    held = session.scalars(select(Evaluation).where(Evaluation.run_id == run_id).order_by(Evaluation.iteration))
    stages = session.scalars(select(Stage).where(Stage.run_id == run_id).order_by(Stage.iteration, Stage.stage))
    rates = ((s.iteration, {s.stage: s.prompts / s.seconds if s.seconds > 0 else None}) for s in stages)
    return Metrics(
        steps=_series((row.total_step, {**row.metrics, "seconds": row.seconds}) for row in steps),
        evaluations=_series((row.iteration, row.metrics) for row in held),
        stages=_series(rates),
    )


def _series(points: Iterable[tuple[float, dict[str, Any]]]) -> list[Series]:
    found: dict[str, tuple[list[float], list[float | None]]] = defaultdict(lambda: ([], []))
    for x, values in points:
        for name, y in values.items():
            if y is None or (isinstance(y, (int, float)) and not isinstance(y, bool)):
                found[name][0].append(x)
                found[name][1].append(None if y is None else float(y))
    return [Series(name=name, x=xs, y=ys) for name, (xs, ys) in sorted(found.items())]
