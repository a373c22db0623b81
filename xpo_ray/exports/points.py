"""From events to the points that trackers draw: a pure function of the events in their order, the same for every library.

`train/…` and what was drawn and judged since the step before (`draw/…`, `judge/…`, `throughput/…`) stand at the total step,
`evaluation/…` at the total step after which the model was published. Of a step that was done again only the first counts, so
that all journals of a run, read from their beginning, give each point once. Shippers call this.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Literal

from xpo_ray.exports.exporter import Point
from xpo_ray.reporting import EvaluationDone, Event, IterationStarted, RunFinished, RunStarted, ShardDone, StepDone

STAGES = {"candidates": "draw", "preferences": "judge", "scored": "reference"}


class Translator:
    """Reads the events of a run, all attempts in order."""

    def __init__(self, steps_until: Callable[[int], int]) -> None:
        """`steps_until(t)` are the total steps after iteration t."""
        self._steps_until = steps_until
        self._since = 0.0
        """When the newest attempt began its present step."""
        self._sums: dict[str, float] = defaultdict(float)
        self.step = 0
        """The last total step seen."""
        self.evaluated: set[int] = set()
        self.status: Literal["running", "succeeded", "failed"] = "running"
        """Of the newest attempt."""

    def point(self, at: float, event: Event) -> Point | None:
        """The point that an event completes."""
        match event:
            case RunStarted():
                self.status, self._since = "running", 0.0
            case IterationStarted():
                self._since = (
                    self._since or at
                )  # the start of actors before an attempt's first iteration is no throughput
            case ShardDone():
                self._add(event)
            case StepDone() if event.total_step > self.step:
                return self._step(at, event)
            case EvaluationDone() if event.iteration not in self.evaluated:
                return self._evaluation(at, event)
            case RunFinished():
                self.status = "succeeded" if event.status == "succeeded" else "failed"
            case _:
                pass
        return None

    def _add(self, event: ShardDone) -> None:
        """Counts of a shard that this attempt made; one that was committed already was counted when it was made."""
        if not event.fresh or event.stage not in STAGES:
            return
        stage = STAGES[event.stage]
        self._sums[f"{stage}.shards"] += 1
        self._sums[f"{stage}.prompts"] += event.prompts
        self._sums[f"{stage}.seconds"] += event.seconds
        for name, count in event.counts.items():
            self._sums[f"{stage}.{name}"] += count

    def _step(self, at: float, event: StepDone) -> Point:
        values = {f"train/{name}": value for name, value in event.metrics.items()}
        values |= {"train/iteration": event.iteration, "throughput/step_seconds": event.seconds}
        if event.seconds > 0 and "tokens" in event.metrics:
            values["throughput/train_tokens_per_s"] = event.metrics["tokens"] / event.seconds
        values |= self._shards(at - self._since)
        self.step, self._since = event.total_step, at
        self._sums.clear()
        return Point(event.total_step, at, values)

    def _shards(self, elapsed: float) -> dict[str, float]:
        """Means and rates over the shards since the step before; a stage that made nothing is absent."""
        sums, values = self._sums, dict[str, float]()
        if responses := sums["draw.responses"]:
            values["draw/responses"] = responses
            values["draw/length"] = sums["draw.tokens"] / responses
            values["draw/eos_rate"] = sums["draw.ended"] / responses
        if prompts := sums["judge.prompts"]:
            values["judge/prompts"] = prompts
            values["judge/tie_rate"] = sums["judge.ties"] / prompts
            values["judge/drop_rate"] = sums["judge.dropped"] / prompts
            values["judge/failure_rate"] = sums["judge.failed"] / prompts
        taken = {name.removeprefix("judge.judge_"): v for name, v in sums.items() if name.startswith("judge.judge_")}
        values |= {f"judge/{name}": value for name, value in taken.items()}
        for stage in STAGES.values():
            if shards := sums[f"{stage}.shards"]:
                values[f"throughput/{stage}_seconds_per_shard"] = sums[f"{stage}.seconds"] / shards
                if elapsed > 0:
                    values[f"throughput/{stage}_prompts_per_s"] = sums[f"{stage}.prompts"] / elapsed
        if elapsed > 0 and sums["draw.tokens"]:
            values["throughput/draw_tokens_per_s"] = sums["draw.tokens"] / elapsed
        return values

    def _evaluation(self, at: float, event: EvaluationDone) -> Point:
        self.evaluated.add(event.iteration)
        known = {f"evaluation/{name}": value for name, value in event.metrics.items() if value is not None}
        more = {"evaluation/iteration": float(event.iteration), "evaluation/seconds": event.seconds}
        return Point(self._steps_until(event.iteration), at, {**known, **more})
