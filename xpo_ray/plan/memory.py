"""Processes and memory of each role on this machine, as upper bounds from the model's sizes and the spec.

The formulas stand beside the parts; a part that cannot be known (hub repositories, the user's own code) is left out and
named. Loads no model.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from xpo_ray.algorithms import rows
from xpo_ray.judges.pairrm.backbone import local_backbone
from xpo_ray.model_files import Architecture, architecture, model_folder, parameters
from xpo_ray.plan.adapter import Adapted
from xpo_ray.plan.processes import gpus_here, judge_replicas, pool_sizes, trainer_workers
from xpo_ray.spec.data import LoraSpec
from xpo_ray.spec.judge import JudgeSpec, PairRMJudge, RewardModelJudge, SingleJudge, single_judges
from xpo_ray.spec.run import RunSpec

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
LIBRARIES = 600_000_000
"""Python with torch, transformers and ray in one process, before any weight."""
WORKER = 200_000_000
"""An actor without torch."""


@dataclass(frozen=True)
class ModelSize:
    """What is known of a model without loading it; None for a hub repository or an unknown architecture."""

    parameters: int | None
    architecture: Architecture | None
    adapted: Adapted | None = None
    """The adapter that is trained in it, where one is."""

    @classmethod
    def of(cls, path: str, lora: LoraSpec | None = None) -> "ModelSize":
        """From a model folder's headers. Raises ModelError."""
        folder = model_folder(path)
        if folder is None:
            return cls(None, None)
        sizes = architecture(folder)
        return cls(parameters(folder), sizes, None if lora is None else Adapted.of(folder, sizes, lora))


@dataclass(frozen=True)
class RoleMemory:
    """One role: how many processes, and the bytes of each by part; `unknown` names what is not in them."""

    role: str
    processes: int
    parts: dict[str, int]
    unknown: str | None = None

    @property
    def bytes_each(self) -> int:
        return sum(self.parts.values())

    @property
    def bytes(self) -> int:
        return self.processes * self.bytes_each


def roles(spec: RunSpec, size: ModelSize, cores: int) -> tuple[RoleMemory, ...]:
    """Every role that has processes."""
    models = [_model_role(spec, size, role, n) for role, n in pool_sizes(spec, cores).items()]
    judges = [_judge_role("judge", spec.judge, judge_replicas(spec, cores))]
    if spec.data.evaluation is not None and spec.evaluation.judge is not None:
        judges.append(_judge_role("evaluation-judge", spec.evaluation.judge, 1))
    return tuple(role for role in (*models, _trainer_role(spec, size), *judges) if role.processes)


def _model_role(spec: RunSpec, size: ModelSize, role: str, processes: int) -> RoleMemory:
    """A process that draws one shard at a time and computes reference log-probs."""
    parts = {"libraries": LIBRARIES}
    if size.parameters is not None:
        parts["weights"] = engine_weight_bytes(spec, size.parameters)
    if size.adapted is not None:
        models = (spec.partitions or 1) if role == "reference" else 1  # an average holds the adapters of all its models
        parts["adapter"] = 4 * models * size.adapted.parameters
    if size.architecture is not None:
        parts["kv_cache"] = kv_cache_bytes(spec, size.architecture)
        parts["logits"] = logits_bytes(spec, size.architecture) // 2  # no gradients
    return RoleMemory(role, processes, parts, None if size.architecture and size.parameters else "the model's size")


