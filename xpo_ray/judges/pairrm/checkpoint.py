"""Loads the published forms of PairRM; the judge calls `load` once. No pickle and no code of a checkpoint is ever run.

- `llm-blender/PairRM-hf`: config.json of a DeBERTa with `n_tasks`, and a tokenizer that has the prefixes.
- `llm-blender/PairRM`: config.json of the ranker (`ranker_type: pairranker`). DeBERTa's config and tokenizer come from the
  backbone; LLM-Blender adds the prefixes to it, and gives the embeddings as many rows as there are tokens then.

Both have one model.safetensors with the same names. A checkpoint whose names or shapes are others is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, DebertaV2Config, PreTrainedTokenizerBase
from transformers.utils import cached_file

from xpo_ray.errors import JudgeError
from xpo_ray.judges.pairrm.backbone import DEFAULT, backbone_of, read_config, read_json
from xpo_ray.judges.pairrm.encoding import PREFIXES, prefix_id
from xpo_ray.judges.pairrm.model import PairRM
from xpo_ray.judges.pairrm.names import POSITION_IDS, refuse_others, some
from xpo_ray.judges.reward_model import LOADING_FAULTS
from xpo_ray.spec.judge import PairRMJudge

EMBEDDINGS = "pretrained_model.embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded PairRM, in `eval`, with the tokenizer that it was trained with."""

    model: PairRM
    tokenizer: PreTrainedTokenizerBase


def load(spec: PairRMJudge, folder: Path, dtype: torch.dtype) -> Checkpoint:
    """The checkpoint of a spec whose paths are relative to `folder`, cast to `dtype`. Raises JudgeError."""
    path = _place(spec.path, folder, "judge.path")
    raw = read_config(_file(path, "config.json", spec.revision, "judge.path"), spec.path)
    backbone = backbone_of(spec, path, raw)
    weights = _weights(spec, path)
    if backbone is None:
        config, tokenizer = _deberta(raw, "judge.path", spec.path), _tokenizer(path, spec.revision, "judge.path")
    else:
        config, tokenizer = _from_backbone(_place(backbone, folder, "judge.backbone"), raw, len(weights[EMBEDDINGS]))
    _check_prefixes(spec, raw, tokenizer, weights)
    _check_positions(spec, config)
    return Checkpoint(_filled(spec, config, raw["n_tasks"], weights, dtype), tokenizer)


def _place(path: str, folder: Path, field: str) -> str:
    """A folder beside the spec file where there is one, else what the hub knows by that name."""
    beside = folder / Path(path).expanduser()
    if beside.is_dir():
        return str(beside)
    if Path(path).is_absolute() or path.startswith((".", "~")):
        raise JudgeError(f"{field} {path}: no such folder; give a folder or a hub repository as owner/name")
    return path


def _file(path: str, name: str, revision: str | None, field: str) -> Path:
    try:
        found = cached_file(path, name, revision=revision)
    except LOADING_FAULTS as error:
        raise JudgeError(f"{field} {path}: has no {name}, or it cannot be reached: {error}") from error
    return Path(found)


def _weights(spec: PairRMJudge, path: str) -> dict[str, Tensor]:
    file = _file(path, "model.safetensors", spec.revision, "judge.path")
    try:
        weights: dict[str, Tensor] = load_file(file)
    except LOADING_FAULTS as error:
        raise JudgeError(
            f"judge.path {spec.path}: model.safetensors cannot be read: {error}; copy the checkpoint anew"
        ) from error
    weights.pop(POSITION_IDS, None)
    if EMBEDDINGS not in weights:
        raise JudgeError(
            f"judge.path {spec.path}: the checkpoint has no {EMBEDDINGS}, it begins with "
            f"{some(sorted(weights))}; give llm-blender/PairRM-hf or llm-blender/PairRM"
        )
    return weights


