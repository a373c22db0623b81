"""Who has processes in a run, and what each process needs: in the machine's memory, and on a GPU where it has one.

Every part is a bound from above; of each the plan also says what is certain, because a run whose certain parts do not fit is
refused. A part that cannot be known (hub repositories, the user's own code) is left out and named. Loads no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from xpo_ray.algorithms import rows
from xpo_ray.plan import memory
from xpo_ray.plan.engine import vllm_kv_cache_bytes
from xpo_ray.plan.gpus import GpuPlan, GpuShare
from xpo_ray.plan.memory import BYTES, ModelSize
from xpo_ray.plan.needs import Need, least_of, most_of
from xpo_ray.plan.processes import judges, pool_sizes, trainer_workers
from xpo_ray.spec.judge import JudgeSpec, PairRMJudge, RewardModelJudge, SingleJudge, single_judges
from xpo_ray.spec.run import RunSpec

LIBRARIES, LEAST_LIBRARIES = 800_000_000, 250_000_000
"""Python with torch, transformers and ray in one process, before any weight. Measured with torch 2.13: 560 MB when they are
loaded, 740 MB after some work; of that 220 to 270 MB are files that all processes of a machine share."""
WORKER, LEAST_WORKER = 500_000_000, 100_000_000
"""An actor without torch. Measured: 390 MB, of which 160 MB are shared."""
CUDA_LIBRARIES = 3_000_000_000
"""What a process that computes on a GPU holds in the machine's memory beside that."""
CUDA, LEAST_CUDA = 1_000_000_000, 300_000_000
"""What a process has on a GPU before any weight: CUDA's context and the kernels."""
VLLM_WORKSPACE = 4_000_000_000
"""CUDA graphs, and what one step of vLLM computes with."""
VERSIONS_BESIDE = 2
"""Of the weights, while a version is loaded: the next one, and one before that waits for Python to collect it (seen: 1.95 GB of
a policy with 0.4 GB of weights)."""
HELD = ("weights", "positions")
"""Parts of a judge that are certain."""


@dataclass(frozen=True)
class OnGpu:
    """What a process of a role has on each of its GPUs, in bytes by part."""

    gpus_each: float
    parts: dict[str, int]
    """At most."""
    least: dict[str, int]
    """What of each part is certain."""
    resting: int
    """What is left of it at most while other roles have their turn (`colocated`)."""
    resting_least: int

    @property
    def most_bytes(self) -> int:
        return sum(self.parts.values())

    @property
    def least_bytes(self) -> int:
        return sum(self.least.values())


@dataclass(frozen=True)
class RoleMemory:
    """One role: how many processes, and the bytes of each by part, in the machine's memory; `unknown` names what is not in
    them."""

    role: str
    processes: int
    parts: dict[str, int]
    """At most."""
    unknown: str | None = None
    least: dict[str, int] = field(default_factory=dict)
    """What of each part is certain."""
    on_gpu: OnGpu | None = None

    @property
    def bytes_each(self) -> int:
        return sum(self.parts.values())

    @property
    def bytes(self) -> int:
        return self.processes * self.bytes_each

    @property
    def least_bytes(self) -> int:
        return self.processes * sum(self.least.values())


@dataclass(frozen=True)
class Place:
    """Where a role's processes compute."""

    spec: RunSpec
    cores: int
    gpus: int
    plan: GpuPlan

    def of(self, role: str) -> GpuShare | None:
        """Its share of the GPUs; None where it computes on the CPU."""
        return self.plan.share(role)


def roles(spec: RunSpec, size: ModelSize, cores: int, gpus: int, plan: GpuPlan) -> tuple[RoleMemory, ...]:
    """Every role that has processes, on a machine with so many cores, and GPUs as the GPU plan deals them out."""
    place = Place(spec, cores, gpus, plan)
    models = [_model_role(place, size, role, n) for role, n in pool_sizes(spec, cores, gpus).items() if n]
    judging = [_judge_role(place, role, judge, n) for role, judge, n in judges(spec, cores, gpus)]
    if spec.judge is None:
        judging.append(RoleMemory("judge", 1, {"libraries": WORKER}, least={"libraries": LEAST_WORKER}))
    clerk = RoleMemory("clerk", 1, {"libraries": WORKER}, least={"libraries": LEAST_WORKER})
    driver = RoleMemory("driver", 1, {"libraries": LIBRARIES}, least={"libraries": LEAST_LIBRARIES})
    return (*models, _trainer_role(place, size), *judging, clerk, driver)