def _trainer_role(spec: RunSpec, size: ModelSize) -> RoleMemory:
    """Weights, those trained with gradients and moments in float32, and one micro-batch. Of several workers each
    holds its rows of the first, and computes with what it gathers of them."""
    workers = trainer_workers(spec, gpus_here())
    held = {name: -(-count // workers) for name, count in _trainer_weights(spec, size).items()}
    parts = {"libraries": LIBRARIES} | held
    if size.parameters is not None and workers > 1:
        parts["gathered"] = gathered_bytes(size.parameters, size.architecture)
    elif size.parameters is not None and size.adapted is None and spec.model.dtype == "bfloat16":
        parts["casts"] = 2 * size.parameters  # autocast keeps them from the forward to the backward pass
    if size.architecture is not None:
        parts["activations"] = activation_bytes(spec, size.architecture)
        if size.adapted is not None:
            parts["activations"] += 4 * micro_batch_tokens(spec) * size.adapted.columns
        parts["logits"] = logits_bytes(spec, size.architecture)
    unknown = None if size.architecture and size.parameters else "the model's size"
    return RoleMemory("trainer", workers, parts, unknown)


def _trainer_weights(spec: RunSpec, size: ModelSize) -> dict[str, int]:
    """What the trainer holds between two passes, over all workers."""
    if size.parameters is None:
        return {}
    if size.adapted is None:
        return trained_bytes("weights", size.parameters, spec.training.optimizer)
    base = {"weights": BYTES[spec.model.dtype] * size.parameters}
    return base | trained_bytes("adapter", size.adapted.parameters, spec.training.optimizer)


def gathered_bytes(parameters: int, sizes: Architecture | None) -> int:
    """What lies whole on each of several workers while it computes, in float32: two layers, the embeddings and the head, with
    as much again for their gradients. Of an unknown architecture all of it."""
    if sizes is None:
        return 2 * 4 * parameters
    ends = min(2 * sizes.vocabulary * sizes.hidden, parameters)
    return 2 * 4 * (ends + 2 * ((parameters - ends) // sizes.layers))


def _judge_role(role: str, judge: JudgeSpec | None, processes: int) -> RoleMemory:
    if judge is None:
        return RoleMemory(role, 0, {})
    held = [_judge_memory(single) for _, single in single_judges(judge, "judge")]
    parts: dict[str, int] = {"libraries": max(parts["libraries"] for parts, _ in held)}  # members share one process
    for name, size in ((n, s) for each, _ in held for n, s in each.items() if n != "libraries"):
        parts[name] = parts.get(name, 0) + size
    unknown = dict.fromkeys(what for _, what in held if what is not None)
    return RoleMemory(role, processes, parts, ", ".join(unknown) or None)


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
        shape = pairrm_sizes(judge, size.architecture)
        parts |= pairrm_bytes(judge, shape) if shape is not None else {}
    elif size.architecture is not None:
        parts["activations"] = 8 * BYTES[judge.dtype] * judge.batch_tokens * size.architecture.intermediate
    return parts, None if size.parameters else "the reward model's size"


def pairrm_sizes(judge: PairRMJudge, own: Architecture | None) -> Architecture | None:
    """Of the DeBERTa: those of the checkpoint's own config, else of its backbone's. Raises JudgeError where it has none."""
    folder = model_folder(judge.path)
    if own is not None or folder is None:
        return own
    backbone = local_backbone(judge, folder)
    return None if backbone is None else architecture(backbone)


def pairrm_bytes(judge: PairRMJudge, sizes: Architecture) -> dict[str, int]:
    """Two projections of 512 relative positions in each layer; of one layer the wide part of the feed-forward network, and
    the attention's bias twice, as if a batch were of the longest pairs (or of one such pair)."""
    size, longest = BYTES[judge.dtype], max(judge.batch_tokens, judge.max_tokens)
    return {
        "positions": size * sizes.layers * 2 * 512 * sizes.hidden,
        "activations": size * longest * (8 * sizes.intermediate + 2 * sizes.heads * judge.max_tokens),
    }


def engine_weight_bytes(spec: RunSpec, count: int) -> int:
    """In bfloat16 log-probs are taken from float32 weights beside those that draw; with an adapter one model does both."""
    if spec.model.dtype == "float32":
        return 4 * count
    return (2 if spec.model.lora is not None else 4 + 2) * count


def trained_bytes(name: str, count: int, optimizer: str) -> dict[str, int]:
    """What is trained, its gradients, and the moments, two of AdamW and one of RMSprop, in float32."""
    return {name: 4 * count, "gradients": 4 * count, "optimizer": (4 if optimizer == "rmsprop" else 8) * count}


def kv_cache_bytes(spec: RunSpec, sizes: Architecture) -> int:
    """Keys and values of the longest sequences of one shard: 2 · layers · kv_heads · head_dim · tokens."""
    samples = max((draw.samples for row in rows(spec) for draw in row.draws), default=0)
    if spec.data.evaluation is not None:
        samples = max(samples, 1)
    new = max(spec.sampling.max_new_tokens, spec.evaluation.max_new_tokens or 0)
    tokens = spec.data.shard_size * samples * (spec.data.max_prompt_tokens + new)
    return 2 * sizes.layers * sizes.kv_heads * sizes.head_dim * tokens * BYTES[spec.model.dtype]


def micro_batch_tokens(spec: RunSpec) -> int:
    """Padded tokens in one forward pass: the limit, or one prompt's longest responses where those are more."""
    used = rows(spec)
    response = max(
        spec.sampling.max_new_tokens if any(r.draws for r in used) else 0,
        spec.data.max_response_tokens if any(r.needs_pairs for r in used) else 0,
    )
    comparators = max({"none": 0, "both": 2}.get(r.comparator, 1) for r in used)
    group = (2 + comparators) * (spec.data.max_prompt_tokens + response)
    return max(group, min(spec.training.micro_batch_tokens, spec.training.batch_size * group))


def logits_bytes(spec: RunSpec, sizes: Architecture) -> int:
    """Logits, log-probs and their gradients in float32, as if every token were one of a response."""
    return 4 * 4 * micro_batch_tokens(spec) * sizes.vocabulary


def activation_bytes(spec: RunSpec, sizes: Architecture) -> int:
    """Per token and layer, in float32: norms, residuals and attention (~8 hidden + keys and values), gated MLP (4 wide).

    With checkpointing each layer keeps its input alone, and one layer at a time has the rest.
    """
    attention = 8 * sizes.hidden + 2 * (sizes.heads + sizes.kv_heads) * sizes.head_dim
    layer = attention + 4 * sizes.intermediate
    if spec.training.activation_checkpointing:
        return 4 * micro_batch_tokens(spec) * (sizes.layers * sizes.hidden + layer)
    return 4 * micro_batch_tokens(spec) * sizes.layers * layer


def machine_bytes() -> int:
    """Memory of this machine, or of the container that we are in."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(physical, int(text)) if text.isdigit() else physical
