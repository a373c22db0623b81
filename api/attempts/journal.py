"""Journal records of a driver become events, series and the run's progress; each record counts once.

A batch is one transaction with the number of records received, so that a batch that is sent again, or comes in two parts,
changes nothing the second time. Records never say what the run's status is but one: RunStarted makes it `running`.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from xpo_ray.api.attempts.store import living, locked, of_driver, superseded
from xpo_ray.api.database.tables import Attempt, Evaluation, Run, Stage, Step
from xpo_ray.api.events.store import append
from xpo_ray.api.metrics import EVENTS, REPLAYED
from xpo_ray.api.problems import Refusal
from xpo_ray.api.runs.life import move
from xpo_ray.api.services import Services
from xpo_ray.crashpoints import crash_point
from xpo_ray.wire.attempts import JournalBatch, Received
from xpo_ray.wire.events import Level

Record = dict[str, Any]
HEAD = frozenset({"seq", "attempt", "at", "type"})
LEVELS: dict[str, Level] = {"Warned": "warning", "ActorReplaced": "warning"}
RECENT = timedelta(minutes=5)
"""The steps of so long say how many seconds are left."""


def receive(services: Services, run_id: str, number: int, token: str, batch: JournalBatch) -> Received:
    """Store a batch. 409 journal_gap where records before it are missing, with what is there."""
    with services.database.write() as session:
        run, attempt = of_driver(session, run_id, number, token)
        if not living(run, attempt):
            raise superseded(run, attempt)
        whose = attempt if batch.attempt == number else locked(session, run_id, batch.attempt)
        if whose is None or batch.attempt > number:
            raise Refusal(422, "request_invalid", f"run {run_id} has no attempt {batch.attempt}", field="attempt")
        fresh = _fresh(batch, whose.shipped)
        for record in fresh:
            _store(session, run, whose, record)
        whose.shipped += len(fresh)
        if any(r["type"] == "StepDone" for r in fresh):
            _estimate(session, run)
        received = Received(shipped=whose.shipped)
    crash_point("journal.after_store")
    EVENTS.inc(len(fresh))
    REPLAYED.inc(sum(r["type"] == "StepDone" and bool(r["replayed"]) for r in fresh))
    if fresh:
        services.changes.tell(run_id, progress=True)
    return received


def _fresh(batch: JournalBatch, shipped: int) -> list[Record]:
    """The records of a batch that were not received yet."""
    if [r.get("seq") for r in batch.records] != list(range(batch.first, batch.first + len(batch.records))):
        raise Refusal(422, "request_invalid", "records must be numbered by seq without a gap", field="records")
    if batch.first > shipped + 1:
        raise Refusal(409, "journal_gap", f"records {shipped + 1} to {batch.first - 1} are missing; have {shipped}")
    return batch.records[shipped + 1 - batch.first :]


def event_type(kind: str) -> str:
    """StepDone → step_done."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind).lower()


def _store(session: Session, run: Run, attempt: Attempt, record: Record) -> None:
    kind, at = str(record["type"]), datetime.fromtimestamp(float(record["at"]), UTC)
    payload = {name: value for name, value in record.items() if name not in HEAD}
    level: Level = "error" if payload.get("error") else LEVELS.get(kind, "info")
    append(session, run.id, event_type(kind), payload, at, level=level, attempt=attempt.number)
    projection = PROJECTIONS.get(kind)
    if projection is not None:
        projection(session, run, attempt, payload, at)


def _started(session: Session, run: Run, attempt: Attempt, record: Record, at: datetime) -> None:
    _progress(run, iterations=record["iterations"], total_steps=record["total_steps"])
    if run.status == "starting" and attempt.number == run.attempt:
        session.flush()
        move(session, run, "running", at, why=f"attempt {attempt.number} works")


def _shard(session: Session, run: Run, attempt: Attempt, record: Record, at: datetime) -> None:  # noqa: ARG001
    if not record["fresh"]:
        return
    attempt.progressed = True
    stage = session.get(Stage, (run.id, record["iteration"], record["stage"]))
    if stage is None:
        stage = Stage(run_id=run.id, iteration=record["iteration"], stage=record["stage"])
        stage.shards, stage.prompts, stage.seconds, stage.counts = 0, 0, 0.0, {}
        session.add(stage)
    stage.shards += 1
    stage.prompts += record["prompts"]
    stage.seconds += record["seconds"]
    counts = record["counts"]
    stage.counts = {n: stage.counts.get(n, 0.0) + counts.get(n, 0.0) for n in {*stage.counts, *counts}}
    if record["stage"] == "scored":
        _progress(run, prompts=run.progress.get("prompts", 0) + record["prompts"])


def _step(session: Session, run: Run, attempt: Attempt, record: Record, at: datetime) -> None:
    values = {name: record[name] for name in ("iteration", "step", "seconds", "metrics")}
    row = session.get(Step, (run.id, record["total_step"]))
    if row is None:
        row = Step(run_id=run.id, total_step=record["total_step"], attempt=attempt.number, at=at, **values)
        session.add(row)
    for name, value in {**values, "attempt": attempt.number, "at": at}.items():
        setattr(row, name, value)
    replayed = run.progress.get("replayed_steps", 0) + bool(record["replayed"])
    _progress(run, steps=max(run.progress.get("steps", 0), record["total_step"]), replayed_steps=replayed)
    attempt.progressed = attempt.progressed or not record["replayed"]


def _published(session: Session, run: Run, attempt: Attempt, record: Record, at: datetime) -> None:  # noqa: ARG001
    _progress(run, iteration=max(run.progress.get("iteration", 0), record["iteration"]))


def _evaluated(session: Session, run: Run, attempt: Attempt, record: Record, at: datetime) -> None:  # noqa: ARG001
    row = session.get(Evaluation, (run.id, record["iteration"]))
    if row is None:
        session.add(Evaluation(run_id=run.id, iteration=record["iteration"], metrics=record["metrics"], at=at))
    else:
        row.metrics, row.at = record["metrics"], at


PROJECTIONS = {
    "RunStarted": _started,
    "ShardDone": _shard,
    "StepDone": _step,
    "IterationPublished": _published,
    "EvaluationDone": _evaluated,
}


def _progress(run: Run, **values: Any) -> None:
    run.progress = {**run.progress, **values}


def _estimate(session: Session, run: Run) -> None:
    """Seconds to the last step, at the pace of the steps of the last minutes; None before there are some."""
    session.flush()
    last = session.scalar(select(func.max(Step.at)).where(Step.run_id == run.id))
    if last is None:
        return
    recent = select(Step.at).where(Step.run_id == run.id, Step.at >= last - RECENT, Step.attempt == run.attempt)
    times = sorted(session.scalars(recent))
    seconds = (times[-1] - times[0]).total_seconds() if len(times) > 1 else 0.0
    left = run.progress.get("total_steps", 0) - run.progress.get("steps", 0)
    _progress(run, seconds_remaining=round(seconds / (len(times) - 1) * left, 1) if seconds > 0 else None)
