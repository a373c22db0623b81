"""How many processes each role has. The plan shows it, the driver makes its pools by it.

On a CPU an engine has one thread, and every set of weights that training waits for has as many engines as there are cores:
the sets take turns, as the stages of a window follow each other. On GPUs there is an engine for each GPU, or for each group
of them over which vLLM cuts it. `gpus` is always the number of those that the run may take; which process gets which is said
by xpo_ray.plan.gpus.
"""

import math
import os
from pathlib import Path

from xpo_ray.algorithms import Row, rows
from xpo_ray.spec.judge import JudgeSpec, single_judges
from xpo_ray.spec.run import RunSpec

VLLM_LANES = 4
"""Shards that share the batch of a vLLM engine, so that it does not drain at the end of one."""


def lanes(spec: RunSpec) -> int:
    """Calls that a process of a model works on at once."""
    return VLLM_LANES if spec.sampling.engine == "vllm" else 1


def engine_replicas(spec: RunSpec, cores: int, gpus: int = 0) -> int:
    """Engines of each set of weights that training waits for. Without GPUs a vLLM engine uses all cores, of which the
    transformers engine has one for each."""
    if spec.resources.engine_replicas is not None:
        return spec.resources.engine_replicas
    if gpus and spec.resources.engine_gpus != 0:
        return _engines_on(spec, gpus)
    return 1 if spec.sampling.engine == "vllm" else cores


def engine_threads(spec: RunSpec, cores: int, gpus: int = 0) -> int:
    """Threads of an engine on a CPU."""
    return max(cores // engine_replicas(spec, cores, gpus), 1) if spec.sampling.engine == "vllm" else 1


def pool_sizes(spec: RunSpec, cores: int, gpus: int = 0) -> dict[str, int]:
    """Processes that hold the policy, the base and any other reference; engine_replicas of each that training waits for."""
    replicas, sets = engine_replicas(spec, cores, gpus), _sets(spec)
    return {role: (replicas if sets[role] else 1) if role in sets else 0 for role in ("policy", "base", "reference")}


def judge_replicas(spec: RunSpec, cores: int, gpus: int = 0) -> int:
    """One that computes has a process for each core, or for each GPU that it shares with the engines that it takes turns with;
    other judges wait or have processes of their own."""
    if spec.resources.judge_replicas is not None:
        return spec.resources.judge_replicas
    if spec.judge is None or not computes(spec.judge):
        return 1
    if gpus and spec.resources.judge_gpus != 0:
        return gpus if spec.resources.layout == "colocated" else 1
    return cores


def judges(spec: RunSpec, cores: int, gpus: int = 0) -> list[tuple[str, JudgeSpec, int]]:
    """Role, spec and processes of each judge: the run's, and evaluation's where it has one of its own."""
    held = [] if spec.judge is None else [("judge", spec.judge, judge_replicas(spec, cores, gpus))]
    own = spec.evaluation.judge if spec.data.evaluation is not None else None
    return held if own is None else [*held, ("evaluation-judge", own, 1)]


def computes(judge: JudgeSpec) -> bool:
    """Whether a judge keeps a core busy in its own process: one with a model does, and an ensemble with one."""
    return any(single.kind in ("reward_model", "pairrm") for _, single in single_judges(judge, "judge"))


def on_gpu(spec: RunSpec, judge: JudgeSpec) -> bool:
    """Whether a judge's processes get GPUs where there are any: one with a model does, a function where the spec says so."""
    asked = spec.resources.judge_gpus
    function = any(single.kind == "python" for _, single in single_judges(judge, "judge"))
    return asked != 0 and (computes(judge) or (asked is not None and function))


def trainer_workers(spec: RunSpec, gpus: int) -> int:
    """Processes that train together."""
    wanted = spec.resources.trainer_workers
    if wanted != "auto":
        return wanted
    if trainer_gpus(spec) == 0:
        return 1
    return max(gpus if spec.resources.layout == "colocated" else gpus // 2, 1)


def trainer_gpus(spec: RunSpec) -> float | None:
    """GPUs of each trainer worker as the spec says; None where it says nothing."""
    return (spec.resources.trainer_worker_resources or {}).get("GPU")


def engine_gpus(spec: RunSpec) -> float | None:
    """GPUs of each engine as the spec says; None where it says nothing."""
    asked, parallel = spec.resources.engine_gpus, spec.resources.engine_tensor_parallel
    return float(parallel) if asked is None and parallel > 1 else asked


def engines_on_gpu(spec: RunSpec, gpus: int) -> bool:
    """Whether engines compute on the GPUs that there are."""
    return gpus > 0 and spec.resources.gpus != 0 and spec.resources.engine_gpus != 0


def gpus_here() -> int:
    """NVIDIA GPUs of this machine, as its driver lists them, without those that CUDA_VISIBLE_DEVICES hides."""
    there = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return there if shown is None else min(there, len([name for name in shown.split(",") if name.strip()]))


def _sets(spec: RunSpec) -> dict[str, bool]:
    """The sets of weights that engines hold, and whether training waits for them (evaluation alone does for the others)."""
    used = rows(spec)
    evaluated = spec.data.evaluation is not None
    fixed = any(r.reference == "fixed" for r in used)
    policy = evaluated or any(r.reference == "previous" or _draws(r, "policy") for r in used)
    apart = any(r.reference == "ema" for r in used) or (
        spec.algorithm.warmup_iterations > 0 and used[-1].reference == "fixed"
    )
    if spec.model.lora is not None:  # with the adapter off the policy's processes are the base
        held = {"policy": (True, True), "reference": (apart, True)}
    else:
        held = {"policy": (policy, True), "base": (evaluated or fixed, fixed), "reference": (apart, True)}
    return {role: waited for role, (there, waited) in held.items() if there}


def _engines_on(spec: RunSpec, gpus: int) -> int:
    """One for each GPU; of GPUs of their own as many as the trainer, the judges and a base for evaluation alone leave."""
    each = max(math.ceil(engine_gpus(spec) or 1.0), 1)
    if spec.resources.layout == "colocated":
        return max(gpus // each, 1)
    sets = list(_sets(spec).values())
    judging = sum(processes for _, judge, processes in judges(spec, 1, gpus) if on_gpu(spec, judge))
    training = trainer_workers(spec, gpus) * math.ceil(1.0 if (asked := trainer_gpus(spec)) is None else asked)
    left = gpus - training - math.ceil(judging * (spec.resources.judge_gpus or 1.0)) - each * sets.count(False)
    return max(left // (each * max(sets.count(True), 1)), 1)


def _draws(row: Row, source: str) -> bool:
    return any(draw.source == source for draw in row.draws)
