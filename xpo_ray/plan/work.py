"""The work of a run, iteration by iteration: shards, draws, windows, optimizer steps. Counts only, from the schedule."""

from dataclasses import dataclass

from xpo_ray.algorithms import row_of_iteration
from xpo_ray.plan.processes import engine_replicas, lanes
from xpo_ray.prompts import check_fill
from xpo_ray.schedule import Schedule
from xpo_ray.spec.run import RunSpec


@dataclass(frozen=True)
class IterationWork:
    """What one iteration does at most."""

    iteration: int
    kind: str
    """The algorithm, or the warm-up's."""
    prompts: int
    shards: int
    draws: int
    trained_prompts: int
    """Per epoch; with `accumulate` those of all iterations so far."""
    windows: int
    """Per epoch; each is one optimizer step."""
    steps: int


def iterations(spec: RunSpec, prompts: int) -> tuple[IterationWork, ...]:
    """The work of every iteration over this many prompts. Raises SpecError where they do not fill the partitions."""
    check_fill(prompts, spec.partitions, spec.training.batch_size)
    partitions = spec.partitions or -(-prompts // spec.training.batch_size)
    schedule = Schedule(
        prompts=prompts,
        seed=spec.seed or 0,
        partitions=partitions,
        shard_size=spec.data.shard_size,
        batch_size=spec.training.batch_size,
        epochs=spec.training.epochs,
        data=tuple(row_of_iteration(spec.algorithm, t).data for t in range(1, partitions + 1)),
    )
    return tuple(_iteration(spec, schedule, t) for t in range(1, partitions + 1))


def _iteration(spec: RunSpec, schedule: Schedule, t: int) -> IterationWork:
    row = row_of_iteration(spec.algorithm, t)
    warmup = t <= spec.algorithm.warmup_iterations
    steps = schedule.steps(t)
    return IterationWork(
        iteration=t,
        kind=spec.algorithm.warmup_kind if warmup else spec.algorithm.kind,
        prompts=schedule.size(t),
        shards=schedule.shards(t),
        draws=schedule.size(t) * sum(draw.samples for draw in row.draws),
        trained_prompts=schedule.trained_prompts(t),
        windows=steps // spec.training.epochs,
        steps=steps,
    )


def evaluations(spec: RunSpec, work: tuple[IterationWork, ...]) -> int:
    """How often the held-out prompts are drawn for: once for the base, and after iterations or every so many steps."""
    if spec.data.evaluation is None or not work:
        return 0
    if not spec.online:
        return 1 + len(work)
    return 2 + sum(w.steps for w in work) // spec.evaluation.every_steps


def shards_in_flight(spec: RunSpec, cores: int, gpus: int) -> int:
    """Shards between drawing and training: two for each engine's lane and two more, or as the spec says."""
    at_once = engine_replicas(spec, cores, gpus) * lanes(spec)
    return spec.resources.max_shards_in_flight or 2 * at_once + 2
