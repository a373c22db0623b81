"""Bytes of each part of a process, from the model's sizes and the spec. The formulas stand beside the parts, and what of them
is certain is said by xpo_ray.plan.roles, which puts the parts together. Loads no model.
"""

import math
from dataclasses import dataclass

from xpo_ray.algorithms import rows
from xpo_ray.judges.pairrm.backbone import local_backbone
from xpo_ray.model_files import Architecture, architecture, model_folder
from xpo_ray.plan.adapter import Adapted
from xpo_ray.plan.shapes import has_weights, shapes
from xpo_ray.spec.data import LoraSpec
from xpo_ray.spec.judge import PairRMJudge
from xpo_ray.spec.run import RunSpec

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
MOST_PACKED = 2**26
"""As in xpo_ray.linear, which needs torch: weights of engines up to here are held again in the order that oneDNN reads."""
LEAST_LANE, MOST_LANED = 2, 2**25
"""As in xpo_ray.lanes: prompts for each lane of a trainer, and trained weights up to which it has several."""


@dataclass(frozen=True)
class ModelSize:
    """What is known of a model without loading it; None for a hub repository or an unknown architecture."""

    parameters: int | None
    architecture: Architecture | None
    adapted: Adapted | None = None
    """The adapter that is trained in it, where one is."""

    from_config: bool = False
    """There are no weights yet; what is known follows from config.json."""

    @classmethod
    def of(cls, path: str, lora: LoraSpec | None = None) -> "ModelSize":
        """From the headers of a model folder, or from its config.json where it has no weights yet. Raises ModelError."""
        folder = model_folder(path)
        if folder is None:
            return cls(None, None)
        sizes, known = architecture(folder), shapes(folder)
        if known is None:
            return cls(None, sizes, from_config=True)
        adapted = None if lora is None else Adapted.of(folder, sizes, lora)
        return cls(sum(map(math.prod, known.values())), sizes, adapted, not has_weights(folder))

    @property
    def unknown(self) -> str | None:
        """What a role that holds this model leaves out."""
        return None if self.architecture and self.parameters else "the model's size"


def trainer_weights(spec: RunSpec, size: ModelSize) -> dict[str, int]:
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


def loaded_bytes(spec: RunSpec, size: ModelSize) -> int:
    """Of a model as it is read from its folder: whole models in float32, the base of an adapter as it computes."""
    return (BYTES[spec.model.dtype] if spec.model.lora is not None else 4) * (size.parameters or 0)


def packed_bytes(spec: RunSpec, size: ModelSize) -> int:
    """Linear layers of a small float32 model on an AMD processor, in oneDNN's order, and once more those that read the same
    input."""
    sizes, whole = size.architecture, size.parameters or 0
    linear = whole - (sizes.vocabulary * sizes.hidden if sizes is not None else 0)
    return 2 * 4 * linear if spec.model.dtype == "float32" and linear <= MOST_PACKED else 0


def weights_object_bytes(size: ModelSize) -> int:
    """One version of what is trained, as it travels by object ref: in float32."""
    return 4 * (size.adapted.parameters if size.adapted is not None else size.parameters or 0)


def kv_cache_bytes(spec: RunSpec, sizes: Architecture) -> int:
    """Keys and values of the longest sequences of one shard: 2 · layers · kv_heads · head_dim · tokens."""
    samples = max((draw.samples for row in rows(spec) for draw in row.draws), default=0)
    if spec.data.evaluation is not None:
        samples = max(samples, 1)
    new = max(spec.sampling.max_new_tokens, spec.evaluation.max_new_tokens or 0)
    tokens = spec.data.shard_size * samples * (spec.data.max_prompt_tokens + new)
    return 2 * sizes.layers * sizes.kv_heads * sizes.head_dim * tokens * BYTES[spec.model.dtype]


def lanes_of_training(spec: RunSpec, cores: int, trained: int) -> int:
    """Threads of a trainer that is alone on a CPU, each of which takes its own share of a step; one for a large model."""
    if trained > MOST_LANED:
        return 1
    return max(min(spec.resources.trainer_threads or cores, spec.training.batch_size // LEAST_LANE), 1)


def micro_batch_tokens(spec: RunSpec, lanes: int = 1) -> int:
    """Padded tokens that are in forward passes at a time: the limit, or one prompt's longest responses for each lane where
    those are more."""
    used = rows(spec)
    response = max(
        spec.sampling.max_new_tokens if any(r.draws for r in used) else 0,
        spec.data.max_response_tokens if any(r.needs_pairs for r in used) else 0,
    )
    comparators = max({"none": 0, "both": 2}.get(r.comparator, 1) for r in used)
    group = (2 + comparators) * (spec.data.max_prompt_tokens + response)
    each = min(spec.training.micro_batch_tokens, spec.training.batch_size * group) // lanes
    return lanes * max(group, each)


def logits_bytes(sizes: Architecture, tokens: int) -> int:
    """Logits, log-probs and their gradients in float32, as if every token were one of a response."""
    return 4 * 4 * tokens * sizes.vocabulary


def activation_bytes(spec: RunSpec, sizes: Architecture, tokens: int) -> int:
    """Per token and layer, in float32: norms, residuals and attention (~8 hidden + keys and values), gated MLP (4 wide).

    With checkpointing each layer keeps its input alone, and one layer at a time has the rest.
    """
    attention = 8 * sizes.hidden + 2 * (sizes.heads + sizes.kv_heads) * sizes.head_dim
    layer = attention + 4 * sizes.intermediate
    if spec.training.activation_checkpointing:
        return 4 * tokens * (sizes.layers * sizes.hidden + layer)
    return 4 * tokens * sizes.layers * layer
