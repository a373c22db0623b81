"""PairRM a second time, slowly and straight from LLM-Blender's documentation, for the tests: a pair at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.xpo_ray.judges.pairrm.worlds import deberta_tokenizer
from xpo_ray.judges.pairrm.deberta import DebertaV2Model

PREFIX = "pretrained_model."


@torch.no_grad()
def logit(weights: Mapping[str, Tensor], config: Any, ids: Sequence[int]) -> float:
    """Of one pair, [CLS]<|source|>x[SEP][CLS]<|candidate1|>a[SEP][CLS]<|candidate2|>b[SEP], by transformers' own DeBERTa."""
    model = DebertaV2Model(config).eval()
    model.load_state_dict({k.removeprefix(PREFIX): v for k, v in weights.items() if k.startswith(PREFIX)})
    hidden = model(input_ids=torch.tensor([list(ids)])).last_hidden_state[0]
    source, left, right = (hidden[list(ids).index(place)] for place in prefix_ids())
    return head(weights, source, left) - head(weights, source, right)


def head(weights: Mapping[str, Tensor], source: Tensor, candidate: Tensor) -> float:
    """Linear(2h → h), Tanh, Linear(h → tasks) of [source; candidate], the mean over tasks."""
    read = torch.cat([source, candidate])
    inner = torch.tanh(weights["head_layer.1.weight"] @ read + weights["head_layer.1.bias"])
    return float((weights["head_layer.4.weight"] @ inner + weights["head_layer.4.bias"]).mean())


def pair_ids(prompt: str, left: str, right: str, most_source: int = 1224, most: int = 2048) -> list[int]:
    """As the model card of PairRM-hf tokenises a pair of texts that hold no special tokens."""
    tokenizer = deberta_tokenizer()
    source = tokenizer.encode("<|source|>" + prompt, max_length=most_source, truncation=True)
    room = (most - len(source)) // 2
    first = tokenizer.encode("<|candidate1|>" + left, max_length=room, truncation=True)
    second = tokenizer.encode("<|candidate2|>" + right, max_length=room, truncation=True)
    return [*source, *first, *second]


def prefix_ids() -> list[int]:
    ids: list[int] = deberta_tokenizer().convert_tokens_to_ids(["<|source|>", "<|candidate1|>", "<|candidate2|>"])
    return ids


def rank_by_blender(logits: Sequence[Sequence[float]]) -> tuple[list[float], list[int]]:
    """Scores and ranks of the full matrix, loop by loop: every response collects what it wins on the left and on the right."""
    n = len(logits)
    scores = [0.0] * n
    for i in range(n):
        for j in range(n):
            scores[i] += logits[i][j] / n
            scores[j] -= logits[i][j] / n
    ordered = sorted(scores, reverse=True)
    return scores, [ordered.index(score) + 1 for score in scores]
