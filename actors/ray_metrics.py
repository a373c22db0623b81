"""A reporter that shows a run in the metrics of its Ray cluster: counters, gauges and histograms by run.

Ray's export puts `ray_` before the names and `_total` behind those of counters: ray_xpo_ray_prompts_total. A name ends in its
unit where it has one; of a histogram Ray keeps the buckets and guesses the sum. The driver of a service's attempt puts this
beside the journal; whatever Ray does with the numbers never touches the run.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from xpo_ray.reporting import ActorReplaced, EvaluationDone, Event, IterationStarted, ShardDone, StepDone

PREFIX = "xpo_ray_"
SECONDS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]
OF_STEPS = {
    "loss": ("loss_nats", "Loss of the last step."),
    "kl/reference_policy": ("kl_nats", "Estimate of KL(policy, reference) at the last step, on its responses."),
    "rewards/margins": ("reward_margin", "Implicit reward of chosen over rejected at the last step."),
    "rewards/accuracies": ("reward_accuracy_ratio", "Pairs of the last step that the policy ranks as judged."),
}
OF_EVALUATIONS = {
    "reward": ("reward", "Mean reward of the last iteration's held-out responses, in the judge's own units."),
    "win_rate/base": ("win_rate_ratio", "Held-out win rate of the last iteration against the base."),
    "kl/k1": ("held_out_kl_nats", "KL(policy, base) on the last iteration's held-out responses."),
}
OF_JUDGES = {
    "judge_requests": "Requests to judges behind endpoints, further tries and evaluations included.",
    "judge_retries": "Of these the further tries.",
    "judge_input_tokens": "Tokens sent to language models that judge, as their endpoints count them.",
    "judge_output_tokens": "Tokens that they answered.",
    "judge_cost": "Their price, in the currency of the spec's prices.",
    "without_member": "Prompts that an ensemble judged while a member was out of reach.",
}
"""What judges count."""


@dataclass
class Drawing:
    """The draws of an iteration up to now."""

    since: float
    tokens: float = 0.0


@dataclass
class RayMetrics:
    """Counts what the events tell."""

    run_name: str
    run_id: str
    _made: dict[str, Any] = field(default_factory=dict)
    _begun: dict[tuple[int, int], float] = field(default_factory=dict)
    """When work on a shard began, by iteration and number."""
    _drawing: dict[int, Drawing] = field(default_factory=dict)

    def emit(self, event: Event) -> None:
        if isinstance(event, IterationStarted):
            self._forget(event.iteration)
        elif isinstance(event, ShardDone) and event.fresh:
            self._shard(event, time.monotonic())
        elif isinstance(event, StepDone):
            self._step(event)
        elif isinstance(event, EvaluationDone):
            self._gauges(OF_EVALUATIONS, event.metrics)
        elif isinstance(event, ActorReplaced):
            about = "Actors that died or hung and were replaced."
            self._count("actor_restarts", about, 1.0, role=event.role.split("/")[0])

    def _forget(self, before: int) -> None:
        self._begun = {(t, k): at for (t, k), at in self._begun.items() if t >= before}
        self._drawing = {t: drawing for t, drawing in self._drawing.items() if t >= before}

    def _shard(self, event: ShardDone, now: float) -> None:
        stage = {"stage": event.stage}
        about = "Prompts by stage; those of the stage candidates were drawn for."
        self._count("prompts", about, float(event.prompts), **stage)
        about = "Time that a stage of a shard took, waiting for a free actor included."
        self._observe("shard_stage_seconds", about, event.seconds, **stage)
        for name, told in OF_JUDGES.items():
            self._count(name if name.startswith("judge") else f"judge_{name}", told, event.counts.get(name, 0.0))
        if event.stage == "held-out":
            return
        begun = self._begun.setdefault((event.iteration, event.shard), now - event.seconds)
        about = "Age of a shard when a stage was done: since its first stage of this attempt began."
        self._observe("shard_age_seconds", about, now - begun, **stage)
        if event.stage == "preferences":
            about = "Time until a shard was judged, waiting for a free judge included."
            self._observe("judge_latency_seconds", about, event.seconds)
        if tokens := event.counts.get("tokens"):
            self._draw(tokens, now, self._drawing.setdefault(event.iteration, Drawing(begun)))

    def _draw(self, tokens: float, now: float, drawing: Drawing) -> None:
        self._count("drawn_tokens", "Tokens drawn.", tokens)
        drawing.tokens += tokens
        if now > drawing.since:
            about = "Mean over the draws of the iteration up to now."
            self._gauge("drawn_tokens_per_second", about, drawing.tokens / (now - drawing.since))

    def _step(self, event: StepDone) -> None:
        self._observe("step_seconds", "Time of an optimizer step.", event.seconds)
        self._gauge("steps", "Optimizer steps applied.", float(event.total_step))
        if (tokens := event.metrics.get("tokens")) and event.seconds > 0:
            self._gauge("trained_tokens_per_second", "Of the last step.", tokens / event.seconds)
        if event.replayed:
            self._count("replayed_steps", "Steps that were done again after a death: wasted work.", 1.0)
            self._count("wasted_seconds", "Time of the steps that were done again.", event.seconds)
        self._gauges(OF_STEPS, event.metrics)

    def _gauges(self, shown: Mapping[str, tuple[str, str]], metrics: Mapping[str, float | None]) -> None:
        for metric, (name, about) in shown.items():
            if (value := metrics.get(metric)) is not None:
                self._gauge(name, about, value)

    def _count(self, name: str, about: str, by: float, **tags: str) -> None:
        if by > 0:
            self._of(Counter, name, about, tags).inc(by, self._tags(tags))

    def _gauge(self, name: str, about: str, value: float, **tags: str) -> None:
        self._of(Gauge, name, about, tags).set(value, self._tags(tags))

    def _observe(self, name: str, about: str, value: float, **tags: str) -> None:
        self._of(Histogram, name, about, tags, boundaries=SECONDS).observe(value, self._tags(tags))

    def _of(self, kind: type, name: str, about: str, tags: dict[str, str], **options: Any) -> Any:
        if name not in self._made:
            keys = ("run", "run_id", *tags)
            self._made[name] = kind(PREFIX + name, description=about, tag_keys=keys, **options)
        return self._made[name]

    def _tags(self, tags: dict[str, str]) -> dict[str, str]:
        return {"run": self.run_name, "run_id": self.run_id, **tags}