def _from_backbone(place: str, ranker: dict[str, Any], rows: int) -> tuple[DebertaV2Config, PreTrainedTokenizerBase]:
    raw = read_json(_file(place, "config.json", None, "judge.backbone"), f"judge.backbone {place}")
    if raw.get("model_type") != "deberta-v2":
        raise JudgeError(
            f"judge.backbone {place}: model_type is {raw.get('model_type')!r:.80}, PairRM's is deberta-v2; give the config and "
            f"tokenizer of {DEFAULT}"
        )
    tokenizer = _tokenizer(place, None, "judge.backbone")
    tokenizer.add_tokens(list(PREFIXES))
    if len(tokenizer) != rows:
        raise JudgeError(
            f"judge.backbone {place}: its tokenizer has {len(tokenizer)} tokens with the four prefixes, the checkpoint has "
            f"{rows} embeddings, so that the prefixes would have the ids of others; give the tokenizer of "
            f"{ranker.get('model_name') or DEFAULT!s:.100}"
        )
    return _deberta(raw | {"vocab_size": rows}, "judge.backbone", place), tokenizer


def _deberta(raw: dict[str, Any], field: str, path: str) -> DebertaV2Config:
    try:
        return DebertaV2Config.from_dict(raw)
    except (*LOADING_FAULTS, AttributeError, StrictDataclassError) as error:
        raise JudgeError(
            f"{field} {path}: config.json is not of a DeBERTa: {' '.join(str(error).split())}; copy the checkpoint anew"
        ) from error


def _tokenizer(path: str, revision: str | None, field: str) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
    except LOADING_FAULTS as error:
        raise JudgeError(
            f"{field} {path}: its tokenizer cannot be loaded: {error}; it needs tokenizer files"
        ) from error


def _check_prefixes(
    spec: PairRMJudge, raw: dict[str, Any], tokenizer: PreTrainedTokenizerBase, weights: dict[str, Tensor]
) -> None:
    """The tokenizer's ids of the prefixes count; a config that has others belongs to another tokenizer."""
    rows = len(weights[EMBEDDINGS])
    for prefix, name in zip(PREFIXES, ("source", "cand1", "cand2", "cand"), strict=True):
        said = raw.get(f"{name}_prefix_id")
        if name == "cand" and said is None:
            continue  # it is used in training alone
        found = prefix_id(tokenizer, prefix, spec.path)
        if said is not None and said != found:
            raise JudgeError(
                f"judge.path {spec.path}: config.json has {name}_prefix_id {said}, the tokenizer has {found} for {prefix}; put "
                "the tokenizer that the model was trained with into its folder"
            )
        if found >= rows:
            raise JudgeError(
                f"judge.path {spec.path}: the tokenizer has {found} for {prefix}, the checkpoint has {rows} embeddings; put "
                "the tokenizer that the model was trained with into its folder"
            )


def _check_positions(spec: PairRMJudge, config: DebertaV2Config) -> None:
    """deberta-v3 knows relative positions alone, of any distance; a model with absolute ones ends where they end."""
    most = config.max_position_embeddings
    if config.position_biased_input and spec.max_tokens > most:
        raise JudgeError(
            f"judge.max_tokens is {spec.max_tokens}, {spec.path} has {most} absolute positions; set judge.max_tokens to {most}"
        )


def _filled(
    spec: PairRMJudge, config: DebertaV2Config, tasks: int, weights: dict[str, Tensor], dtype: torch.dtype
) -> PairRM:
    """The model with these weights and no others. It is made without memory, so that no weight is held twice."""
    with torch.device("meta"):
        model = PairRM(config, tasks)
    wanted = {name: weight.shape for name, weight in model.state_dict().items()}
    refuse_others(spec, set(wanted), set(weights))
    if others := [
        f"{k} is {tuple(weights[k].shape)}, not {tuple(wanted[k])}" for k in wanted if weights[k].shape != wanted[k]
    ]:
        raise JudgeError(
            f"judge.path {spec.path}: the config does not fit the weights: {some(others)}; copy config.json anew"
        )
    model.load_state_dict({name: weights.pop(name).to(dtype) for name in wanted}, assign=True)
    embeddings = model.pretrained_model.embeddings
    embeddings.position_ids = torch.arange(config.max_position_embeddings).expand((1, -1))
    return model.requires_grad_(False).eval()