def _placed(
    place: Place, role: str, processes: int, needs: Sequence[Need], unknown: str | None, loaded: int = 0
) -> RoleMemory:
    """The needs of a process that has torch, on the CPU or on its GPU. `loaded`: bytes that lie in the machine's memory on
    their way to a GPU."""
    libraries = Need("libraries", LIBRARIES, LEAST_LIBRARIES)
    share = place.of(role)
    if share is None:
        own = [libraries, *needs]
        return RoleMemory(role, processes, most_of(own), unknown, least_of(own))
    aside = [need for need in needs if need.sleeps and not need.passes and place.spec.resources.layout == "colocated"]
    asleep = Need("asleep", sum(n.most for n in aside), sum(n.least for n in aside))
    host = [n for n in (libraries, Need.bound("cuda", CUDA_LIBRARIES), Need.bound("loading", loaded), asleep) if n.most]
    there = [Need("cuda", CUDA, LEAST_CUDA), *needs]
    gpu = OnGpu(
        share.gpus_each,
        most_of(there),
        least_of(there),
        sum(need.most for need in there if not need.sleeps),
        sum(need.least for need in there if not need.sleeps and not need.passes),
    )
    return RoleMemory(role, processes, most_of(host), unknown, least_of(host), gpu)


def _model_role(place: Place, size: ModelSize, role: str, processes: int) -> RoleMemory:
    """A process that draws from a set of weights and computes reference log-probs. Asleep it leaves the GPU."""
    spec = place.spec
    needs = _vllm_needs(place, size, role) if _by_vllm(spec) else _engine_needs(place, size, role, processes)
    loaded = memory.loaded_bytes(spec, size)
    if size.adapted is not None:
        models = (spec.partitions or 1) if role == "reference" else 1  # an average holds the adapters of all its models
        needs.append(Need.certain("adapter", 4 * models * size.adapted.parameters, sleeps=True))
    elif loaded:
        averaged = 1 if role == "reference" and any(r.reference == "ema" for r in rows(spec)) else 0
        if place.of(role) is None:  # on a GPU the next version takes the place of the one that is there
            needs.append(Need.bound("next_weights", (VERSIONS_BESIDE + averaged) * loaded))
        loaded += averaged * loaded
    if size.architecture is not None:
        logits = memory.logits_bytes(size.architecture, memory.micro_batch_tokens(spec)) // 2  # no gradients
        needs.append(Need.bound("logits", logits, sleeps=True))
    return _placed(place, role, processes, needs, size.unknown, loaded)


