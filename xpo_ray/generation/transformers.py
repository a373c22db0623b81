"""The transformers engine: one batch, one decode loop, one random stream per row.

Every row draws with its own uniform numbers (one per token, from its seed), so a draw does not depend on its neighbours but
for rounding. Rows that have ended leave the batch and its cache, and stop costing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from xpo_ray.generation.engine import Drawn, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

COMPACT_BELOW = 0.75
"""The batch is cut down to its living rows when fewer than this share of it live: copying the cache has a price too."""


class TransformersEngine:
    """Draws from a transformers model on the device where it lies."""

    def __init__(self, model: "PreTrainedModel", eos_ids: Sequence[int]) -> None:
        self.model = model
        self.eos_ids = tuple(eos_ids)

    @torch.inference_mode()
    def draw(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling) -> list[Drawn]:
        """One completion per prompt and seed; EOS is looked for in the completion alone, and kept in its ids."""
        if not prompts:
            return []
        device = self.model.device
        batch = _Batch.of(prompts, seeds, sampling, device)
        tokens: list[list[int]] = [[] for _ in prompts]
        eos = torch.tensor(self.eos_ids, dtype=torch.long, device=device)
        for step in range(sampling.max_new_tokens):
            logits_BV = self._forward(batch, step)
            if step < sampling.min_new_tokens:
                logits_BV[:, eos] = -torch.inf
            next_B = pick(logits_BV, batch.uniforms_BT[:, step], sampling)
            for row, alive, token in zip(batch.rows, batch.alive_B.tolist(), next_B.tolist(), strict=True):
                if alive:
                    tokens[row].append(token)
            batch.alive_B &= ~torch.isin(next_B, eos)
            living = int(batch.alive_B.sum())
            if living == 0:
                break
            batch.last_B = next_B
            if living < COMPACT_BELOW * len(batch.rows):
                batch.compact()
        return [Drawn(tuple(t), t[-1] in self.eos_ids) for t in tokens]

    def _forward(self, batch: "_Batch", step: int) -> Tensor:
        """Next-token logits [B, V] in float32; the first pass reads the prompts, later ones one token per row."""
        width = batch.prompt_width + step
        if step == 0:
            ids, positions = batch.prompt_BP, (batch.mask_BW[:, :width].cumsum(-1) - 1).clamp(min=0)
        else:
            ids, positions = batch.last_B.unsqueeze(-1), batch.positions_B.unsqueeze(-1) + (step - 1)
        out = self.model(
            input_ids=ids,
            attention_mask=batch.mask_BW[:, :width],
            position_ids=positions,
            past_key_values=batch.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = out.logits[:, -1].float()
        return logits


@dataclass
class _Batch:
    """The rows that are still drawn: B rows, prompts padded on the left to P, W = P + max_new_tokens."""

    rows: list[int]
    prompt_BP: Tensor
    mask_BW: Tensor
    positions_B: Tensor
    uniforms_BT: Tensor
    alive_B: Tensor
    last_B: Tensor
    cache: DynamicCache

    @property
    def prompt_width(self) -> int:
        return self.prompt_BP.shape[1]

    @classmethod
    def of(
        cls, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling, device: torch.device
    ) -> "_Batch":
        width = max(len(p) for p in prompts)
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        mask = torch.ones(len(prompts), width + sampling.max_new_tokens, dtype=torch.long)
        for i, prompt in enumerate(prompts):
            ids[i, width - len(prompt) :] = torch.as_tensor(prompt, dtype=torch.long)
            mask[i, : width - len(prompt)] = 0
        lengths = torch.tensor([len(p) for p in prompts])
        return cls(
            rows=list(range(len(prompts))),
            prompt_BP=ids.to(device),
            mask_BW=mask.to(device),
            positions_B=lengths.to(device),
            uniforms_BT=uniforms(seeds, sampling.max_new_tokens).to(device),
            alive_B=torch.ones(len(prompts), dtype=torch.bool, device=device),
            last_B=lengths.to(device),
            cache=DynamicCache(),
        )

    def compact(self) -> None:
        """Leave only the living rows."""
        keep = self.alive_B.nonzero().squeeze(-1)
        self.rows = [self.rows[i] for i in keep.tolist()]
        self.cache.batch_select_indices(keep)
        for name in ("mask_BW", "positions_B", "uniforms_BT", "alive_B", "last_B", "prompt_BP"):
            setattr(self, name, getattr(self, name)[keep])


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
