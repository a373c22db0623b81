"""The transformers engine: a batch that rows leave when they have ended and that waiting prompts then join.

Every row draws with its own uniform numbers (one per token, from its seed), so a draw does not depend on its neighbours but
for rounding. What stands beside what follows on a CPU from the prompts alone, so that the same call gives the same bits; on a
GPU from the memory that is free there, too.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from xpo_ray.devices import free_bytes
from xpo_ray.generation.engine import Drawn, Sampling
from xpo_ray.generation.rows import Batch, Request
from xpo_ray.generation.sides import drawn_apart
from xpo_ray.generation.ways import Way, Ways

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_ROWS = 128
"""Rows of a batch: more of them draw hardly more tokens per second on a CPU."""
CACHE_BYTES = 2**31
"""Memory of a batch's keys, values and states, which bounds its rows where sequences are long or the model is large."""
GPU_ROWS, GPU_SHARE = 512, 1 / 3
"""The same on a GPU, where a step reads all weights for however many rows: the share is of the memory that is free there, for
when rows join, the cache is there twice for a moment."""
REBUILD_BELOW = 0.75
"""Rows that have ended leave when fewer than this share of the batch live: copying the cache has a price too."""


class TransformersEngine:
    """Draws from a transformers model on the device where it lies."""

    def __init__(self, model: "PreTrainedModel", eos_ids: Sequence[int]) -> None:
        self.model = model
        self.eos_ids = tuple(eos_ids)
        self._ways = Ways.of(model)

    @torch.inference_mode()
    def draw(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling) -> list[Drawn]:
        """One completion per prompt and seed; EOS is looked for in the completion alone, and kept in its ids."""
        if not prompts:
            return []
        numbers = uniforms(seeds, sampling.max_new_tokens)
        return drawn_apart(self.model, prompts, numbers, sampling, self._drawn_together)

    def _drawn_together(self, prompts: Sequence[Sequence[int]], uniforms_RT: Tensor, sampling: Sampling) -> list[Drawn]:
        order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
        waiting = [Request(i, prompts[i]) for i in order]
        most, way = self._most_rows(len(waiting[0].prompt_ids) + sampling.max_new_tokens), self._ways.way
        drawing = _Drawing(way, self.model.device, self.eos_ids, sampling, uniforms_RT)
        rows: Batch | None = None
        while waiting or rows is not None:
            if rows is None or rows.living < REBUILD_BELOW * (most if waiting and way.joins else len(rows)):
                free = most - (0 if rows is None else rows.living)
                joining = way.joining(waiting[:free], rows)
                rows, waiting = drawing.rebuilt(rows, joining), waiting[len(joining) :]
            if rows is not None:
                drawing.step(rows)
                rows = rows if rows.living else None
        return drawing.drawn()

    def _most_rows(self, positions: int) -> int:
        """Rows whose caches fit into the memory for them."""
        each = self._ways.row_bytes(positions)
        device = self.model.device
        if device.type == "cuda":
            return max(min(GPU_ROWS, int(GPU_SHARE * free_bytes(device)) // each), 1)
        return max(min(MOST_ROWS, CACHE_BYTES // each), 1)


class _Drawing:
    """One call of `draw`: what each request has drawn so far."""

    def __init__(
        self, way: Way, device: torch.device, eos_ids: Sequence[int], sampling: Sampling, uniforms_RT: Tensor
    ) -> None:
        self.way = way
        self.sampling = sampling
        self.uniforms_RT = uniforms_RT.to(device)
        self.eos = torch.tensor(eos_ids, dtype=torch.long, device=device)
        self.tokens_RT = torch.zeros(uniforms_RT.shape, dtype=torch.long, device=device)
        self.length_R = torch.zeros(len(uniforms_RT), dtype=torch.long, device=device)

    def rebuilt(self, rows: Batch | None, joining: Sequence[Request]) -> Batch | None:
        """The living rows and new ones, which have drawn their first token."""
        new = None
        if joining:
            new, logits_BV = self.way.begun(joining, self.sampling.max_new_tokens)
            self._take(new, logits_BV)
        both = [r for r in (rows, new) if r is not None and r.living]
        return self.way.together(both) if both else None

    def step(self, rows: Batch) -> None:
        """One token more for each row."""
        self._take(rows, rows.next_logits())

    def drawn(self) -> list[Drawn]:
        lengths = self.length_R.tolist()
        ends = set(self.eos.tolist())
        ids = [tuple(t[:n]) for t, n in zip(self.tokens_RT.tolist(), lengths, strict=True)]
        return [Drawn(i, i[-1] in ends) for i in ids]

    def _take(self, rows: Batch, logits_BV: Tensor) -> None:
        """Pick the next token of each row, and note which rows have ended."""
        place_B = rows.drawn_B.clamp(
            max=self.sampling.max_new_tokens - 1
        )  # rows that have ended go on until they leave
        may_end = rows.least_drawn >= self.sampling.min_new_tokens
        if not may_end:
            early_B = rows.drawn_B < self.sampling.min_new_tokens
            logits_BV[:, self.eos] = logits_BV[:, self.eos].masked_fill(early_B[:, None], -torch.inf)
        next_B = pick(logits_BV, self.uniforms_RT[rows.request_B, place_B], self.sampling)
        own = slice(None) if rows.living == len(rows) else rows.alive_B
        self.tokens_RT[rows.request_B[own], place_B[own]] = next_B[own]
        self.length_R[rows.request_B[own]] = place_B[own] + 1
        ended_B = rows.drawn_B + 1 >= self.sampling.max_new_tokens
        rows.advance(next_B, ended_B | torch.isin(next_B, self.eos))


def uniforms(seeds: Sequence[int], tokens: int) -> Tensor:
    """Uniform numbers in [0, 1), [row, token], each row from its own seed by a counter-based generator."""
    rows = [np.random.Generator(np.random.Philox(key=seed)).random(tokens) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def pick(logits_BV: Tensor, uniform_B: Tensor, sampling: Sampling) -> Tensor:
    """The next token of each row: the best one at temperature 0, else the uniform number's place in the cumulative
    distribution after temperature, top-k and top-p."""
    if sampling.temperature == 0.0:
        return logits_BV.argmax(-1)
    probs_BV = torch.softmax(logits_BV.double() / sampling.temperature, dim=-1)
    if sampling.top_k is not None and sampling.top_k < probs_BV.shape[-1]:
        least_B = probs_BV.topk(sampling.top_k, dim=-1).values[:, -1:]
        probs_BV = probs_BV.masked_fill(probs_BV < least_B, 0.0)
    if sampling.top_p < 1.0:
        probs_BV = _nucleus(probs_BV, sampling.top_p)
    cumulative_BV = probs_BV.cumsum(-1)
    target_B1 = uniform_B.unsqueeze(-1) * cumulative_BV[:, -1:]
    return torch.searchsorted(cumulative_BV, target_B1, right=True).squeeze(-1).clamp(max=probs_BV.shape[-1] - 1)


def _nucleus(probs_BV: Tensor, top_p: float) -> Tensor:
    """Keep the likeliest tokens that together reach top_p (of what is left after top-k)."""
    ordered_BV, index_BV = probs_BV.sort(dim=-1, descending=True, stable=True)
    share_BV = ordered_BV.cumsum(-1) / ordered_BV.sum(-1, keepdim=True)
    ordered_BV = ordered_BV.masked_fill(share_BV - ordered_BV / ordered_BV.sum(-1, keepdim=True) >= top_p, 0.0)
    return torch.zeros_like(probs_BV).scatter(-1, index_BV, ordered_BV)
