"""How many processes each role has. The plan shows it, the driver makes its pools by it.

On a CPU an engine has one thread, and every set of weights that training waits for has as many engines as there are cores:
the sets take turns, as the stages of a window follow each other.
"""

from pathlib import Path

from xpo_ray.algorithms import Row, rows
from xpo_ray.spec.run import RunSpec


def pool_sizes(spec: RunSpec, cores: int) -> dict[str, int]:
    """Processes that hold the policy, the base and any other reference; engine_replicas of each that training waits for."""
    replicas, used = spec.resources.engine_replicas or cores, rows(spec)
    evaluated = spec.data.evaluation is not None
    policy = evaluated or any(r.reference == "previous" or _draws(r, "policy") for r in used)
    base = evaluated or any(r.reference == "fixed" for r in used)
    apart = any(r.reference == "ema" for r in used) or (
        spec.algorithm.warmup_iterations > 0 and used[-1].reference == "fixed"
    )
    if spec.model.lora is not None:  # with the adapter off the policy's processes are the base
        return {"policy": replicas, "base": 0, "reference": replicas if apart else 0}
    fixed = any(r.reference == "fixed" for r in used)
    return {
        "policy": replicas if policy else 0,
        "base": (replicas if fixed else 1) if base else 0,
        "reference": replicas if apart else 0,
    }


def judge_replicas(spec: RunSpec, cores: int) -> int:
    """A reward model computes, so it has a process for each core; other judges wait or have processes of their own."""
    computes = spec.judge is not None and spec.judge.kind == "reward_model"
    return spec.resources.judge_replicas or (cores if computes else 1)


def trainer_workers(spec: RunSpec, gpus: int) -> int:
    """Processes that train together."""
    wanted = spec.resources.trainer_workers
    return max(gpus, 1) if wanted == "auto" else wanted


def gpus_here() -> int:
    """NVIDIA GPUs of this machine, as its driver lists them."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def _draws(row: Row, source: str) -> bool:
    return any(draw.source == source for draw in row.draws)