def _engine_needs(place: Place, size: ModelSize, role: str, processes: int) -> list[Need]:
    """Of the transformers engine. In the machine's memory weights that are read as they lie in their file are the file's own
    pages, which all processes that hold them share."""
    spec, needs = place.spec, list[Need]()
    if size.parameters is not None:
        held = memory.engine_weight_bytes(spec, size.parameters)
        shared = 0 if place.of(role) is not None else memory.loaded_bytes(spec, size)
        needs.append(Need("weights", held, held - shared + shared // processes, sleeps=True))
        if place.of(role) is None:
            needs.append(Need.bound("packed", memory.packed_bytes(spec, size)))
    if size.architecture is not None:
        needs.append(Need.bound("kv_cache", memory.kv_cache_bytes(spec, size.architecture), sleeps=True))
    return [need for need in needs if need.most]


def _vllm_needs(place: Place, size: ModelSize, role: str) -> list[Need]:
    """Of a vLLM engine, on each GPU over which it is cut, and of the model beside it that gives log-probs: on the first of
    them, once log-probs are asked for."""
    spec, needs = place.spec, list[Need]()
    if size.parameters is not None:
        served = -(-BYTES[spec.model.dtype] * size.parameters // spec.resources.engine_tensor_parallel)
        scorer = memory.loaded_bytes(spec, size)
        is_reference = role != "policy" or any(r.reference == "previous" for r in rows(spec))
        needs += [
            Need.certain("weights", served, sleeps=True),
            Need("scorer", scorer, scorer if is_reference else 0, sleeps=True),
        ]
    needs.append(Need.certain("kv_cache", vllm_kv_cache_bytes(spec), sleeps=True, passes=True))
    if place.of(role) is not None:
        needs.append(Need.bound("workspace", VLLM_WORKSPACE, sleeps=True))
    return needs


def _by_vllm(spec: RunSpec) -> bool:
    return spec.sampling.engine == "vllm"


def _trainer_role(place: Place, size: ModelSize) -> RoleMemory:
    """Weights, those trained with gradients and the optimizer's moments in float32, and one micro-batch. Of several workers
    each holds its rows of the first, and computes with what it gathers of them. Asleep they lie in the machine's memory."""
    workers = trainer_workers(place.spec, place.gpus)
    held = {name: -(-count // workers) for name, count in memory.trainer_weights(place.spec, size).items()}
    needs = [Need.certain(name, count, sleeps=True, passes=name == "gradients") for name, count in held.items()]
    trained = size.adapted.parameters if size.adapted is not None else size.parameters or 0
    alone = workers == 1 and place.of("trainer") is None
    lanes = memory.lanes_of_training(place.spec, place.cores, trained) if alone else 1
    working = _step_bytes(place.spec, size, workers, lanes)
    if lanes > 1 and held:
        working["lanes"] = (2 * lanes - 1) * held["gradients"]  # each lane's sum, and what it adds to it
    needs += [Need.bound(name, count, sleeps=True) for name, count in working.items()]
    return _placed(place, "trainer", workers, needs, size.unknown, memory.loaded_bytes(place.spec, size))


def _step_bytes(spec: RunSpec, size: ModelSize, workers: int, lanes: int) -> dict[str, int]:
    """What a step of a worker needs beside what it holds, at most."""
    parts, tokens = dict[str, int](), memory.micro_batch_tokens(spec, lanes)
    if size.parameters is not None and workers > 1:
        parts["gathered"] = memory.gathered_bytes(size.parameters, size.architecture)
    elif size.parameters is not None and size.adapted is None and spec.model.dtype == "bfloat16":
        parts["casts"] = 2 * size.parameters  # autocast keeps them from the forward to the backward pass
    if size.architecture is not None:
        adapted = 4 * tokens * size.adapted.columns if size.adapted is not None else 0
        parts["activations"] = memory.activation_bytes(spec, size.architecture, tokens) + adapted
        parts["logits"] = memory.logits_bytes(size.architecture, tokens)
    if spec.online and size.parameters is not None:
        parts["hand_over"] = memory.weights_object_bytes(size)
    return parts


def _judge_role(place: Place, role: str, judge: JudgeSpec, processes: int) -> RoleMemory:
    held = [_judge_memory(single) for _, single in single_judges(judge, "judge")]
    parts: dict[str, int] = {"libraries": max(parts["libraries"] for parts, _ in held)}  # members share one process
    for name, size in ((n, s) for each, _ in held for n, s in each.items() if n != "libraries"):
        parts[name] = parts.get(name, 0) + size
    unknown = ", ".join(dict.fromkeys(what for _, what in held if what is not None)) or None
    if parts["libraries"] == WORKER and place.of(role) is None:
        return RoleMemory(role, processes, parts, unknown, {"libraries": LEAST_WORKER})
    sharing = processes if place.of(role) is None else 1  # a file's pages
    needs = [
        Need(name, size, size // sharing if name in HELD else 0) for name, size in parts.items() if name != "libraries"
    ]
    return _placed(place, role, processes, needs, unknown)


def _judge_memory(judge: SingleJudge) -> tuple[dict[str, int], str | None]:
    """Bytes by part, and what is not in them."""
    match judge.kind:
        case "python":
            return {"libraries": WORKER}, "your function's own memory"
        case "actor":
            return {"libraries": WORKER}, "your actor's own memory"
        case "http" | "llm":
            return {"libraries": WORKER}, None
        case "reward_model" | "pairrm":
            return _model_memory(judge)


def _model_memory(judge: RewardModelJudge | PairRMJudge) -> tuple[dict[str, int], str | None]:
    size = ModelSize.of(judge.path)
    parts = {"libraries": LIBRARIES}
    if size.parameters is not None:
        parts["weights"] = BYTES[judge.dtype] * size.parameters
    if judge.kind == "pairrm":
        shape = memory.pairrm_sizes(judge, size.architecture)
        parts |= memory.pairrm_bytes(judge, shape) if shape is not None else {}
    elif size.architecture is not None:
        parts["activations"] = 8 * BYTES[judge.dtype] * judge.batch_tokens * size.architecture.intermediate
    return parts, None if size.parameters else "the reward model's size"
