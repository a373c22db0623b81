"""RunSpec: the whole spec of a run, and the checks that need more than one of its parts."""

from typing import Any, Self

from pydantic import Field, model_validator

from xpo_ray.spec.algorithm import AlgorithmSpec
from xpo_ray.spec.base import Spec, operational
from xpo_ray.spec.data import DataSpec, ModelSpec
from xpo_ray.spec.exports import Exports
from xpo_ray.spec.judge import JudgeSpec
from xpo_ray.spec.training import EvaluationSpec, OutputSpec, ResourcesSpec, SamplingSpec, TrainingSpec

ONLINE_KINDS = ("xpo", "online_dpo")
DEFAULT_PARTITIONS = {"selm": 3, "iterative_dpo": 3, "sdpo": 3, "dpo": 1, "custom": 1}


class RunSpec(Spec):
    """One run: iterations of draw, judge, train and publish over the partitions of a dataset."""

    name: str = operational("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    seed: int | None = Field(None, ge=0, lt=2**63)
    """Default: made at random and printed with the resolved spec."""
    model: ModelSpec
    data: DataSpec
    algorithm: AlgorithmSpec
    sampling: SamplingSpec = SamplingSpec()
    judge: JudgeSpec | None = None
    """Needed by every algorithm that draws."""
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = operational(EvaluationSpec())
    resources: ResourcesSpec = operational(ResourcesSpec())
    output: OutputSpec = operational(...)
    exports: Exports = operational(())
    """Experiment trackers that hear the metrics while the run runs."""

    @property
    def online(self) -> bool:
        """Fully online: every partition is one window, and weights go to the engines without a checkpoint."""
        return self.data.partitions is None and self.algorithm.kind in ONLINE_KINDS

    @property
    def partitions(self) -> int | None:
        """Number of iterations, None where it follows from the number of prompts."""
        return None if self.online else self.data.partitions or DEFAULT_PARTITIONS[self.algorithm.kind]

    @model_validator(mode="after")
    def _lists_have_one_value_per_iteration(self) -> Self:
        for where, value in self._per_iteration().items():
            if isinstance(value, tuple) and len(value) > 1 and len(value) != self.partitions:
                count = f"{self.partitions} iterations" if self.partitions else "as many iterations as windows"
                raise ValueError(
                    f"{where} has {len(value)} values, the run has {count}; give one value or one for each"
                )
        return self

    @model_validator(mode="after")
    def _drawing_needs_a_judge(self) -> Self:
        from xpo_ray.algorithms import rows

        if self.judge is None and any(row.judged for row in rows(self)):
            raise ValueError(f"judge is missing: {self.algorithm.kind} ranks candidates; add `judge: {{kind: ...}}`")
        return self

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        from xpo_ray.algorithms import misfits, rows

        for row in rows(self):
            if (fault := misfits(row)) is not None:
                raise ValueError(f"algorithm {self.algorithm.kind}: {fault}")
            if row.data == "accumulate" and self.online:
                raise ValueError(
                    "algorithm.data: accumulate needs data.partitions: in a fully online run, with an iteration for each "
                    "window, the cost would grow with the square of the number of prompts"
                )
        return self

    @model_validator(mode="after")
    def _a_dropped_batch_is_not_read_again(self) -> Self:
        from xpo_ray.algorithms import rows

        if self.training.last_batch == "drop" and self.online:
            raise ValueError(
                "training.last_batch: drop needs data.partitions: in a fully online run each batch is a partition"
            )
        if self.training.last_batch == "drop" and any(row.data == "accumulate" for row in rows(self)):
            raise ValueError(
                "training.last_batch: drop needs algorithm.data: fresh: what is left over of an iteration is not judged to the "
                "end, and accumulate reads it again; use last_batch: keep"
            )
        return self

    @model_validator(mode="after")
    def _warmup_leaves_iterations(self) -> Self:
        if self.algorithm.warmup_iterations and self.partitions is None:
            raise ValueError(
                "algorithm.warmup_iterations needs data.partitions: a fully online run has no fixed iterations"
            )
        if self.partitions is not None and self.algorithm.warmup_iterations >= self.partitions:
            raise ValueError(
                f"algorithm.warmup_iterations is {self.algorithm.warmup_iterations}, data.partitions {self.partitions}: "
                f"no iteration is left for {self.algorithm.kind}; raise data.partitions"
            )
        return self

    def _per_iteration(self) -> dict[str, Any]:
        return {
            "training.learning_rate": self.training.learning_rate,
            "algorithm.beta": self.algorithm.beta,
            "algorithm.alpha": getattr(self.algorithm, "alpha", None),
            "algorithm.kappa": getattr(self.algorithm, "kappa", None),
        }


def at_iteration(value: float | tuple[float, ...], iteration: int) -> float:
    """The value for iteration 1..T of a setting that has one value, or one per iteration."""
    if not isinstance(value, tuple):
        return value
    return value[0] if len(value) == 1 else value[iteration - 1]
