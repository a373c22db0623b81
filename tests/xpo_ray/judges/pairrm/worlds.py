"""Tiny PairRM checkpoints for the tests: a random DeBERTa of the kind of deberta-v3-large in both published forms."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import DebertaV2Config, DebertaV2Tokenizer

from xpo_ray.judges.pairrm.deberta import DebertaV2Model
from xpo_ray.judges.pairrm.encoding import PREFIXES

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
WORDS = (
    "▁the",
    "▁cat",
    "▁dog",
    "▁good",
    "▁bad",
    "▁is",
    "▁what",
    "▁hello",
    "▁love",
    "▁hate",
    "▁you",
    "candidate",
    "source",
)
LETTERS = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'<>|[]()-"
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "position_buckets": 8,
    "relative_attention": True,
    "max_relative_positions": -1,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
    "type_vocab_size": 0,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}


def deberta_tokenizer(prefixes: bool = True) -> DebertaV2Tokenizer:
    """A Unigram tokenizer as deberta-v3's: its special tokens are pieces of the vocabulary too."""
    pieces = [(token, 0.0) for token in SPECIAL]
    pieces += [(word, -2.0) for word in WORDS] + [(letter, -5.0) for letter in LETTERS]
    tokenizer = DebertaV2Tokenizer(vocab=pieces, unk_id=3)
    if prefixes:
        tokenizer.add_tokens(list(PREFIXES))
    return tokenizer


def config(rows: int, **changes: Any) -> DebertaV2Config:
    return DebertaV2Config(vocab_size=rows, **(SIZES | changes))


def random_weights(made: DebertaV2Config, tasks: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, biases and norms random too, under the names of the published ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = {f"pretrained_model.{k}": v.clone() for k, v in DebertaV2Model(made).state_dict().items()}
        h = made.hidden_size
        head = {"1.weight": (h, 2 * h), "1.bias": (h,), "4.weight": (tasks, h), "4.bias": (tasks,)}
        weights |= {f"head_layer.{k}": torch.randn(*shape) / 4 for k, shape in head.items()}
        return {k: v + 0.05 * torch.randn_like(v) for k, v in weights.items()}


def hf_folder(folder: Path, tasks: int = 1, seed: int = 0, **changes: Any) -> Path:
    """As llm-blender/PairRM-hf: DeBERTa's config with PairRM's fields, tokenizer with the prefixes, weights."""
    tokenizer = deberta_tokenizer()
    tokenizer.save_pretrained(folder)
    made = config(len(tokenizer), **changes)
    source, left, right, either = tokenizer.convert_tokens_to_ids(list(PREFIXES))
    own = {
        "architectures": ["DebertaV2PairRM"],
        "n_tasks": tasks,
        "drop_out": 0.05,
        "sep_token_id": tokenizer.sep_token_id,
    }
    ids = {"source_prefix_id": source, "cand1_prefix_id": left, "cand2_prefix_id": right, "cand_prefix_id": either}
    write_json(folder / "config.json", json.loads(made.to_json_string(use_diff=False)) | own | ids)
    save_file(random_weights(made, tasks, seed), folder / "model.safetensors")
    return folder


def ranker_folder(folder: Path, seed: int = 0) -> Path:
    """As llm-blender/PairRM, in `folder/PairRM`, with its backbone beside it in `folder/deberta-v3-large`."""
    backbone, ranker = folder / "deberta-v3-large", folder / "PairRM"
    tokenizer = deberta_tokenizer(prefixes=False)
    tokenizer.save_pretrained(backbone)
    rows = len(tokenizer) + len(PREFIXES)
    config(rows + 95).save_pretrained(backbone)  # more rows than tokens, as deberta-v3-large has
    ranker.mkdir()
    own = {
        "ranker_type": "pairranker",
        "model_type": "deberta",
        "model_name": "microsoft/deberta-v3-large",
        "n_tasks": 1,
    }
    write_json(ranker / "config.json", own | {"source_maxlength": 1224, "candidate_maxlength": 412})
    save_file(random_weights(config(rows), seed=seed), ranker / "model.safetensors")
    return ranker


def write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value))


def edit(file: Path, **changes: Any) -> None:
    write_json(file, json.loads(file.read_text()) | changes)
