"""What a run's journals say, gathered in one pass: attempts, steps, stages, evaluations, what went wrong.

The sections of the report read it. A step or an evaluation that was done again counts once, with what the last time gave.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xpo_ray.report.series import Floats

STAGES = ("candidates", "preferences", "scored", "train", "held-out")


@dataclass
class AttemptLog:
    """One attempt as its journal tells it; `ended` is its last event so far."""

    number: int
    started: float
    ended: float
    status: str = "unfinished"
    error: str | None = None
    resumed_from: str | None = None
    adopted_tables: int = 0
    steps: int = 0
    replayed: int = 0


@dataclass
class StageLog:
    """A stage's work: when it was busy, and how much it did. Adopted tables are no work."""

    spans: list[tuple[float, float]] = field(default_factory=list)
    prompts: float = 0.0
    tokens: float = 0.0


class StepColumns:
    """One row per optimizer step, kept as columns."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._columns: dict[str, array[float]] = defaultdict(lambda: array("d"))

    def put(self, total_step: int, values: dict[str, float]) -> None:
        """Write a step's values; a step that was there before is overwritten."""
        place = self._places.setdefault(total_step, len(self._places))
        for name, value in values.items():
            column = self._columns[name]
            column.extend([float("nan")] * (place + 1 - len(column)))
            column[place] = value

    def __len__(self) -> int:
        return len(self._places)

    def column(self, name: str) -> Floats:
        """A metric in the order of steps; NaN where a step has none."""
        values = np.full(len(self), np.nan)
        known = self._columns.get(name, array("d"))
        values[: len(known)] = known
        return values[self._order()]

    def numbers(self) -> Floats:
        """The steps' numbers, ascending."""
        return np.array(sorted(self._places), dtype=np.float64)

    def has(self, name: str) -> bool:
        return name in self._columns

    def _order(self) -> list[int]:
        return [self._places[step] for step in sorted(self._places)]


@dataclass
class History:
    """The journals of a run in one object."""

    attempts: list[AttemptLog] = field(default_factory=list)
    steps: StepColumns = field(default_factory=StepColumns)
    iterations: dict[int, dict[str, Any]] = field(default_factory=dict)
    """IterationStarted by iteration; `total_step` is added: steps done before it."""
    stages: dict[str, StageLog] = field(default_factory=lambda: {name: StageLog() for name in STAGES})
    judged: dict[int, dict[str, float]] = field(default_factory=dict)
    """Counts of pairs, ties and drops by iteration."""
    calls: dict[int, dict[str, float]] = field(default_factory=dict)
    """What a judge that counts has taken, by iteration; `judge_…` of training and held-out shards, done again ones too."""
    evaluations: dict[int, dict[str, float | None]] = field(default_factory=dict)
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    notable: list[dict[str, Any]] = field(default_factory=list)
    """Warnings, replaced actors, resumes and ends, in order."""
    total_steps: int = 0
    total_iterations: int = 0
    _evaluation_spans: dict[int, tuple[float, float]] = field(default_factory=dict)
    _shards: set[tuple[int, int]] = field(default_factory=set)

    @classmethod
    def of(cls, events: Iterable[dict[str, Any]]) -> "History":
        """Read events, in order."""
        history = cls()
        for event in events:
            history._add(event)
        history.stages["held-out"].spans = list(history._evaluation_spans.values())
        measured = [history.evaluations[t] for t in history._evaluation_spans]
        history.stages["held-out"].prompts = sum(m.get("prompts") or 0.0 for m in measured)
        history.stages["held-out"].tokens = sum((m.get("prompts") or 0.0) * (m.get("length") or 0.0) for m in measured)
        return history

    @property
    def seconds(self) -> float:
        """Time under way, over all attempts; pauses between them do not count."""
        return sum(a.ended - a.started for a in self.attempts)

    @property
    def replayed(self) -> int:
        """Steps that were done again after a death."""
        return sum(a.replayed for a in self.attempts)

    def _add(self, event: dict[str, Any]) -> None:
        if not self.attempts or self.attempts[-1].number != event["attempt"]:
            self.attempts.append(AttemptLog(event["attempt"], event["at"], event["at"]))
        self.attempts[-1].ended = event["at"]
        match event["type"]:
            case "RunStarted":
                self.total_steps, self.total_iterations = event["total_steps"], event["iterations"]
            case "DataRead":
                self.data[event["name"]] = event
            case "IterationStarted":
                self.iterations[event["iteration"]] = event
            case "ShardDone":
                self._shard(event)
            case "StepDone":
                self._step(event)
            case "EvaluationDone":
                self._evaluation(event)
            case "RunResumed" | "ActorReplaced" | "Warned" | "RunFinished":
                self._notable(event)

    def _notable(self, event: dict[str, Any]) -> None:
        self.notable.append(event)
        attempt = self.attempts[-1]
        if event["type"] == "RunFinished":
            attempt.status, attempt.error = event["status"], event["error"]
        elif event["type"] == "RunResumed":
            attempt.resumed_from, attempt.adopted_tables = event["checkpoint"], event["adopted_tables"]

    def _shard(self, event: dict[str, Any]) -> None:
        if not event["fresh"]:
            return
        self._calls(event["iteration"], event["counts"])
        if event["stage"] == "held-out":
            return
        stage = self.stages[event["stage"]]
        stage.spans.append((event["at"] - event["seconds"], event["at"]))
        stage.prompts += event["prompts"]
        stage.tokens += event["counts"].get("tokens", 0.0)
        key = event["iteration"], event["shard"]
        if event["stage"] == "preferences" and key not in self._shards:
            self._shards.add(key)
            counts = self.judged.setdefault(event["iteration"], defaultdict(float))
            for name, value in event["counts"].items():
                counts[name] += value

    def _calls(self, iteration: int, counts: dict[str, float]) -> None:
        for name, value in counts.items():
            if name.startswith("judge_"):
                taken = self.calls.setdefault(iteration, defaultdict(float))
                taken[name] += value

    def _step(self, event: dict[str, Any]) -> None:
        attempt, train, metrics = self.attempts[-1], self.stages["train"], event["metrics"]
        attempt.steps += 1
        attempt.replayed += event["replayed"]
        train.spans.append((event["at"] - event["seconds"], event["at"]))
        train.tokens += metrics.get("tokens", 0.0)
        train.prompts += _prompts_of(metrics)
        rows = {"iteration": event["iteration"], "step": event["step"], "replayed": float(event["replayed"])}
        self.steps.put(event["total_step"], metrics | rows)

    def _evaluation(self, event: dict[str, Any]) -> None:
        """An evaluation read back from storage is quick; the time of the one that did the work counts."""
        t, span = event["iteration"], (event["at"] - event["seconds"], event["at"])
        self.evaluations[t] = event["metrics"]
        before = self._evaluation_spans.get(t)
        if before is None or span[1] - span[0] > before[1] - before[0]:
            self._evaluation_spans[t] = span


def _prompts_of(metrics: dict[str, float]) -> float:
    """Prompts of a window, from its pairs and the shares of ties and drops."""
    rest = 1.0 - metrics.get("tie_rate", 0.0) - metrics.get("drop_rate", 0.0)
    return round(metrics.get("pairs", 0.0) / rest) if rest > 1e-9 else 0.0
