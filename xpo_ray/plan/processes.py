"""How many processes hold each set of weights. The plan shows it, the driver makes its pools by it."""

from xpo_ray.algorithms import Row, rows
from xpo_ray.spec.run import RunSpec


def pool_sizes(spec: RunSpec, cores: int) -> dict[str, int]:
    """Processes that hold the policy, the base and any other reference; those that draw share the engine replicas."""
    replicas, used = spec.resources.engine_replicas or cores, rows(spec)
    evaluated = spec.data.evaluation is not None
    policy = evaluated or any(r.reference == "previous" or _draws(r, "policy") for r in used)
    base = evaluated or any(r.reference == "fixed" for r in used)
    base_draws = any(r.reference == "fixed" and _draws(r, "reference") for r in used)
    apart = any(r.reference == "ema" for r in used) or (
        spec.algorithm.warmup_iterations > 0 and used[-1].reference == "fixed"
    )
    half = max(replicas // 2, 1) if base_draws else 1
    if spec.model.lora is not None:
        shared = replicas if policy or base_draws else 1  # with the adapter off the policy's processes are the base
        return {"policy": shared, "base": 0, "reference": half if apart else 0}
    return {
        "policy": max(replicas - replicas // 2 if base_draws else replicas, 1) if policy else 0,
        "base": half if base else 0,
        "reference": half if apart else 0,
    }


def _draws(row: Row, source: str) -> bool:
    return any(draw.source == source for draw in row.draws)
