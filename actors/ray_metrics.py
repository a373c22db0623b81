"""A reporter that shows a run in the metrics of its Ray cluster: counters, gauges and histograms by run.

The driver of a service's attempt puts it beside the journal; whatever Ray does with the numbers never touches the run.
"""

from dataclasses import dataclass, field
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from xpo_ray.reporting import ActorReplaced, Event, ShardDone, StepDone

SECONDS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]
GAUGES = {
    "reward": ("reward", "Mean reward of the drawn responses of the last step."),
    "kl/reference_policy": ("kl", "Nats between the policy and its reference at the last step."),
    "loss": ("loss", "Loss of the last step."),
}


@dataclass
class RayMetrics:
    """Counts what the events tell."""

    run_name: str
    run_id: str
    _made: dict[str, Any] = field(default_factory=dict)

    def emit(self, event: Event) -> None:
        if isinstance(event, ShardDone) and event.fresh:
            self._shard(event)
        elif isinstance(event, StepDone):
            self._step(event)
        elif isinstance(event, ActorReplaced):
            self._count("actor_restarts", "Actors that died and were replaced.", 1.0, role=event.role.split("/")[0])

    def _shard(self, event: ShardDone) -> None:
        self._count("prompts", "Prompts by stage.", float(event.prompts), stage=event.stage)
        self._observe(
            "shard_seconds", "Age of a shard at each stage: waiting and work.", event.seconds, stage=event.stage
        )
        if event.stage == "preferences":
            self._observe("judge_seconds", "Time until a shard was judged.", event.seconds)
        if tokens := event.counts.get("tokens"):
            self._count("tokens_drawn", "Tokens drawn.", tokens)
            if event.seconds > 0:
                self._gauge("tokens_per_second", "Of the last shard drawn.", tokens / event.seconds)

    def _step(self, event: StepDone) -> None:
        self._observe("step_seconds", "Time of an optimizer step.", event.seconds)
        self._gauge("total_step", "Optimizer steps applied.", float(event.total_step))
        if event.replayed:
            self._count("steps_replayed", "Steps that were done again: wasted work.", 1.0)
        for metric, (name, about) in GAUGES.items():
            if metric in event.metrics:
                self._gauge(name, about, event.metrics[metric])

    def _count(self, name: str, about: str, by: float, **tags: str) -> None:
        if by > 0:
            self._of(Counter, name, about, tags).inc(by, self._tags(tags))

    def _gauge(self, name: str, about: str, value: float, **tags: str) -> None:
        self._of(Gauge, name, about, tags).set(value, self._tags(tags))

    def _observe(self, name: str, about: str, value: float, **tags: str) -> None:
        self._of(Histogram, name, about, tags, boundaries=SECONDS).observe(value, self._tags(tags))

    def _of(self, kind: type, name: str, about: str, tags: dict[str, str], **options: Any) -> Any:
        if name not in self._made:
            self._made[name] = kind(f"xpo_{name}", description=about, tag_keys=("run", "run_id", *tags), **options)
        return self._made[name]

    def _tags(self, tags: dict[str, str]) -> dict[str, str]:
        return {"run": self.run_name, "run_id": self.run_id, **tags}
