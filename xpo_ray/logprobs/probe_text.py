"""Text on which log-probs are tried: tokens that the model finds likely, at lengths around the borders that its config names.

`choice` calls this. On tokens that a trained model finds improbable 16 bits round by whole nats, whatever path computes them;
what a run trains on is text that a model has drawn or could have drawn.
"""

from typing import Any

import torch
from torch import Tensor, nn

from xpo_ray.logprobs.seam import PromptGroup
from xpo_ray.logprobs.shared import whole
from xpo_ray.logprobs.sides import Sides, borders

ROWS, DRAWN = 4, 8
"""Texts, each of which begins with two tokens, and the tokens that follow greedily."""
MOST_WORK = 10**11
"""Parameters times tokens of the longest text that is tried: beyond it a border is a matter of rules alone."""


@torch.no_grad()
def probe_groups(model: nn.Module) -> list[PromptGroup]:
    """Prompts of several lengths with two responses each, which begin alike."""
    rows = likely_rows(model)
    groups = [_group(row, 2 + 2 * i) for i, row in enumerate(rows)]
    return [*groups, *(_around(rows[0], border) for border in _tried_borders(model))]


def likely_rows(model: nn.Module) -> list[list[int]]:
    """Greedy continuations of beginnings that are spread over the vocabulary."""
    inner: Any = whole(model)
    config = inner.config.get_text_config()
    vocabulary = int(inner.get_input_embeddings().weight.shape[0])
    spread = [vocabulary * (2 * i + 1) // (2 * ROWS) for i in range(ROWS)]
    begin = getattr(config, "bos_token_id", None)
    first = begin if isinstance(begin, int) and begin < vocabulary else None
    ids = torch.tensor([[spread[-1 - i] if first is None else first, each] for i, each in enumerate(spread)])
    ids = ids.to(next(model.parameters()).device)
    for _ in range(DRAWN):
        logits: Tensor = inner(input_ids=ids, use_cache=False).logits[:, -1]
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    rows: list[list[int]] = ids.tolist()
    return rows


def _group(row: list[int], prompt: int) -> PromptGroup:
    answer = row[prompt:]
    return PromptGroup(row[:prompt], (tuple(answer), tuple(answer[:2] + row[:4])))


def _around(row: list[int], border: int) -> PromptGroup:
    """Responses that end before, at and behind a border; a text that repeats itself is one that a model finds likely."""
    text = row * (border // len(row) + 2)
    prompt = max(border - 4, 1)
    return PromptGroup(text[:prompt], tuple(tuple(text[prompt : border + n]) for n in (-1, 0, 1, 6)))


def _tried_borders(model: nn.Module) -> list[int]:
    config = whole(model).config.get_text_config()
    size = sum(p.numel() for p in model.parameters())
    sides = Sides.of(whole(model))
    endless = sides is not None and sides.by_length  # its border is where its positions were trained to
    last = (
        MOST_WORK // size if endless else min(getattr(config, "max_position_embeddings", None) or 0, MOST_WORK // size)
    )
    return [b for b in borders(config) if b > 4 and b + 6 <= last]
