"""One optimizer step as it is ordered and answered, and its window as examples. Trainers read this, alone or as a group.

What stands here is the same whoever computes the log-probs: how the loss of a micro-batch follows from them, by which counts
it is divided, and how a loss or gradient that is not finite is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from torch import Tensor

from xpo_ray.algorithms import Row
from xpo_ray.errors import TrainingDiverged
from xpo_ray.examples import Example, example, pairs_of
from xpo_ray.logprobs import ResponseLogProbs
from xpo_ray.metrics import WindowMetrics
from xpo_ray.objectives import Pairs, WindowLoss, window_loss
from xpo_ray.schedule import Window

Told = tuple[WindowLoss, Pairs, Tensor, ResponseLogProbs, list[Example]]
"""A micro-batch as the metrics want it."""


@dataclass(frozen=True)
class StepOrder:
    """One step: its window, and what the driver decided for it."""

    window: Window
    total_step: int
    learning_rate: float
    kappa: float
    row: Row
    own_distributions: frozenset[str] = frozenset()
    """Sources of draws, policy or reference, that draw from the distribution which log-probs are of."""


@dataclass(frozen=True)
class StepResult:
    """What a step gave. One that was skipped, as its window has nothing to train on, changed no weight and has no loss."""

    pairs: str
    metrics: dict[str, float]
    seconds: float

    @property
    def skipped(self) -> bool:
        return bool(self.metrics["skipped"])


@dataclass(frozen=True)
class WindowExamples:
    """A window's rows, and those of them that something is trained on."""

    order: StepOrder
    tables: list[pa.Table]
    rows: list[dict[str, Any]]
    examples: list[Example]

    @classmethod
    def of(cls, order: StepOrder, shards: Sequence[pa.Table]) -> "WindowExamples":
        """From the SCORED tables of the window's slices, in order."""
        tables = [t.take(list(s.rows)) for s, t in zip(order.window.slices, shards, strict=True)]
        rows = [row for t in tables for row in t.to_pylist()]
        return cls(order, tables, rows, [e for row in rows if (e := example(row)) is not None])

    def trains(self, *, bonus_alone: bool) -> bool:
        """Whether an optimizer step is made of it: it has a pair, or the bonus may train alone and has something to act on."""
        if any(e.weight > 0 for e in self.examples):
            return True
        return bonus_alone and self.order.kappa > 0 and any(e.comparators for e in self.examples)

    def metrics(self, dtype: Literal["float32", "bfloat16"], *, counts_rows: bool = True) -> WindowMetrics:
        """Empty metrics of this window; in a group one rank alone counts its rows."""
        own = self.order.own_distributions - ({"policy"} if self._stale else set())
        return WindowMetrics(self.order.row.beta, self.rows if counts_rows else [], dtype, own)

    @property
    def _stale(self) -> bool:
        """Whether the policy is no longer the one that drew this window's responses."""
        window = self.order.window
        versions = {c["version"] for row in self.rows for c in row["candidates"] if c["origin"] == "policy"}
        return window.step > 1 or versions != {window.iteration - 1}

    def told(self, chosen: list[Example], out: ResponseLogProbs) -> Told:
        """The loss of a micro-batch, divided by the window's true counts, and all that the metrics want to know of it."""
        row = self.order.row
        pairs, comparators_C = pairs_of(chosen, out.logp_S, out.tokens_S)
        loss = window_loss(
            row.objective,
            row.beta,
            self.order.kappa,
            pairs,
            comparators_C,
            pairs_total=sum(e.weight > 0 for e in self.examples),
            comparators_total=sum(len(e.comparators) for e in self.examples),
        )
        return loss, pairs, comparators_C, out, chosen

    def values(self, metrics: WindowMetrics) -> dict[str, float]:
        """The step's metrics, with what the driver decided for it."""
        return metrics.values() | {"learning_rate": self.order.learning_rate, "kappa": self.order.kappa}

    def diverged_loss(self, loss: float) -> TrainingDiverged:
        """The error of a loss that is not finite."""
        return TrainingDiverged(
            f"the loss of step {self.order.window.step} of iteration {self.order.window.iteration} is "
            f"{loss}; lower training.learning_rate or raise algorithm.beta; "
            "what is committed stays"
        )


def diverged_norm(order: StepOrder, norm: float) -> TrainingDiverged:
    """The error of a gradient that is not finite."""
    return TrainingDiverged(
        f"the gradient norm of step {order.window.step} of iteration {order.window.iteration} is {norm}; "
        "lower training.learning_rate; what is committed stays"
    )
