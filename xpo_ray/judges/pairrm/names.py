"""The names of PairRM's weights, as a config says them, and the refusal of a checkpoint with others.

The checks before a run compare them with the headers of the files, without torch; `checkpoint` compares those of the model
that it has made, whatever its kind.
"""

from collections.abc import Iterator, Set
from typing import Any

from xpo_ray.errors import JudgeError
from xpo_ray.spec.judge import PairRMJudge

HEAD = ("head_layer.1.weight", "head_layer.1.bias", "head_layer.4.weight", "head_layer.4.bias")
POSITION_IDS = "pretrained_model.embeddings.position_ids"
"""A buffer that older versions of transformers saved; it holds nothing that was trained."""
SHOWN = 5


def expected(config: dict[str, Any]) -> set[str] | None:
    """Names of all weights under a DeBERTa's config.json; None for a kind that this function does not know."""
    layers = config.get("num_hidden_layers", 24)
    if config.get("conv_kernel_size") or "embedding_size" in config or not isinstance(layers, int):
        return None
    inner = [*_embeddings(config), *(f"encoder.layer.{i}.{each}" for i in range(layers) for each in _layer(config))]
    return {*HEAD, *(f"pretrained_model.{name}" for name in inner)}


def refuse_others(spec: PairRMJudge, wanted: Set[str], got: Set[str]) -> None:
    """Raises JudgeError that names what is missing and what is unexpected."""
    missing, unexpected = sorted(wanted - got), sorted(got - wanted - {POSITION_IDS})
    if missing or unexpected:
        parts = [f"{some(names)} {what}" for names, what in ((missing, "missing"), (unexpected, "unexpected")) if names]
        raise JudgeError(
            f"judge.path {spec.path}: these are not PairRM's weights: {'; '.join(parts)}; give llm-blender/PairRM-hf or "
            "llm-blender/PairRM with the config that belongs to it"
        )


def some(names: list[str]) -> str:
    """The first few of them, and how many more there are."""
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _embeddings(config: dict[str, Any]) -> Iterator[str]:
    yield "embeddings.word_embeddings.weight"
    yield from _both("embeddings.LayerNorm")
    if config.get("position_biased_input", True):
        yield "embeddings.position_embeddings.weight"
    if config.get("type_vocab_size"):
        yield "embeddings.token_type_embeddings.weight"
    if config.get("relative_attention"):
        yield "encoder.rel_embeddings.weight"
    if "layer_norm" in str(config.get("norm_rel_ebd")).lower():
        yield from _both("encoder.LayerNorm")


def _layer(config: dict[str, Any]) -> Iterator[str]:
    projections = ["query_proj", "key_proj", "value_proj"]
    if config.get("relative_attention") and not config.get("share_att_key"):
        kinds = config.get("pos_att_type") or ()
        projections += [name for kind, name in (("c2p", "pos_key_proj"), ("p2c", "pos_query_proj")) if kind in kinds]
    for name in projections:
        yield from _both(f"attention.self.{name}")
    for name in ("attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense"):
        yield from _both(name)
    yield from _both("output.LayerNorm")


def _both(layer: str) -> tuple[str, str]:
    return f"{layer}.weight", f"{layer}.bias"
