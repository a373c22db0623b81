"""Events of a run and who hears them (DESIGN §4.15). The driver emits; the journal always appends; others may listen too.

The terminal shows events, a service will ship the journal, the report reads it. Events are plain data, one class for each.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from xpo_ray.full_disk import told


@dataclass(frozen=True)
class RunStarted:
    """An attempt begins."""

    run_id: str
    attempt: int
    iterations: int
    total_steps: int
    dashboard: str | None = None


@dataclass(frozen=True)
class DataRead:
    """What the length filter did to a dataset; `name` is source or evaluation."""

    name: str
    read: int
    kept: int
    invalid_rows: int
    dropped_overlong: int
    truncated_prompts: int
    cut_responses: int


@dataclass(frozen=True)
class RunResumed:
    """An attempt goes on from a checkpoint; `adopted_tables` are not made again."""

    checkpoint: str | None
    total_steps: int
    adopted_tables: int


@dataclass(frozen=True)
class IterationStarted:
    """An iteration begins; κ and the learning rate are those of this iteration."""

    iteration: int
    prompts: int
    shards: int
    steps: int
    kappa: float
    learning_rate: float


@dataclass(frozen=True)
class ShardDone:
    """A stage of a shard is committed; `fresh` is False where the commit was there already.

    Stage `held-out` is an evaluation of the model after `iteration`.
    """

    iteration: int
    shard: int
    stage: str
    prompts: int
    seconds: float
    fresh: bool
    counts: dict[str, float]


@dataclass(frozen=True)
class StepDone:
    """One optimizer step; `replayed` steps had been done before by an attempt or a trainer that died."""

    iteration: int
    step: int
    total_step: int
    metrics: dict[str, float]
    seconds: float
    replayed: bool


@dataclass(frozen=True)
class IterationPublished:
    """The model after an iteration is published; checkpoint is None where weights went by object ref alone."""

    iteration: int
    total_steps: int
    checkpoint: str | None
    path: str | None


@dataclass(frozen=True)
class WeightsServed:
    """All `replicas` of a role serve a version of the weights. `canary`: log-prob in nats per token of a fixed text, as the
    first of them gives it; `trainer_canary`: as the trainer gave it, None where it is not known."""

    role: str
    version: int
    engine: str
    replicas: int
    canary: float
    trainer_canary: float | None


@dataclass(frozen=True)
class EvaluationDone:
    """Held-out metrics of the model after an iteration; 0 is the base."""

    iteration: int
    metrics: dict[str, float | None]
    seconds: float


@dataclass(frozen=True)
class ActorReplaced:
    """A role's process died and a new one took its place."""

    role: str
    restarts: int
    reason: str


@dataclass(frozen=True)
class Warned:
    """Something that a user should look at; the run goes on."""

    code: str
    message: str


@dataclass(frozen=True)
class RunFinished:
    """The end of an attempt: succeeded, failed, paused or cancelled, with the work that was done twice."""

    status: str
    seconds: float
    replayed_steps: int
    model: str | None = None
    error: str | None = None


Event = (
    RunStarted
    | DataRead
    | RunResumed
    | IterationStarted
    | ShardDone
    | StepDone
    | IterationPublished
    | WeightsServed
    | EvaluationDone
    | ActorReplaced
    | Warned
    | RunFinished
)


class Reporter(Protocol):
    """Hears the events of a run, in order."""

    def emit(self, event: Event) -> None: ...


class Journal:
    """Appends every event to a file of JSON lines, numbered from 1 within the attempt. Raises DiskFull."""

    def __init__(self, path: Path, attempt: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = path.parent
        self._file: IO[str] = path.open("a", encoding="utf-8")
        self._attempt = attempt
        self._seq = 0

    def emit(self, event: Event) -> None:
        self._seq += 1
        head = {"seq": self._seq, "attempt": self._attempt, "at": time.time(), "type": type(event).__name__}
        with told(self._folder):
            self._file.write(json.dumps({**head, **asdict(event)}) + "\n")
            self._file.flush()

    def close(self) -> None:
        with told(self._folder):
            self._file.close()


class Tee:
    """Passes each event on to several reporters."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self._reporters = tuple(reporters)

    def emit(self, event: Event) -> None:
        for reporter in self._reporters:
            reporter.emit(event)


def read_journals(root: Path) -> Iterator[dict[str, Any]]:
    """All events of all attempts of a run, in order. A last line that a kill cut short is left out."""
    for path in sorted((root / "attempts").glob("*/journal.jsonl")):
        yield from read_lines(path)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; an unfinished last line is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
