"""Learning rates as a pure function of the step, so that a schedule has no state to save. The driver calls it."""

import math
from typing import TYPE_CHECKING, Literal

from xpo_ray.algorithms import row_of_iteration
from xpo_ray.spec.run import RunSpec, at_iteration

if TYPE_CHECKING:
    from xpo_ray.schedule import Schedule


def scheduled(
    kind: Literal["cosine", "linear", "constant"], peak: float, warmup_ratio: float, step: int, steps: int
) -> float:
    """Learning rate of step 1..steps: a linear rise to `peak` over the first warmup_ratio·steps, then the decay.

    The decay starts at `peak` and would reach 0 at step steps + 1, so that no step is without effect.
    """
    warmup = math.ceil(warmup_ratio * steps)
    if step <= warmup:
        return peak * step / warmup
    progress = (step - warmup - 1) / max(steps - warmup, 1)
    match kind:
        case "cosine":
            return peak * 0.5 * (1.0 + math.cos(math.pi * progress))
        case "linear":
            return peak * (1.0 - progress)
        case "constant":
            return peak


def learning_rate(spec: RunSpec, schedule: "Schedule", iteration: int, step: int) -> float:
    """The rate of a step of a run: over its iteration, or over the whole run where the algorithm's schedule spans it."""
    training = spec.training
    peak = at_iteration(training.learning_rate, iteration)
    first = spec.algorithm.warmup_iterations + 1
    if row_of_iteration(spec.algorithm, iteration).schedule_span == "iteration":
        return scheduled(training.schedule, peak, training.warmup_ratio, step, schedule.steps(iteration))
    done = schedule.total_steps(first, iteration - 1) if iteration > first else 0
    return scheduled(training.schedule, peak, training.warmup_ratio, done + step, schedule.total_steps(first))
