"""How many processes each role has. The plan shows it, the driver makes its pools by it.

On a CPU an engine has one thread, and every set of weights that training waits for has as many engines as there are cores:
the sets take turns, as the stages of a window follow each other.
"""

from pathlib import Path

from xpo_ray.algorithms import Row, rows
from xpo_ray.spec.judge import JudgeSpec, single_judges
from xpo_ray.spec.run import RunSpec

VLLM_LANES = 4
"""Shards that share the batch of a vLLM engine, so that it does not drain at the end of one."""


def lanes(spec: RunSpec) -> int:
    """Calls that a process of a model works on at once."""
    return VLLM_LANES if spec.sampling.engine == "vllm" else 1


def engine_replicas(spec: RunSpec, cores: int) -> int:
    """Engines of each set of weights; a vLLM engine uses all cores, of which the transformers engine has one for each."""
    return spec.resources.engine_replicas or (1 if spec.sampling.engine == "vllm" else cores)


def engine_threads(spec: RunSpec, cores: int) -> int:
    """Threads of an engine on a CPU."""
    return max(cores // engine_replicas(spec, cores), 1) if spec.sampling.engine == "vllm" else 1


def pool_sizes(spec: RunSpec, cores: int) -> dict[str, int]:
    """Processes that hold the policy, the base and any other reference; engine_replicas of each that training waits for."""
    replicas, used = engine_replicas(spec, cores), rows(spec)
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
    """One that computes has a process for each core; other judges wait or have processes of their own."""
    return spec.resources.judge_replicas or (cores if spec.judge is not None and computes(spec.judge) else 1)


def computes(judge: JudgeSpec) -> bool:
    """Whether a judge keeps a core busy in its own process: one with a model does, and an ensemble with one."""
    return any(single.kind in ("reward_model", "pairrm") for _, single in single_judges(judge, "judge"))


def trainer_workers(spec: RunSpec, gpus: int) -> int:
    """Processes that train together."""
    wanted = spec.resources.trainer_workers
    return max(gpus, 1) if wanted == "auto" else wanted


def gpus_here() -> int:
    """NVIDIA GPUs of this machine, as its driver lists them."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def _draws(row: Row, source: str) -> bool:
    return any(draw.source == source for draw in row.draws)
