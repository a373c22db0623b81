"""Journals made by hand for the tests of exports: two iterations of two steps each, as a driver would tell them."""

from pathlib import Path
from typing import Any

from xpo_ray.exports.exporter import RunCard, Sample
from xpo_ray.exports.shipper import Shipment, Shipper
from xpo_ray.reporting import (
    EvaluationDone,
    Event,
    IterationStarted,
    Journal,
    RunFinished,
    RunStarted,
    ShardDone,
    StepDone,
)

SPEC: dict[str, Any] = {
    "name": "tiny",
    "data": {"source": {"kind": "files", "path": [f"/prompts/part-{i:05d}.parquet" for i in range(300)]}},
    "training": {"batch_size": 8, "learning_rate": [1e-3, 1e-4]},
    "judge": None,
}
STARTED = RunStarted("run_1", 1, 2, 4)
BEGUN = IterationStarted(1, 16, 2, 2, 0.001, 1e-3)
FINISHED = RunFinished("succeeded", 9.0, 0)
DRAWN = {"responses": 8.0, "tokens": 80.0, "ended": 6.0}
JUDGED = {"pairs": 6.0, "ties": 1.0, "dropped": 1.0, "failed": 1.0}
SAMPLE = Sample("p0", "user: `why`?", "<script>no</script>", 5, True, 1.5, None, None)
STEPS_UNTIL = {0: 0, 1: 2, 2: 4}


def step(total: int, loss: float | None = None, *, replayed: bool = False) -> StepDone:
    """One of the four steps; the loss is 0.1 for each step done."""
    metrics = {"loss": total / 10 if loss is None else loss, "tokens": 100.0}
    return StepDone((total + 1) // 2, 2 - total % 2, total, metrics, 0.5, replayed)


def shard(stage: str, counts: dict[str, float], *, fresh: bool = True) -> ShardDone:
    """A shard of eight prompts that took two seconds."""
    return ShardDone(1, 0, stage, 8, 2.0, fresh, counts)


def evaluation(iteration: int) -> EvaluationDone:
    """The base has nothing to be compared with."""
    return EvaluationDone(iteration, {"reward": 1.0 + iteration, "gain": None if iteration == 0 else 0.5}, 3.0)


WHOLE: tuple[Event, ...] = (
    STARTED,
    BEGUN,
    step(1),
    evaluation(0),
    step(2),
    step(3),
    evaluation(1),
    step(4),
    evaluation(2),
    FINISHED,
)


def card(root: Path, attempt: int = 1) -> RunCard:
    return RunCard("run_1", "tiny", attempt, root, SPEC, ("selm", "mine"), last_step=0)


def shipper_of(root: Path, attempt: int, kind: str, exporter: Any) -> Shipper:
    """A shipper whose journal is that of an attempt in the folder."""
    return Shipper(Shipment(kind, card(root, attempt), exporter, STEPS_UNTIL.__getitem__, lambda _t: (SAMPLE,)))


def journal(root: Path, attempt: int) -> Journal:
    return Journal(root / "attempts" / f"{attempt:04d}" / "journal.jsonl", attempt)


def tell(root: Path, attempt: int, *events: Event) -> None:
    """Events in an attempt's journal."""
    written = journal(root, attempt)
    for event in events:
        written.emit(event)
    written.close()


def ship(root: Path, attempt: int, kind: str, exporter: Any) -> None:
    """Send what an attempt's journal holds, to the end."""
    shipper = shipper_of(root, attempt, kind, exporter)
    shipper.end()
    assert shipper.ended(60.0)
    assert shipper.failure is None, shipper.failure
