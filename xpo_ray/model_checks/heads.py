"""Whether the weights of a folder are those of a language model, by the names of their tensors: head and layers.

Names that are not known here are left to the rehearsal, which asks the model's own class; a healthy one is never refused.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xpo_ray.errors import ModelError
from xpo_ray.model_files import text_part

HEADS = ("lm_head", "embed_out", "output_layer", "output", "head", "decoder_lm_head", "proj_out")
"""Modules that turn the last layer into logits over the vocabulary; `head` and `output` are those of RWKV and its kind."""
CLASSIFIERS = (
    "score",
    "classifier",
    "classification_head",
    "reward_head",
    "value_head",
    "v_head",
    "regression_head",
    "rm_head",
)
"""Modules that turn it into a score or a label."""
OTHER_TASKS = re.compile(r"For\w*Classification|RewardModel|ForQuestionAnswering|ForMultipleChoice|ForScore|ValueHead")
CAUSAL = re.compile(r"ForCausalLM|LMHead|ForConditionalGeneration")
LAYER = re.compile(r"^(.*?\b(?:layers|h|blocks))\.(\d+)\.")
OTHER_PARTS = ("vision", "visual", "audio", "encoder", "image", "speech", "mtp")
REMEDY = "name the language model that it was made from, or a checkpoint of a causal language model"


def check_heads(folder: Path, config: Mapping[str, Any], names: set[str]) -> dict[str, str]:
    """Raises ModelError for a checkpoint of another task; returns what is to be warned of."""
    modules = {part for name in names for part in name.split(".")}
    has_head, extra = modules & set(HEADS), sorted(modules & set(CLASSIFIERS))
    if has_head:
        return {} if not extra else {"head_not_read": _not_read(folder, extra)}
    task = next((a for a in _architectures(config) if OTHER_TASKS.search(a)), None)
    causal = any(CAUSAL.search(a) for a in _architectures(config))
    if extra and causal and not task and _may_be_tied(config):
        return {"head_not_read": _not_read(folder, extra)}
    if task or extra:
        what = ", ".join([*([task] if task else []), *(f"a module {name}" for name in extra)])
        raise ModelError(
            f"model.path {folder}: has no head of a language model but {what}, as reward models have; {REMEDY}"
        )
    if not _may_be_tied(config) and not _beside_text(config) and "embed_tokens" in modules:
        raise ModelError(
            f"model.path {folder}: the weights have no lm_head, and config.json says tie_word_embeddings: false, so the head "
            f"would be random; {REMEDY}, or set tie_word_embeddings: true where the head is the embeddings"
        )
    return {}


def _not_read(folder: Path, extra: list[str]) -> str:
    named = ", ".join(extra)
    return f"model.path {folder}: {named} stands beside the language model's head, and is neither trained nor exported"


def _architectures(config: Mapping[str, Any]) -> list[str]:
    named = config.get("architectures")
    return [str(a) for a in named] if isinstance(named, list) else []


def _may_be_tied(config: Mapping[str, Any]) -> bool:
    """Whether the head may be the embeddings: where no part of the config says anything, the model's class decides."""
    said = [part.get("tie_word_embeddings") for part in (config, text_part(dict(config)))]
    return True in said or False not in said


def _beside_text(config: Mapping[str, Any]) -> bool:
    """Whether there is more than text in the model."""
    return "text_config" in config


def refuse_lost_layers(folder: Path, config: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raises ModelError where the weights lack whole layers that the config counts. Where most are lacking, their names are not
    understood, and nothing is said."""
    text = text_part(dict(config))
    wanted = next((n for key in ("num_hidden_layers", "n_layer") if isinstance(n := text.get(key), int)), 0)
    found: dict[str, set[int]] = defaultdict(set)
    for name in names:
        if (match := LAYER.match(name)) and not any(part in match[1] for part in OTHER_PARTS):
            found[match[1]].add(int(match[2]))
    if len(found) != 1:
        return
    ((stack, there),) = found.items()
    lost = sorted(set(range(wanted)) - there)
    if lost and len(lost) * 2 < wanted:
        raise ModelError(
            f"model.path {folder}: the weights lack {len(lost)} of {wanted} layers, the first is {stack}.{lost[0]}; "
            "copy or write the model anew"
        )
